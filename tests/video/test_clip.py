"""Which frames are wanted, and where they come from."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import pytest

pytest.importorskip("av")

from birefnet.errors import UsageError
from birefnet.imaging.values import Position, parse_position
from birefnet.video.clip import Clip, pick
from birefnet.video.errors import VideoError
from birefnet.video.opening import camera_input, open_source
from video.clips import write_clip


@pytest.mark.parametrize(
    ("text", "seconds", "frame"),
    [
        ("12.5", Fraction(25, 2), None),
        ("3s", Fraction(3), None),
        ("1:02.5", Fraction(125, 2), None),
        ("1:00:02", Fraction(3602), None),
        (0.1, Fraction(1, 10), None),
        (7, Fraction(7), None),
        ("250f", None, 250),
    ],
)
def test_positions(text: str, seconds: Fraction | None, frame: int | None) -> None:
    assert parse_position(text) == Position(seconds, frame)


@pytest.mark.parametrize("text", ["", "abc", "-3", "1:2:3:4", "f", "1e3"])
def test_no_position(text: str) -> None:
    with pytest.raises(UsageError, match="is not a time or frame of a video; give seconds"):
        parse_position(text)


def test_nothing_left() -> None:
    with pytest.raises(VideoError, match="the end does not lie after the start"):
        Clip.of(3, 2)
    with pytest.raises(VideoError, match="stride is 0"):
        Clip.of(stride=0)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 frames with a key frame every 8, so that seeking lands before most."""
    return write_clip(
        tmp_path_factory.mktemp("clip") / "a.mp4", frames=30, options={"g": "8", "crf": "20"}
    )


@pytest.mark.parametrize(
    ("clip", "wanted"),
    [
        (Clip(), range(30)),
        (Clip.of(0.5), range(12, 30)),
        (Clip.of(0.51), range(13, 30)),
        (Clip.of(0.5, 1.0), range(12, 24)),
        (Clip.of("5f", "20f"), range(5, 20)),
        (Clip.of("5f", 0.5), range(5, 12)),
        (Clip.of(0.5, "20f", 3), range(12, 20, 3)),
        (Clip.of(stride=7), range(0, 30, 7)),
    ],
)
def test_pick(film: Path, clip: Clip, wanted: range) -> None:
    source = open_source(film)
    tick = 1  # of 1/24 s
    assert source.info.time_base == Fraction(1, 24)
    frames = list(pick(source, clip))
    assert [frame.pts // tick for frame in frames] == list(wanted)
    assert all(a.pts + a.duration == b.pts for a, b in pairwise(frames))
    assert clip.expected(source.info.frames, source.info.rate) == len(wanted)
    for after in (wanted[0], wanted[len(wanted) // 2]):
        rest = [frame.pts for frame in pick(source, clip, after)]
        assert rest == [number for number in wanted if number > after]
    source.close()


def test_cameras(monkeypatch: pytest.MonkeyPatch) -> None:
    """No camera is opened here; the name given to FFmpeg is all that can be checked."""
    for platform, expected in (
        ("linux", ("/dev/video0", "v4l2")),
        ("darwin", ("0", "avfoundation")),
    ):
        monkeypatch.setattr("sys.platform", platform)
        assert camera_input("0") == expected
        assert camera_input("film.mp4") is None
    monkeypatch.setattr("sys.platform", "win32")
    assert camera_input("video=Webcam") == ("video=Webcam", "dshow")
    assert camera_input("0") is None
