"""`process_video` end to end: films in, films out, read back frame by frame."""

from __future__ import annotations

import threading
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("av")

from PIL import Image

import birefnet
from birefnet.imaging.io import decode, decode_frames, encode_animation
from birefnet.video import Progress, VideoCancelled, process_video, read_mattes, video_info
from birefnet.video.colour import BT601, BT709, ColourSpace
from birefnet.weights import bundled_names
from video.clips import HEIGHT, WIDTH, fake_predictor, moving_disc, read_film, write_clip

IRREGULAR = [0, 1001, 2002, 5005, 5105, 9000, 9500, 12000, 20000, 20100]
"""Time stamps of a camera that drops frames, in 1/30000 s."""


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "clip.mp4", sound="aac")


def make(source: Path, output: Path, **options: Any) -> Any:
    return process_video(source, output, predictor=fake_predictor(), **options)


def quadrants(number: int = 0, *, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """Red, green above blue, white: tells any turn or mirroring, and carries strong colours."""
    picture = np.empty((height, width, 3), np.uint8)
    top, left = height // 2, width // 2
    picture[:top, :left], picture[:top, left:] = (200, 30, 40), (20, 180, 60)
    picture[top:, :left], picture[top:, left:] = (30, 50, 210), (250, 250, 250)
    return picture


@pytest.mark.parametrize("suffix", [".mov", ".webm"])
def test_alpha_survives(clip: Path, tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"out{suffix}"
    result = make(clip, out)
    film = read_film(out)
    mattes = [matte for _, matte in read_mattes(clip, predictor=fake_predictor())]
    assert result.frames == len(film.pixels) == len(mattes) == 12
    for alpha, matte in zip(film.alphas, mattes, strict=True):
        difference = np.abs(alpha.astype(float) - 255 * matte.alpha)
        assert difference.mean() < (0.5 if suffix == ".mov" else 2)
        assert difference.max() < (3 if suffix == ".mov" else 60)
    inside = film.alphas[0] > 250
    assert np.abs(film.pixels[0][inside][:, :3].mean(axis=0) - [250, 240, 230]).max() < 4
    assert not list(tmp_path.glob("*.parts"))


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".webm"])
def test_irregular_times_are_kept(tmp_path: Path, suffix: str) -> None:
    clip = write_clip(
        tmp_path / "a.mp4",
        pts=IRREGULAR,
        time_base=Fraction(1, 30000),
        options={"bf": "0"},  # with B-frames FFmpeg's own file would lose its last frame
    )
    out = tmp_path / f"out{suffix}"
    make(clip, out, kind="green")
    film = read_film(out)
    times = [stamp * Fraction(1, 30000) for stamp in IRREGULAR]
    if suffix == ".webm":  # counts milliseconds
        times = [Fraction(round(1000 * time), 1000) for time in times]
    assert film.times == times
    assert film.seconds == pytest.approx(read_film(clip).seconds, abs=0.05)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".webm"])
