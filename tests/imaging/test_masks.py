"""Mattes are blurred, moved and thresholded by the pixel."""

from __future__ import annotations

import numpy as np
import pytest

from birefnet.errors import BiRefNetError
from birefnet.imaging.masks import blur_mask, offset_mask, threshold_mask

SQUARE = np.zeros((100, 120), np.float32)
SQUARE[40:60, 50:70] = 1


@pytest.mark.parametrize("pixels", [1, 2, 3, 7, 8, 20])
def test_offset_moves_straight_edges_by_whole_pixels(pixels: int) -> None:
    grown = offset_mask(SQUARE, pixels)
    assert np.flatnonzero(grown[50]).tolist() == list(range(50 - pixels, 70 + pixels))
    assert np.flatnonzero(grown[:, 60]).tolist() == list(range(40 - pixels, 60 + pixels))
    if pixels < 10:
        shrunk = offset_mask(SQUARE, -pixels)
        assert np.flatnonzero(shrunk[50]).tolist() == list(range(50 + pixels, 70 - pixels))
        np.testing.assert_array_equal(offset_mask(1 - SQUARE, pixels), 1 - shrunk)


def test_a_grown_point_is_about_round() -> None:
    point = np.zeros((101, 101), np.float32)
    point[50, 50] = 1
    grown = offset_mask(point, 20)
    y, x = np.mgrid[-50:51, -50:51]
    distance = np.hypot(y, x)
    assert (grown[distance <= 16] == 1).all()
    assert (grown[distance > 24] == 0).all()


def test_parts_of_a_pixel_lie_between() -> None:
    grown = offset_mask(SQUARE, 1.25)
    assert grown[50, 49] == 1
    assert grown[50, 48] == 0.25
    assert offset_mask(SQUARE, -0.5)[50, 50] == 0.5
    np.testing.assert_array_equal(offset_mask(SQUARE, 0), SQUARE)


def test_soft_edges_stay_soft_and_values_in_range() -> None:
    soft = blur_mask(SQUARE, 8)
    for pixels in (-3, 2.5):
        moved = offset_mask(soft, pixels)
        assert 0 <= moved.min() <= moved.max() <= 1
        assert ((moved > 0.05) & (moved < 0.95)).sum() > 100
    np.testing.assert_allclose(offset_mask(soft, 4)[50, 40], soft[50, 44], atol=1e-6)


def test_a_matte_that_fills_the_picture_is_not_eaten_from_its_border() -> None:
    full = np.ones((20, 20), np.float32)
    np.testing.assert_array_equal(offset_mask(full, -5), full)
    np.testing.assert_array_equal(offset_mask(full * 0, 5), full * 0)
    np.testing.assert_allclose(blur_mask(full, 9), full, atol=1e-6)


def test_blur_keeps_the_mass_and_softens() -> None:
    soft = blur_mask(SQUARE, 6)
    assert soft.sum() == pytest.approx(SQUARE.sum(), rel=1e-3)
    assert 0.4 < soft[50, 50] < 0.65
    assert soft[50, 60] > 0.99
    np.testing.assert_array_equal(blur_mask(SQUARE, 0), SQUARE)


def test_threshold() -> None:
    values = np.array([[0, 0.3, 0.5, 0.7, 1]], np.float32)
    assert threshold_mask(values).tolist() == [[0, 0, 1, 1, 1]]
    assert threshold_mask(values, 0.6).tolist() == [[0, 0, 0, 1, 1]]
    assert threshold_mask(values).dtype == np.float32


def test_arguments_are_left_alone_and_nonsense_refused() -> None:
    before = SQUARE.copy()
    for result in (blur_mask(SQUARE, 0), offset_mask(SQUARE, 0), offset_mask(SQUARE, 0.5)):
        result += 1
    np.testing.assert_array_equal(SQUARE, before)
    for radius in (-1, float("nan"), float("inf")):
        with pytest.raises(BiRefNetError, match="blur"):
            blur_mask(SQUARE, radius)
    for level in (0, 1.2, float("nan")):
        with pytest.raises(BiRefNetError, match="threshold"):
            threshold_mask(SQUARE, level)


def test_an_offset_beyond_the_picture_ends_soon() -> None:
    assert (offset_mask(SQUARE, 1e9) == 1).all()
    assert (offset_mask(SQUARE, -1e9) == 0).all()
    with pytest.raises(BiRefNetError, match="offset is nan"):
        offset_mask(SQUARE, float("nan"))
