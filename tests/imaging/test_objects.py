"""The connected parts of a matte."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from birefnet.imaging.objects import FAINT, owners, regions


def discs(
    *centres: tuple[int, int, int], size: tuple[int, int] = (100, 200), soft: float = 0
) -> NDArray[np.float32]:
    """Discs at (x, y) of a radius, with soft edges."""
    alpha = np.zeros(size, np.float32)
    for x, y, radius in centres:
        cv2.circle(alpha, (x, y), radius, 1.0, -1)
    return np.asarray(cv2.GaussianBlur(alpha, (0, 0), soft) if soft else alpha, np.float32)


def test_the_largest_comes_first() -> None:
    alpha = discs((30, 50, 10), (100, 50, 25), (170, 50, 15))
    found = list(regions(alpha, 20))
    assert [region.box.left for region in found] == [75, 155, 20]
    for region, radius in zip(found, (25, 15, 10), strict=True):
        assert region.area == pytest.approx(np.pi * radius**2, rel=0.1)
    np.testing.assert_array_equal(sum(region.alpha for region in found), alpha)


def test_soft_edges_that_meet_are_divided_without_loss() -> None:
    alpha = discs((60, 50, 30), (126, 50, 30), soft=4)
    found = list(regions(alpha, 20))
    assert len(found) == 2
    between = alpha[50, 90:97]
    assert between.min() > FAINT
    visible = alpha > FAINT
    np.testing.assert_allclose(
        (found[0].alpha + found[1].alpha)[visible], alpha[visible], atol=1e-6
    )
    # Half-way the edge belongs to both, and it passes over smoothly.
    middle = found[0].alpha[50, 93] / alpha[50, 93], found[1].alpha[50, 93] / alpha[50, 93]
    assert min(middle) > 0.2
    share = (found[0].alpha / np.maximum(alpha, 1e-6))[50, 86:101]
    assert np.abs(np.diff(share)).max() < 0.6
    for region in found:
        assert (region.alpha <= alpha + 1e-6).all()


def test_a_solid_pixel_belongs_to_one_object_alone() -> None:
    alpha = discs((60, 50, 30), (123, 50, 30), soft=1)
    first, second = (region.alpha for region in regions(alpha, 20))
    solid = alpha >= 0.5
    assert (np.minimum(first, second)[solid] == 0).all()


def test_small_pieces_go_to_a_neighbour_or_nowhere() -> None:
    alpha = discs((60, 50, 30))
    alpha[50, 93] = 1  # a speck three pixels beside it
    alpha[20, 180] = 1  # another, far away
    (only,) = regions(alpha, 20)
    assert only.alpha[50, 93] == 1
    assert only.alpha[20, 180] == 0
    assert only.box.right == 94


def test_long_faint_hair_stays_with_its_head() -> None:
    alpha = discs((40, 50, 21), (170, 50, 20))
    alpha[50, 62:140] = 0.3
    first, second = regions(alpha, 20)
    assert first.alpha[50, 70] == pytest.approx(0.3)
    assert second.alpha[50, 135] == pytest.approx(0.3)


def test_territories_cover_the_picture() -> None:
    found = list(regions(discs((40, 50, 20), (150, 50, 20)), 20))
    assert (found[0].territory ^ found[1].territory).all()
    assert found[0].territory[0, 0]


def test_nothing_is_no_object() -> None:
    assert list(regions(np.zeros((20, 20), np.float32), 1)) == []
    assert list(regions(discs((60, 50, 5)), 1000)) == []
    assert list(regions(np.full((20, 20), 0.4, np.float32), 1)) == []


def test_all_is_one_object() -> None:
    (only,) = regions(np.ones((20, 30), np.float32), 1)
    assert (only.alpha == 1).all()
    assert (only.box.height, only.box.width) == (20, 30)


def test_owners_give_soft_pixels_to_the_nearest() -> None:
    alpha = discs((40, 50, 20), (150, 50, 20))
    alpha[50, 65:125] = 0.1
    count, labels = owners(alpha)
    assert count == 2
    assert labels[50, 70] == labels[50, 40]
    assert labels[50, 120] == labels[50, 150]
    assert labels[5, 5] == 0