@pytest.mark.parametrize("segment_frames", [240, 5])
def test_frames_and_sound_keep_their_length(
    clip: Path, tmp_path: Path, suffix: str, segment_frames: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many segments it is made of."""
    monkeypatch.setattr("birefnet.video.pipeline.SEGMENT_FRAMES", segment_frames)
    out = tmp_path / f"out{suffix}"
    make(clip, out, kind="white")
    before, after = read_film(clip), read_film(out)
    assert len(after.pixels) == len(before.pixels)
    if suffix == ".webm":
        assert after.sound == pytest.approx(before.sound, abs=0.03)
        assert after.times == [Fraction(round(1000 * time), 1000) for time in before.times]
    else:
        assert after.sound == before.sound
        assert after.times == before.times
    assert after.seconds == pytest.approx(before.seconds, abs=0.03)


@pytest.mark.parametrize(
    ("encoder", "name"),
    [("aac", "AAC"), ("libopus", "Opus"), ("pcm_s16le", "PCM"), ("flac", "FLAC"), ("ac3", "AC-3")],
)
def test_it_says_how_the_sound_changed(encoder: str, name: str, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mkv", frames=4, sound=encoder)
    changed = {
        title: f"the sound was re-encoded as {new}, because {title} cannot hold {name}"
        for title, new, copied in (
            ("MP4", "AAC", ("AAC", "Opus", "FLAC", "AC-3")),
            ("MOV", "AAC", ("AAC", "PCM", "AC-3")),
            ("WebM", "Opus", ("Opus",)),
        )
        if name not in copied
    }
    for title in ("MP4", "MOV", "WebM"):
        result = make(clip, tmp_path / f"out.{title.lower()}", kind="white")
        assert result.notes == ([changed[title]] if title in changed else [])


def test_several_tracks_of_sound(tmp_path: Path) -> None:
    """Opus is copied into WebM, and both tracks are there; without sound there is none."""
    clip = write_clip(tmp_path / "a.webm", codec="libvpx-vp9", sound="libopus", tracks=2)
    result = make(clip, tmp_path / "out.webm")
    assert read_film(tmp_path / "out.webm").sound == read_film(clip).sound
    assert len(read_film(clip).sound) == 2
    assert result.notes == []
    make(clip, tmp_path / "silent.webm", audio=False)
    assert read_film(tmp_path / "silent.webm").sound == []


def test_start_and_end_cut_the_sound_as_well(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mp4", frames=48, sound="aac")
    make(clip, tmp_path / "out.mp4", kind="green", start=0.5, end="1.25")
    film = read_film(tmp_path / "out.mp4")
    assert film.times == [Fraction(number, 24) for number in range(18)]
    assert film.sound[0] == pytest.approx(0.75, abs=0.05)
    whole = read_film(clip)
    make(clip, tmp_path / "part.mov", kind="foreground", refine=False, start="12f", end="30f")
    part = read_film(tmp_path / "part.mov")
    assert len(part.pixels) == 18
    assert np.abs(part.pixels[0].astype(int) - whole.pixels[12]).mean() < 1


def test_stride_keeps_the_speed(clip: Path, tmp_path: Path) -> None:
    make(clip, tmp_path / "out.mp4", kind="green", stride=3)
    film = read_film(tmp_path / "out.mp4")
    assert film.times == [Fraction(number, 24) for number in (0, 3, 6, 9)]
    assert film.seconds == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_rotation_is_applied(tmp_path: Path, degrees: int, mirrored: bool) -> None:
    """As FFmpeg's own `av_display_rotation_set` and `av_display_matrix_flip` define it."""
    clip = write_clip(tmp_path / "a.mp4", frames=2, picture=quadrants, turn=(degrees, mirrored))
    info = video_info(clip)
    assert (info.width, info.height) == ((WIDTH, HEIGHT) if degrees % 180 == 0 else (HEIGHT, WIDTH))
    make(clip, tmp_path / "out.mov", kind="foreground", refine=False)
    (shown, _) = read_film(tmp_path / "out.mov").pixels
    expected = np.rot90(quadrants(), degrees // 90)  # both turn counter-clockwise
    if mirrored:
        expected = expected[:, ::-1]
    inner = slice(8, 24), slice(8, 24)
    assert shown.shape == expected.shape
    for rows in (1, -1):
        for columns in (1, -1):
            corner = shown[::rows, ::columns][inner].mean(axis=(0, 1))
            assert np.abs(corner - expected[::rows, ::columns][inner].mean(axis=(0, 1))).max() < 12


@pytest.mark.parametrize("matrix", [BT601, BT709, 9])
@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".mov"])
def test_colours_come_back(tmp_path: Path, matrix: int, full_range: bool, suffix: str) -> None:
    """Tags go along, and colours agree whatever they were coded with."""
    colour = ColourSpace(matrix, full_range, primaries=matrix, transfer=1)
    clip = write_clip(tmp_path / "a.mp4", frames=2, picture=quadrants, colour=colour)
    make(clip, tmp_path / f"out{suffix}", kind="foreground", refine=False, quality="maximum")
    film = read_film(tmp_path / f"out{suffix}")
    assert film.colour.matrix == matrix
    assert film.colour.full_range == (full_range and suffix != ".mov")
    for rows in (1, -1):
        for columns in (1, -1):
            inner = film.pixels[0][::rows, ::columns][6:20, 6:20].mean(axis=(0, 1))
            wanted = quadrants()[::rows, ::columns][6, 6]
            assert np.abs(inner - wanted).max() < 5


def test_untagged_video_is_taken_for_its_size(tmp_path: Path) -> None:
    assert video_info(write_clip(tmp_path / "a.mp4", frames=1)).colour.matrix == BT601
    large = write_clip(
        tmp_path / "b.mp4", frames=1, picture=lambda _: np.zeros((16, 1280, 3), np.uint8)
    )
    assert video_info(large).colour.matrix == BT709


