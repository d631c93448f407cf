"""What goes wrong is said in one sentence, and what was finished plays."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("av")

import av

import birefnet
from birefnet.errors import BiRefNetError, DeviceError, MissingExtraError
from birefnet.inference.predictor import Predictor
from birefnet.video import VideoError, process_video, read_mattes, video_info
from fakes import PLAIN
from video.clips import fake_predictor, moving_disc, read_film, write_clip


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "clip.mp4", frames=24)


def make(source: Path | str, output: Path | str, **options: Any) -> Any:
    return process_video(source, output, predictor=fake_predictor(), **options)


def refused(message: str, source: Path | str, output: Path | str, **options: Any) -> None:
    """One sentence, and nothing is written."""
    with pytest.raises(BiRefNetError, match=message) as caught:
        make(source, output, **options)
    assert "\n" not in str(caught.value)
    assert not Path(output).exists()
    assert not Path(f"{output}.parts").exists()


def test_no_video(tmp_path: Path) -> None:
    out = tmp_path / "out.webm"
    refused("there is no file", tmp_path / "missing.mp4", out)
    (tmp_path / "text.mp4").write_text("hello, this is not a film at all\n" * 50)
    refused("is not a video that FFmpeg can read", tmp_path / "text.mp4", out)
    (tmp_path / "empty.mp4").touch()
    refused("is not a video that FFmpeg can read", tmp_path / "empty.mp4", out)
    Image.new("RGB", (20, 20)).save(tmp_path / "still.jpg")
    refused("is a still picture; `birefnet remove` is for those", tmp_path / "still.jpg", out)
    (tmp_path / "folder").mkdir()
    refused("there are no pictures in", tmp_path / "folder", out)
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=48000)
        frame = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), "fltp", "stereo")
        frame.sample_rate = 48000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    refused("has no video stream, only sound", tmp_path / "sound.mp4", out)


@pytest.mark.parametrize("share", [0.3, 0.5, 0.7, 0.8, 0.9, 0.95])
def test_a_film_that_is_cut_off_is_not_called_a_sound(
    share: float, clip: Path, tmp_path: Path
) -> None:
    data = clip.read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: int(len(data) * share)])
    refused(
        "(is|it is) cut off|before its first frame", tmp_path / "cut.mp4", tmp_path / "out.webm"
    )


def test_no_frames(clip: Path, tmp_path: Path) -> None:
    """A header without frames, and a range that holds none."""
    with av.open(str(tmp_path / "none.mkv"), "w") as container:
        stream = container.add_stream("libx264", rate=24)
        stream.width = stream.height = 32
        container.start_encoding()
    refused("ends before its first frame", tmp_path / "none.mkv", tmp_path / "o.mov")
    refused("has no frames between start and end", clip, tmp_path / "o.mov", start=5)


def test_unknown_codec(clip: Path, tmp_path: Path) -> None:
    """A film that says to be coded with something that nobody knows."""
    data = clip.read_bytes()
    assert data.count(b"avc1") >= 1
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(data.replace(b"avc1", b"zzz9").replace(b"avcC", b"zzzC"))
    refused("(cannot decode|no frame that can be decoded)", broken, tmp_path / "o.mov")


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_a_film_that_breaks_off(tmp_path: Path, suffix: str) -> None:
    """What there is is written, plays, and the sentence says how much that is."""
    noise = np.random.default_rng(0)
    clip = write_clip(
        tmp_path / f"clip{suffix}",
        frames=48,
        picture=lambda n: moving_disc(n) // 2 + noise.integers(0, 99, (64, 96, 3), np.uint8),
        options={"crf": "20", "g": "12"},
        faststart=suffix == ".mp4",
        sound="aac",
    )
    whole = clip.read_bytes()
    clip.write_bytes(whole[: len(whole) * 6 // 10])
    out = tmp_path / "out.mp4"
    if suffix == ".ts":  # a broadcast may end anywhere, so nothing is missing
        make(clip, out, kind="green")
    else:
        with pytest.raises(VideoError, match=r"breaks off after .* the \d+ frames before that"):
            make(clip, out, kind="green")
    film = read_film(out)
    assert 10 < len(film.pixels) < 40
    assert not Path(f"{out}.parts").exists()


def test_damage_in_the_middle(tmp_path: Path) -> None:
    """Players go on behind it, and so does this; times stay right."""
    clip = write_clip(tmp_path / "a.mov", codec="prores_ks", pixel_format="yuv422p10le", options={})
    data = bytearray(clip.read_bytes())
    with av.open(str(clip)) as container:
        places = [packet.pos for packet in container.demux(video=0) if packet.size]
    data[places[5] + 4 : places[5] + 60] = bytes(56)
    clip.write_bytes(data)
    result = make(clip, tmp_path / "out.mov")
    assert result.notes == [f"{clip}: left out 1 damaged packet"]
    assert read_film(tmp_path / "out.mov").times == [
        Fraction(number, 24) for number in range(12) if number != 5
    ]


def test_size_changes_on_the_way(tmp_path: Path) -> None:
    for number, size in enumerate([(40, 30), (40, 30), (32, 30)]):
        Image.new("RGB", size).save(tmp_path / f"f{number}.png")
    with pytest.raises(VideoError, match=r"f2\.png is 32 x 30, the first frame 40 x 30"):
        make(str(tmp_path / "f*.png"), tmp_path / "out.mov")
    assert len(read_film(tmp_path / "out.mov").pixels) == 2


def test_outputs_that_cannot_be(clip: Path, tmp_path: Path, monkeypatch: Any) -> None:
    refused(
        "has no suffix of a video that can be written; give one of .mp4", clip, tmp_path / "o.xyz"
    )
    refused("is one picture; for all frames give a pattern", clip, tmp_path / "o.png")
    refused("MP4 cannot be transparent: give a background", clip, tmp_path / "o.mp4")
    refused("kind is 'sticker'", clip, tmp_path / "o.mp4", kind="sticker")
    refused("quality is 'good'; choose one of low", clip, tmp_path / "o.mov", quality="good")
    refused("preset is 'slow'; choose one of fast", clip, tmp_path / "o.mov", preset="slow")
    refused("ProRes 4444 has no rate factor", clip, tmp_path / "o.mov", crf=20)
    refused("crf is 60; H.264 takes 0", clip, tmp_path / "o.mp4", crf=60, kind="green")
    refused("neither a file nor a colour", clip, tmp_path / "o.mp4", background="bluish")
    refused("both be", clip, tmp_path / "o.mov", mask_output=tmp_path / "o.mov")
    refused("has a frame rate of its own", clip, tmp_path / "o.mov", rate=25)
    with pytest.raises(VideoError, match="is the input; give another output"):
        make(clip, clip, kind="green")
    with pytest.raises(VideoError, match="is the background; give another output"):
        make(clip, ground := write_clip(tmp_path / "ground.mp4"), background=str(ground))
    real = av.codec.Codec

    def lacking(name: str, mode: str = "r") -> Any:
        if name == "libvpx-vp9":
            raise ValueError(name)
        return real(name, mode)

    monkeypatch.setattr("av.codec.Codec", lacking)
    refused("this FFmpeg was built without libvpx-vp9, which VP9 needs", clip, tmp_path / "o.webm")


FULL_DISK = """if True:
    import resource, sys
    limit, clip, out, *paths = sys.argv[1:]
    sys.path[:0] = paths
    import birefnet.video.pipeline as pipeline
    from birefnet.video import VideoError, process_video
    from video.clips import fake_predictor
    pipeline.SEGMENT_FRAMES = 6
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
    try:
        process_video(clip, out, predictor=fake_predictor())
    except VideoError as error:
        print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")
