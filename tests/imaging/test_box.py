"""Boxes and tiles are undone exactly."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from birefnet.errors import BiRefNetError
from birefnet.imaging.box import Box, Tiles

GENERATOR = np.random.default_rng(0)


def test_cut_and_paste_are_inverse() -> None:
    canvas = GENERATOR.random((20, 30, 3))
    box = Box(3, 5, 10, 12)
    patch = box.cut(canvas)
    assert patch.shape == (10, 12, 3)
    np.testing.assert_array_equal(box.paste(canvas, patch), canvas)
    empty = box.embed(patch, 20, 30)
    np.testing.assert_array_equal(box.cut(empty), patch)
    assert empty.sum() == pytest.approx(patch.sum())
    np.testing.assert_array_equal(
        box.cut(canvas.transpose(2, 0, 1), channels_first=True), patch.transpose(2, 0, 1)
    )


def test_paste_leaves_its_arguments_alone() -> None:
    canvas = np.zeros((4, 4))
    Box(1, 1, 2, 2).paste(canvas, np.ones((2, 2)))
    assert canvas.sum() == 0


def test_around_and_grow() -> None:
    mask = np.zeros((50, 60))
    mask[10:20, 30:33] = 0.9
    assert Box.around(mask) == Box(10, 30, 10, 3)
    assert Box.around(mask, 0.95) is None
    assert Box.around(mask).grow(5, 50, 60) == Box(5, 25, 20, 13)
    assert Box.around(mask).grow(0.5, 50, 60) == Box(5, 25, 20, 13)
    assert Box.around(mask).grow(1000, 50, 60) == Box(0, 0, 50, 60)


@pytest.mark.parametrize("values", [(-1, 0, 2, 2), (0, 0, 0, 2)])
def test_bad_box(values: tuple[int, int, int, int]) -> None:
    with pytest.raises(BiRefNetError):
        Box(*values)


@pytest.mark.parametrize(
    ("size", "tile", "overlap"),
    [
        ((100, 100), 64, 16),
        ((1, 500), 64, 63),
        ((130, 64), 64, 0),
        ((333, 217), 50, 20),
        ((10, 10), 64, 8),
        ((65, 65), 64, 32),
    ],
)
def test_tiles_cover_overlap_and_merge(size: tuple[int, int], tile: int, overlap: int) -> None:
    tiles = Tiles.plan(*size, tile, overlap)
    total = np.zeros(size)
    for box, weight in zip(tiles, tiles.weights, strict=True):
        assert (weight > 0).all()
        total[box.slices] += weight
    np.testing.assert_allclose(total, 1, atol=1e-6)
    for starts, span in ((tiles.tops, tiles.tile[0]), (tiles.lefts, tiles.tile[1])):
        for first, second in pairwise(starts):
            assert first + span - second >= overlap
    for shape in (size, (*size, 3)):
        picture = GENERATOR.random(shape).astype(np.float32)
        merged = tiles.merge(box.cut(picture) for box in tiles)
        np.testing.assert_allclose(merged, picture, atol=1e-5)


def test_no_seam_between_tiles_that_disagree() -> None:
    tiles = Tiles.plan(64, 200, 64, 32)
    merged = tiles.merge(np.full(tiles.tile, index, np.float32) for index in range(len(tiles)))
    steps = np.abs(np.diff(merged[0]))
    assert steps.max() < 2.5 / 32


def test_tiles_refuse_nonsense() -> None:
    with pytest.raises(BiRefNetError, match="overlap"):
        Tiles.plan(10, 10, 8, 8)
    tiles = Tiles.plan(100, 100, 64, 16)
    with pytest.raises(BiRefNetError, match="expected"):
        tiles.merge(np.zeros((3, 3)) for _ in tiles)
    with pytest.raises(ValueError, match="shorter"):
        tiles.merge([np.zeros(tiles.tile)])
