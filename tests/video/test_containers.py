"""Every container that comes, with everything that it can say of its frames, in every output."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("av")

import av
from PIL import Image

from birefnet.video import VideoError, process_video
from birefnet.video.aspect import display_size
from video.clips import fake_predictor, read_film, write_clip

CODECS = {
    "mp4": "libx264",
    "m4v": "libx264",
    "mov": "libx264",
    "3gp": "mpeg4",
    "mkv": "libx264",
    "webm": "libvpx",
    "avi": "mpeg4",
    "ts": "libx264",
    "flv": "flv1",
    "wmv": "msmpeg4",
    "mpg": "mpeg2video",
    "mxf": "mpeg2video",
    "nut": "mpeg4",
}
"""Container to a codec that it takes."""
TURNED = {"mp4", "m4v", "mov", "3gp", "mkv", "webm"}  # which can say that they are to be turned
SQUEEZED = set(CODECS) - {"flv", "webm"}  # which FFmpeg can be made to write a pixel aspect into
SOUND = {"mp4": "aac", "mov": "aac", "mkv": "aac", "webm": "libopus", "ts": "aac"}
UNIT = Fraction(1, 25)
EVEN = range(6)
STAMPS = {
    "late": range(12, 18),
    "late behind the sound": range(12, 18),
    "variable rate": [0, 1, 3, 4, 8, 10],
}


@dataclass(frozen=True)
class Shown:
    """What FFmpeg alone reads of a film.

    Attributes:
        times: of the frames, from the earliest moment of the file [s].
        seconds: what the file says to last.
        first: the pixels of the first frame.
    """

    times: list[float]
    size: tuple[int, int]
    aspect: Fraction
    turn: int
    seconds: float
    first: NDArray[np.uint8]


def shown(path: Path) -> Shown:
    with av.open(str(path)) as container:
        stream: Any = container.streams.video[0]
        frames = list(container.decode(stream))
        begin = max(0, container.start_time) / 1_000_000
        return Shown(
            [float(frame.pts * stream.time_base) - begin for frame in frames],
            (frames[0].width, frames[0].height),
            stream.sample_aspect_ratio or Fraction(1),
            frames[0].rotation,
            container.duration / 1_000_000 - begin,
            frames[0].to_ndarray(format="rgb24"),
        )


def lowering(number: int) -> NDArray[np.uint8]:
    """Bright above, dark below; the border sinks."""
    picture = np.full((64, 96, 3), 30, np.uint8)
    picture[: 28 + number] = 230
    return picture


def given(folder: Path, suffix: str, what: str) -> Path:
    """A film in this container with one of its peculiarities."""
    return write_clip(
        folder / f"in.{suffix}",
        pts=STAMPS.get(what, EVEN),
        time_base=UNIT,
        picture=lowering,
        codec=CODECS[suffix],
        options={},
        turn=(90, False) if what == "turned" else None,
        pixel_aspect=Fraction(4, 3) if what == "pixel aspect" else None,
        sound=SOUND[suffix] if what == "late behind the sound" else None,
    )


def cases() -> list[tuple[str, str]]:
    found = [(suffix, what) for suffix in CODECS for what in ("plain", "late", "variable rate")]
    found += [(suffix, "pixel aspect") for suffix in sorted(SQUEEZED)]
    found += [(suffix, "turned") for suffix in sorted(TURNED)]
    return found + [(suffix, "late behind the sound") for suffix in SOUND]


@pytest.mark.parametrize("output", ["mp4", "mov", "webm"])
@pytest.mark.parametrize(("suffix", "what"), cases())
def test_films_keep_all(suffix: str, what: str, output: str, tmp_path: Path) -> None:
    clip = given(tmp_path, suffix, what)
    out = tmp_path / f"out.{output}"
    result = process_video(clip, out, predictor=fake_predictor(), kind="green")
    before, after = shown(clip), shown(out)
    assert (before.turn != 0, before.aspect != 1) == (what == "turned", what == "pixel aspect")
    assert result.frames == len(before.times) >= len(EVEN) - 1  # the MXF of FFmpeg lacks one
    assert after.times == pytest.approx(before.times, abs=0.0006)
    assert after.seconds > after.times[-1] + 0.03
    is_turned = before.turn % 180 != 0
    assert after.size == (before.size[::-1] if is_turned else before.size)
    assert after.turn == 0
    aspect = 1 / before.aspect if is_turned else before.aspect
    assert after.aspect == pytest.approx(aspect, rel=0.005)  # WebM counts whole pixels
    bright = after.first[..., 0] > 128
    assert bright[:, :24].all() if is_turned else bright[:24].all()
    assert bright.mean() < 0.6
    assert not result.notes or what == "late behind the sound"


@pytest.mark.parametrize("output", ["gif", "webp", "apng", "png"])
@pytest.mark.parametrize("what", ["plain", *STAMPS, "pixel aspect", "turned"])
def test_animations_keep_what_they_can(what: str, output: str, tmp_path: Path) -> None:
    """And say what they cannot."""
    clip = given(tmp_path, "mkv", what)
    before = shown(clip)
    out = tmp_path / "out" / ("%03d.png" if output == "png" else f"out.{output}")
    result = process_video(clip, out, predictor=fake_predictor(), kind="green")
    assert any("only square pixels" in note for note in result.notes) == (before.aspect != 1)
    assert any("sound was left out" in note for note in result.notes) == ("sound" in what)
    if output == "png":
        times = (out.parent / "timestamps.txt").read_text().split()[4:-1]
        assert [float(time) / 1000 for time in times] == pytest.approx(before.times, abs=0.0006)
        out = out.with_name("001.png")
    with Image.open(out) as picture:
        assert picture.size == (before.size[::-1] if before.turn else before.size)
        milliseconds = []
        for number in range(getattr(picture, "n_frames", 1)):
            picture.seek(number)
            picture.load()
            milliseconds.append(picture.info.get("duration", 0))
    if output != "png":
        lengths = [1000 * (b - a) for a, b in pairwise(before.times)]
        assert milliseconds[:-1] == pytest.approx(lengths, abs=1)


@pytest.mark.parametrize("suffix", ["mkv", "webm", "mp4"])
def test_a_late_film_that_breaks_off(suffix: str, tmp_path: Path) -> None:
    """Damage is still seen, and every frame that is there is written."""
    stamps = range(12, 72)
    clip = tmp_path / f"in.{suffix}"
    noise = np.random.default_rng(0)
    write_clip(
        clip,
        pts=stamps,
        time_base=UNIT,
        picture=lambda _: noise.integers(0, 255, (64, 96, 3), np.uint8),
        codec=CODECS[suffix],
        options={"g": "5"},
        faststart=True,
    )
    data = clip.read_bytes()
    clip.write_bytes(data[: len(data) * 6 // 10])
    there = 0
    with av.open(str(clip)) as container, suppress(av.FFmpegError):
        for _ in container.decode(video=0):
            there += 1
    with pytest.raises(VideoError, match=rf"breaks off after .* the {there} frames before that"):
        process_video(clip, tmp_path / "out.mp4", predictor=fake_predictor(), kind="green")
    assert len(read_film(tmp_path / "out.mp4").pixels) == there > 20


def test_names_that_are_no_unicode(tmp_path: Path) -> None:
    clip, out = (tmp_path / f"\udcff:{suffix}" for suffix in ("in.mp4", "out.webm"))
    write_clip(tmp_path / "in.mp4", frames=2).rename(clip)
    process_video(clip, out, predictor=fake_predictor())
    assert out.is_file()


def test_lengths_as_mkvmerge_counts_them(tmp_path: Path) -> None:
    """Its statistics say the length, not the end: a late film of 0.24 s that says so is whole."""
    clip = write_clip(tmp_path / "in.mkv", pts=range(12, 18), time_base=UNIT)
    data = clip.read_bytes()
    said = b"00:00:00.720000000"
    assert data.count(said) == 1
    clip.write_bytes(data.replace(said, b"00:00:00.240000000"))
    process_video(clip, tmp_path / "out.mp4", predictor=fake_predictor(), kind="green")


@pytest.mark.parametrize(
    ("size", "aspect", "shown_as"),
    [
        ((720, 576), Fraction(16, 15), (768, 576)),
        ((1440, 1080), Fraction(4, 3), (1920, 1080)),
        ((720, 480), Fraction(32, 27), (720, 405)),
        ((720, 480), Fraction(40, 33), (720, 396)),
        ((101, 97), Fraction(7, 5), (141, 97)),
    ],
)
def test_display_size(size: tuple[int, int], aspect: Fraction, shown_as: tuple[int, int]) -> None:
    assert display_size(*size, aspect) == shown_as