def test_ten_bits_stay_ten_bits(tmp_path: Path) -> None:
    """A slow ramp keeps more than 256 steps in ProRes."""
    ramp = np.linspace(20000, 30000, 640).astype(np.uint16)
    picture = np.repeat(np.tile(ramp, (32, 1))[..., None], 3, axis=2)
    clip = write_clip(
        tmp_path / "a.mov",
        frames=2,
        picture=lambda _: picture,
        codec="prores_ks",
        pixel_format="yuv444p10le",
        options={"profile": "4444"},
    )
    assert video_info(clip).bits == 16
    make(clip, tmp_path / "out.mov", kind="foreground", refine=False)
    frames = [
        f.picture.pixels for f, _ in read_mattes(tmp_path / "out.mov", predictor=fake_predictor())
    ]
    assert len(np.unique(frames[0][16, :, 1])) > 80  # 8 bits would leave 39
    assert np.abs(frames[0].astype(int) - picture).mean() < 100


def test_odd_sizes(tmp_path: Path) -> None:
    def odd(number: int) -> np.ndarray:
        return moving_disc(number, width=65, height=47)

    clip = write_clip(
        tmp_path / "a.mov", frames=3, picture=odd, codec="prores_ks", pixel_format="yuv444p10le"
    )
    result = make(clip, tmp_path / "out.mp4", kind="green", mask_output=tmp_path / "mask.mov")
    assert read_film(tmp_path / "out.mp4").pixels[0].shape == (48, 66, 3)
    assert result.notes == [
        "the frames are 66 x 48 pixels instead of 65 x 47, because H.264 needs even numbers: "
        "the last row or column is there twice"
    ]
    assert read_film(tmp_path / "mask.mov").pixels[0].shape == (47, 65, 3)
    for suffix in (".webm", ".mov"):
        assert make(clip, tmp_path / f"out{suffix}").notes == []
        assert read_film(tmp_path / f"out{suffix}").pixels[0].shape == (47, 65, 4)


@pytest.mark.parametrize(
    ("suffix", "title"), [(".gif", "GIF"), (".webp", "WebP"), (".apng", "APNG")]
)
def test_animations(clip: Path, tmp_path: Path, suffix: str, title: str) -> None:
    result = make(clip, tmp_path / f"out{suffix}", stride=2)
    pictures = list(decode_frames(tmp_path / f"out{suffix}"))
    assert len(pictures) == 6
    assert sum(picture.duration_ms or 0 for picture in pictures) == pytest.approx(500, abs=10)
    disc = moving_disc(0)[..., 0] > 128
    assert pictures[0].alpha is not None
    assert np.abs(pictures[0].alpha - disc).mean() < 0.03
    assert result.notes == [f"the sound was left out, because {title} has none"]
    # And back: an animation with alpha is a source, too.
    make(tmp_path / f"out{suffix}", tmp_path / "back.mov")
    film = read_film(tmp_path / "back.mov")
    assert len(film.pixels) == 6
    assert float(film.times[3]) == pytest.approx(0.25, abs=0.011)
    assert np.abs(film.alphas[0] / 255 - disc).mean() < 0.05


@pytest.mark.parametrize("plays", [0, 1, 3])
def test_animations_end_when_theirs_do(tmp_path: Path, plays: int) -> None:
    frames = [(moving_disc(number), None, 100) for number in range(3)]
    (tmp_path / "in.webp").write_bytes(encode_animation(frames, format="webp", loop=plays))
    for suffix in (".gif", ".webp", ".apng"):
        make(tmp_path / "in.webp", tmp_path / f"out{suffix}")
        assert decode(tmp_path / f"out{suffix}").plays == plays


def test_pictures_in_and_out(clip: Path, tmp_path: Path) -> None:
    make(clip, f"{tmp_path}/frames/")
    names = sorted(path.name for path in (tmp_path / "frames").glob("*.png"))
    assert names == [f"{number:06d}.png" for number in range(1, 13)]
    picture = decode(tmp_path / "frames" / "000001.png")
    assert picture.alpha is not None
    times = (tmp_path / "frames" / "timestamps.txt").read_text().splitlines()
    assert times[0] == "# timestamp format v2"
    assert [float(line) for line in times[1:]] == pytest.approx(
        [1000 * number / 24 for number in range(13)], abs=1e-5
    )
    make(clip, tmp_path / "p" / "shot-%04d.png", kind="mask", end="3f")
    assert len(list((tmp_path / "p").glob("shot-000?.png"))) == 3
    make(tmp_path / "frames", tmp_path / "again.mov", rate=12)
    film = read_film(tmp_path / "again.mov")
    assert film.times == [Fraction(number, 12) for number in range(12)]
    assert np.abs(film.alphas[5] / 255 - decode(tmp_path / "frames/000006.png").alpha).mean() < 0.01


