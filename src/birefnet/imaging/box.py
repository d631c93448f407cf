"""Rectangles and overlapping tiles of a picture as data, with their inverses."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from birefnet.errors import BiRefNetError


@dataclass(frozen=True)
class Area:
    """A rectangle of whole pixels: rows top to top + height, columns left to left + width."""

    top: int
    left: int
    height: int
    width: int

    @property
    def bottom(self) -> int:
        return self.top + self.height

    @property
    def right(self) -> int:
        return self.left + self.width

    @property
    def corners(self) -> list[int]:
        """x0, y0, x1, y1 in the picture, where x1 and y1 are the first not in it."""
        return [self.left, self.top, self.right, self.bottom]


@dataclass(frozen=True)
class Box(Area):
    """A rectangle inside a picture."""

    def __post_init__(self) -> None:
        if min(self.top, self.left) < 0 or min(self.height, self.width) < 1:
            raise BiRefNetError(
                f"got {self}; a box must start inside the picture and hold at least one pixel."
            )

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index of the rectangle in an H x W (x C) array."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def cut(self, pixels: NDArray, *, channels_first: bool = False) -> NDArray:
        """The rectangle's part of H x W, H x W x C or (`channels_first`) C x H x W: a view."""
        return pixels[(..., *self.slices)] if channels_first else pixels[self.slices]

    def paste(self, canvas: NDArray, patch: NDArray) -> NDArray:
        """Inverse of `cut`: a copy of `canvas` with `patch` in the rectangle's place."""
        out = canvas.copy()
        out[self.slices] = patch
        return out

    def embed(self, patch: NDArray, height: int, width: int, fill: float = 0) -> NDArray:
        """`patch` on an empty canvas of `height` x `width`, filled with `fill` elsewhere."""
        canvas = np.full((height, width, *patch.shape[2:]), fill, patch.dtype)
        canvas[self.slices] = patch
        return canvas

    def grow(self, margin: int | float, height: int, width: int) -> Box:
        """Widened on all sides, clipped to a picture of `height` x `width`.

        A whole `margin` counts pixels; a float is a share of the box's longer side.
        """
        if isinstance(margin, float):
            margin = round(margin * max(self.height, self.width))
        top, left = max(0, self.top - margin), max(0, self.left - margin)
        bottom, right = min(height, self.bottom + margin), min(width, self.right + margin)
        return Box(top, left, bottom - top, right - left)

    @classmethod
    def around(cls, mask: NDArray, threshold: float = 0.5) -> Box | None:
        """The smallest box that holds every value above `threshold`; None where there is none."""
        inside = mask > threshold
        rows = np.flatnonzero(inside.any(axis=1))
        if not rows.size:
            return None
        columns = np.flatnonzero(inside.any(axis=0))
        top, left = int(rows[0]), int(columns[0])
        return cls(top, left, int(rows[-1]) - top + 1, int(columns[-1]) - left + 1)


@dataclass(frozen=True)
class Tiles:
    """A picture cut into equal tiles that overlap and cover it.

    Attributes:
        height, width: of the picture [px].
        tops, lefts: where the rows and columns of tiles begin.
        tile: height and width of every tile.
    """

    height: int
    width: int
    tops: tuple[int, ...]
    lefts: tuple[int, ...]
    tile: tuple[int, int]

    @classmethod
    def plan(cls, height: int, width: int, tile: int = 1024, overlap: int = 128) -> Tiles:
        """Tiles of at most `tile` pixels a side; neighbours share at least `overlap` pixels."""
        if not 0 <= overlap < tile:
            raise BiRefNetError(f"overlap is {overlap}; it must be from 0 to below tile = {tile}.")
        if height < 1 or width < 1:
            raise BiRefNetError(f"the picture is {width} x {height} pixels; it needs at least 1.")
        size = min(tile, height), min(tile, width)
        tops, lefts = (
            _starts(side, span, overlap) for side, span in zip((height, width), size, strict=True)
        )
        return cls(height, width, tops, lefts, size)

    def __len__(self) -> int:
        return len(self.tops) * len(self.lefts)

    def __iter__(self) -> Iterator[Box]:
        """Boxes, row by row."""
        for top in self.tops:
            for left in self.lefts:
                yield Box(top, left, *self.tile)

    def merge(self, patches: Iterable[NDArray]) -> NDArray[np.float32]:
        """Inverse of cutting: patches th x tw (x C), in the order of `iter`, to float32 pixels.

        Overlaps are blended with weights that fall linearly towards a tile's inner edges and sum to
        1 at every pixel, so no seam shows and equal patches come back unchanged.
        """
        out: NDArray[np.float32] | None = None
        weights = self.weights
        for (box, weight), patch in zip(zip(self, weights, strict=True), patches, strict=True):
            if patch.shape[:2] != self.tile:
                raise BiRefNetError(f"got a patch of {patch.shape[:2]}; expected {self.tile}.")
            if out is None:
                out = np.zeros((self.height, self.width, *patch.shape[2:]), np.float32)
            out[box.slices] += patch * (weight if patch.ndim == 2 else weight[..., None])
        assert out is not None
        return out

    @property
    def weights(self) -> Iterator[NDArray[np.float32]]:
        """Weight of each tile's pixels, th x tw, in (0, 1]."""
        rows, columns = self._profiles
        for row in rows:
            for column in columns:
                yield np.outer(row, column).astype(np.float32)

    @cached_property
    def _profiles(self) -> tuple[list[NDArray[np.float64]], list[NDArray[np.float64]]]:
        return (
            _profiles(self.height, self.tops, self.tile[0]),
            _profiles(self.width, self.lefts, self.tile[1]),
        )


def _starts(side: int, tile: int, overlap: int) -> tuple[int, ...]:
    """Evenly spread first pixels of tiles that cover `side` and overlap enough."""
    if tile >= side:
        return (0,)
    count = -(-(side - overlap) // max(1, tile - overlap))
    return tuple(round(index * (side - tile) / (count - 1)) for index in range(count))


def _profiles(side: int, starts: tuple[int, ...], tile: int) -> list[NDArray[np.float64]]:
    """Weights along one axis, one array for each start, that sum to 1 at every pixel."""
    position = np.arange(tile) + 0.5
    profiles = []
    for index, start in enumerate(starts):
        profile = np.ones(tile)
        if index > 0:
            profile = np.minimum(profile, position / (starts[index - 1] + tile - start + 1e-9))
        if index + 1 < len(starts):
            shared = start + tile - starts[index + 1]
            profile = np.minimum(profile, (tile - position) / (shared + 1e-9))
        profiles.append(np.maximum(profile, 1e-6))
    total = np.zeros(side)
    for start, profile in zip(starts, profiles, strict=True):
        total[start : start + tile] += profile
    return [
        profile / total[start : start + tile]
        for start, profile in zip(starts, profiles, strict=True)
    ]