@pytest.mark.parametrize("limit", [20_000, 90_000])
def test_full_disk(tmp_path: Path, limit: int) -> None:
    """In a segment, or when they are joined; as far as a limit on files can stand for a disk."""
    clip = write_clip(tmp_path / "clip.mp4", frames=24)
    out = tmp_path / "out.mov"
    paths = [str(Path(__file__).parents[1]), str(Path(birefnet.__file__).parents[1])]
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(limit), str(clip), str(out), *paths],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("no space is left to write")
    assert not out.exists()
    parts = tmp_path / "out.mov.parts"
    if limit == 90_000:
        assert len(read_film(parts / "000000.mov").pixels) == 6
        result = make(clip, out, resume=True)
        assert (result.frames, result.resumed) == (24, 24)
        assert len(read_film(out).pixels) == 24
    assert not list(tmp_path.glob("*.tmp"))


class FailingEngine:
    """Out of memory after some frames."""

    name = "failing"
    batch_size = 1

    def __init__(self) -> None:
        self.count = 0

    def infer(self, batch: np.ndarray) -> np.ndarray:
        self.count += 1
        if self.count > 5:
            raise DeviceError("the device ran out of memory")
        return batch.mean(axis=1, keepdims=True)


def test_the_network_fails(clip: Path, tmp_path: Path) -> None:
    predictor = Predictor(FailingEngine(), PLAIN)
    with pytest.raises(DeviceError, match="ran out of memory"):
        process_video(clip, tmp_path / "out.mov", predictor=predictor)
    assert not (tmp_path / "out.mov").exists()


def test_reading_stops_when_asked(clip: Path) -> None:
    """Whoever stops early leaves no thread behind."""
    import threading

    before = threading.active_count()
    mattes: Iterator[Any] = read_mattes(clip, predictor=fake_predictor())
    next(mattes)
    mattes.close()  # type: ignore[attr-defined]
    assert threading.active_count() <= before + 2  # the predictor's decoders end by themselves


def test_missing_extra(clip: Path, monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingExtraError, match=r"video needs the extra 'video': pip install"):
        video_info(clip)