def test_mask_beside_the_result(clip: Path, tmp_path: Path) -> None:
    result = make(clip, tmp_path / "out.mp4", kind="green", mask_output=tmp_path / "mask.mp4")
    assert result.outputs == [tmp_path / "out.mp4", tmp_path / "mask.mp4"]
    mask, green = read_film(tmp_path / "mask.mp4"), read_film(tmp_path / "out.mp4")
    disc = moving_disc(11)[..., 0] > 128
    assert np.abs(mask.pixels[11][..., 0] / 255 - disc).mean() < 0.05
    assert np.abs(mask.pixels[11].astype(int) - mask.pixels[11][..., :1]).max() <= 2  # grey
    corner = green.pixels[5][-12:, -12:].reshape(-1, 3).mean(axis=0)
    assert np.abs(corner - [0, 255, 0]).max() < 6
    assert mask.sound == []


def test_backgrounds(clip: Path, tmp_path: Path) -> None:
    """A colour, a picture, and a film that is shorter and begins again."""
    make(clip, tmp_path / "a.mp4", background="#3366cc")
    Image.fromarray(quadrants(width=30, height=20)).save(tmp_path / "ground.png")
    make(clip, tmp_path / "b.mp4", background=str(tmp_path / "ground.png"))
    film = write_clip(
        tmp_path / "ground.mp4",
        frames=4,
        picture=lambda number: np.full((HEIGHT, WIDTH, 3), 60 * number, np.uint8),
    )
    make(clip, tmp_path / "c.mp4", background=str(film))

    def corner(name: str, number: int = 0) -> np.ndarray:
        return read_film(tmp_path / name).pixels[number][-12:, -12:].reshape(-1, 3).mean(axis=0)

    assert np.abs(corner("a.mp4") - [0x33, 0x66, 0xCC]).max() < 6
    assert np.abs(corner("b.mp4") - 250).max() < 6
    shades = [corner("c.mp4", number).mean() for number in range(12)]
    assert np.abs(np.array(shades) - [60 * (number % 4) for number in range(12)]).max() < 6
    make(clip, tmp_path / "d.mp4", background=str(film), start="3f", end="6f")
    assert corner("d.mp4", 0).mean() < 6  # it begins where the clip begins


def test_quality_and_preset(clip: Path, tmp_path: Path) -> None:
    """More quality takes more space and comes nearer."""
    for suffix in (".mp4", ".webm", ".mov", ".webp"):
        sizes = []
        for quality in ("low", "high", "maximum"):
            out = tmp_path / f"{quality}{suffix}"
            make(clip, out, kind="blur" if suffix == ".mp4" else "cutout", quality=quality, end=0.2)
            sizes.append(out.stat().st_size)
        assert sizes == sorted(sizes), suffix
        assert sizes[0] < sizes[-1], suffix
    make(clip, tmp_path / "fast.webm", preset="fast", crf=60, end=0.2)
    assert (tmp_path / "fast.webm").stat().st_size < (tmp_path / "high.webm").stat().st_size


def test_progress_and_cancel(clip: Path, tmp_path: Path) -> None:
    cancel = threading.Event()
    seen: list[Progress] = []

    def watch(progress: Progress) -> None:
        seen.append(progress)
        if progress.frames == 5:
            cancel.set()

    with pytest.raises(VideoCancelled, match="stopped after 5 frames; kept in"):
        make(clip, tmp_path / "out.mov", progress=watch, cancel=cancel)
    assert not (tmp_path / "out.mov").exists()
    assert [progress.frames for progress in seen] == [1, 2, 3, 4, 5]
    assert seen[-1].total == 12
    assert seen[-1].seconds_left is not None
    assert seen[-1].rate > 0
    result = make(clip, tmp_path / "out.mov", resume=True)
    assert (result.frames, result.resumed) == (12, 5)
    assert len(read_film(tmp_path / "out.mov").pixels) == 12


def test_the_bundled_model(tmp_path: Path) -> None:
    if "nano" not in bundled_names():
        pytest.skip("no bundled model")
    picture = moving_disc(0, width=128, height=128)
    clip = write_clip(tmp_path / "a.mp4", frames=2, picture=lambda _: picture)
    predictor = birefnet.load("nano", device="cpu")
    process_video(clip, tmp_path / "out.webm", predictor=predictor, resolution=128, stabilise=True)
    film = read_film(tmp_path / "out.webm")
    wanted = predictor.predict(read_film(clip).pixels[0], resolution=128).alpha
    assert np.abs(film.alphas[0] / 255 - wanted).mean() < 0.03
