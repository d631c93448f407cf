"""What a trimap holds for certain."""

from __future__ import annotations

import numpy as np
import pytest

from birefnet.errors import BiRefNetError
from birefnet.imaging.trimap import GROUND, SUBJECT, UNKNOWN, default_band, trimap


def square(side: int = 100, first: int = 30, last: int = 70) -> np.ndarray:
    alpha = np.zeros((side, side), np.float32)
    alpha[first:last, first:last] = 1
    return alpha


def test_the_band_reaches_equally_far_to_both_sides() -> None:
    row = trimap(square(), band=5)[50]
    assert row.dtype == np.uint8
    assert set(np.unique(row)) == {GROUND, UNKNOWN, SUBJECT}
    # The edge lies between columns 29 and 30: five unknown pixels on each side of it.
    np.testing.assert_array_equal(np.flatnonzero(row == UNKNOWN)[:10], np.arange(25, 35))
    assert row[24] == GROUND
    assert row[35] == SUBJECT


def test_uncertain_alpha_is_unknown_wherever_it_is() -> None:
    alpha = square(100, 20, 80)
    alpha[45:55, 45:55] = 0.6  # a window
    alpha[5:10, 5:10] = 0.3  # a shade, far away
    known = trimap(alpha, band=2)
    assert (known[44:56, 44:56] == UNKNOWN).all()
    assert (known[5:10, 5:10] == UNKNOWN).all()
    assert known[30, 30] == SUBJECT
    assert known[95, 95] == GROUND


def test_a_wire_is_not_given_up() -> None:
    alpha = np.zeros((60, 60), np.float32)
    alpha[28:31] = 1
    known = trimap(alpha, band=8)
    assert (known[29, 5:55] == SUBJECT).all()
    assert (known[[28, 30], 5:55] == UNKNOWN).all()


def test_the_border_of_the_picture_is_no_edge() -> None:
    assert (trimap(np.ones((20, 30), np.float32)) == SUBJECT).all()
    assert (trimap(np.zeros((20, 30), np.float32)) == GROUND).all()
    alpha = square(40, 0, 20)
    assert trimap(alpha, band=3)[0, 0] == SUBJECT


def test_the_usual_band_follows_the_picture() -> None:
    assert default_band(1000, 500) == pytest.approx(12)
    assert default_band(10, 10) == 2
    np.testing.assert_array_equal(trimap(square()), trimap(square(), band=2))


def test_refusals() -> None:
    with pytest.raises(BiRefNetError, match="band is -1"):
        trimap(square(), band=-1)
    with pytest.raises(BiRefNetError, match=r"sure is 0\.5"):
        trimap(square(), sure=0.5)
