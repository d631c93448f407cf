"""Where pictures are cut to their subject."""

from __future__ import annotations

import numpy as np
import pytest

from birefnet.errors import BiRefNetError
from birefnet.imaging.box import Box
from birefnet.imaging.framing import Frame, frame_around, union, visible_box
from birefnet.imaging.values import Measure, parse_aspect, parse_measure


@pytest.mark.parametrize(
    ("text", "pixels"), [("24", 24), (24, 24), ("24px", 24), ("5%", 10), ("0", 0), (" 2.5 % ", 5)]
)
def test_measures(text: str | float, pixels: int) -> None:
    assert parse_measure(text).of(200) == pixels


@pytest.mark.parametrize("text", ["", "-1", "a", "5%%", "nan", "inf"])
def test_no_measures(text: str) -> None:
    with pytest.raises(BiRefNetError, match="is not a size"):
        parse_measure(text)


@pytest.mark.parametrize("text", ["0", "4:0", "a:b", "1:100", "", "4:5:6"])
def test_no_aspects(text: str) -> None:
    with pytest.raises(BiRefNetError, match="is not a shape"):
        parse_aspect(text)


def test_the_margin_lies_all_around_and_may_leave_the_picture() -> None:
    frame = frame_around(Box(2, 20, 10, 30), 100, 100, margin=Measure(5))
    assert frame == Frame(-3, 15, 20, 40)
    share = frame_around(Box(20, 20, 10, 30), 100, 100, margin=Measure(0.1, True))
    assert share == Frame(17, 17, 16, 36)


def test_there_is_no_margin_where_the_subject_is_cut_off() -> None:
    frame = frame_around(Box(60, 20, 40, 30), 100, 100, margin=Measure(5))
    assert frame == Frame(55, 15, 45, 40)


@pytest.mark.parametrize("ratio", [1.0, 0.8, 1.91, 4.0])
def test_aspects(ratio: float) -> None:
    frame = frame_around(Box(30, 20, 20, 40), 100, 100, margin=Measure(3), aspect=ratio)
    assert frame.width / frame.height == pytest.approx(ratio, abs=0.05)
    assert frame.top <= 27
    assert frame.left <= 17
    assert frame.top + frame.height >= 53
    assert frame.left + frame.width >= 63


def test_an_aspect_grows_away_from_the_border_that_cuts_the_subject() -> None:
    frame = frame_around(Box(60, 30, 40, 80), 100, 200, aspect=1.0)
    assert frame == Frame(20, 30, 80, 80)


def test_cutting_repeats_or_empties_what_lies_beyond() -> None:
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    frame = Frame(-1, -1, 3, 3)
    np.testing.assert_array_equal(frame.cut(pixels), [[0, 0, 0], [0, 0, 1], [0, 4, 5]])
    np.testing.assert_array_equal(
        frame.cut(pixels, repeats=True), [[0, 0, 1], [0, 0, 1], [4, 4, 5]]
    )
    colours = np.dstack([pixels] * 4)
    assert frame.cut(colours).shape == (3, 3, 4)
    assert (frame.cut(colours)[0] == 0).all()
    assert frame.corners == [-1, -1, 2, 2]


def test_what_is_seen_includes_the_shadow() -> None:
    alpha, shadow = np.zeros((2, 50, 50), np.float32)
    alpha[10:20, 10:20] = 1
    shadow[18:22, 15:40] = 0.4
    assert visible_box(alpha) == Box(10, 10, 10, 10)
    assert visible_box(alpha, shadow) == Frame(10, 10, 13, 31)  # up to where the shadow ends
    assert visible_box(alpha, shadow, Frame(-9, -30, 50, 50)) == Frame(8, -16, 12, 36)
    assert visible_box(np.zeros((5, 5), np.float32), shadow) is None
    assert union([None, Box(1, 1, 2, 2), Box(5, 0, 1, 1)]) == Frame(1, 0, 5, 3)
    assert union([None]) is None
