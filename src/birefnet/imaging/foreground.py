"""Foreground colours behind a matte: two-pass blur fusion.

At a soft edge a picture shows a mixture, I = a F + (1 - a) B, so a cut-out that keeps I carries a
halo of the old background. Forte, "Approximate Fast Foreground Colour Estimation" (ICIP 2021),
estimates F from local means (box blurs, written mean[.] here):

    bF = mean[F a] / (mean[a] + e)      bB = mean[B (1 - a)] / (1 - mean[a] + e)
    F' = clip(bF + a (I - a bF - (1 - a) bB))

with F = B = I first and a wide blur, then again with F = F', B = bB and a narrow one. Where a is 1
in the whole narrow window this is I, and where a is 0 there it is 0, so only tiles of the picture
with a soft edge need work; and the wide means are smooth enough to be interpolated from a grid.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import DTypeLike, NDArray

from birefnet.errors import BiRefNetError, ImageError
from birefnet.imaging.picture import to_float, to_uint8, to_uint16

__all__ = ["default_radii", "estimate_foreground", "to_uint8"]

EPSILON = 1e-5
WIDE, NARROW = 90, 6  # of the paper, for pictures of about a megapixel

# Unless `exact`, alpha closer than this to 0 or 1 counts as 0 or 1: half a level of an 8-bit matte.
# A network's sigmoid reaches neither, and would make every tile a soft one.
SNAP = 1 / 510

_GRID = 45  # grid cells in a wide window, at least; the error falls with its square
_TILE = 192  # [px]; the arrays of a tile stay in a core's cache

Float: TypeAlias = NDArray[Any]
"""float32; OpenCV's type hints do not tell."""


def default_radii(height: int, width: int) -> tuple[int, int]:
    """Sides of the wide and the narrow window [px] for a picture of this size.

    The paper's 90 and 6 up to 1024 x 1024 pixels, in the same proportion beyond; the first is then
    a multiple of a grid step that suits it. (Smaller windows for small pictures recover colours
    worse: they find too few pixels that are plainly foreground.)
    """
    scale = max(1.0, (height * width) ** 0.5 / 1024)
    step = _odd(WIDE * scale / _GRID)
    return 2 * step * round(WIDE * scale / (2 * step)), round(NARROW * scale)


def estimate_foreground(
    image: NDArray,
    alpha: NDArray,
    *,
    radius: int | None = None,
    second_radius: int | None = None,
    exact: bool = False,
    dtype: DTypeLike = np.float32,
) -> NDArray:
    """Estimate the colours of the foreground alone.

    Args:
        image: H x W x 3, uint8, uint16, or float in [0, 1].
        alpha: H x W, float in [0, 1] (or uint8, uint16).
        radius, second_radius: sides of both windows [px]; None follows the picture's size, see
            `default_radii`.
        exact: evaluate the wide means at every pixel and take alpha as it is. Otherwise a cut-out
            differs from the exact one by less than one level of 255.
        dtype: of the result: float32, or uint8 or uint16, rounded.

    Returns:
        H x W x 3: float32 in [0, 1], or the full range of `dtype`. Where alpha is 0 in the whole
        narrow window, it is 0.

    Raises:
        ImageError: shapes or types that do not fit.
    """
    image, alpha = _check(image, alpha)
    height, width = alpha.shape
    wide, narrow = default_radii(height, width)
    wide = wide if radius is None else radius
    narrow = narrow if second_radius is None else second_radius
    if wide < 1 or narrow < 1:
        raise BiRefNetError(f"radius is {wide} and {narrow}; give at least 1.")
    convert = _CONVERSIONS.get(np.dtype(dtype))
    if convert is None:
        raise BiRefNetError(f"dtype is {dtype}; choose float32, uint8 or uint16.")
    out = np.zeros((height, width, 3), dtype)
    snap = 0.0 if exact else SNAP
    tall, long = _tile_side(width), _tile_side(height)
    with _workers(height * width) as run:
        means = _wide_means(image, alpha, wide, 1 if exact else grid_step(wide), snap, run)

        def work(corner: tuple[int, int]) -> None:
            top, left = corner
            bottom, right = min(height, top + tall), min(width, left + long)
            inner = slice(top, bottom), slice(left, right)
            # With what the narrow window reaches; at the picture's border it reflects by itself.
            reach = narrow // 2 + 1
            rows = range(max(0, top - reach), min(height, bottom + reach))
            columns = range(max(0, left - reach), min(width, right + reach))
            outer = slice(rows.start, rows.stop), slice(columns.start, columns.stop)
            low, high = _extremes(alpha[outer])
            if high <= snap:
                return
            if low >= 1 - snap:
                out[inner] = convert(image[inner])
                return
            a = _snapped(alpha[outer], snap)
            crop = (
                slice(top - rows.start, bottom - rows.start),
                slice(left - columns.start, right - columns.start),
            )
            planes = _fuse(image[outer], a, means, rows, columns, narrow)
            for channel, plane in enumerate(planes):
                out[(*inner, channel)] = convert(plane[crop])

        corners = product(range(0, height, tall), range(0, width, long))
        for _ in run(work, corners):
            pass
    return out


@contextmanager
def _workers(pixels: int) -> Iterator[Callable[..., Iterable[object]]]:
    """`map`, by several threads where the picture is large enough to gain from them."""
    if pixels <= 4 * _TILE * _TILE:
        yield map
        return
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        yield pool.map


def grid_step(radius: int) -> int:
    """Spacing of the grid [px]: the largest odd divisor of the window that leaves enough cells."""
    return next(step for step in range(_odd(radius / _GRID), 0, -2) if radius % step == 0)


@dataclass(frozen=True)
class _WideMeans:
    """Means over the wide window around every `step`-th pixel, of a, I a and I (1 - a).

    Attributes:
        planes: seven arrays: a; the three channels of I a; the three of I (1 - a).
        step: spacing of the grid [px], odd.
        first: row and column of the pixel that the first entry belongs to, 0 or less.
    """

    planes: tuple[Float, ...]
    step: int
    first: int

    def at(self, rows: range, columns: range) -> list[Float]:
        """All means, interpolated bilinearly at these pixels."""
        if self.step == 1:
            top, left = rows.start - self.first, columns.start - self.first
            return [
                plane[top : top + len(rows), left : left + len(columns)] for plane in self.planes
            ]
        top, bottom, y = self._span(rows)
        left, right, x = self._span(columns)
        size = (right - left) * self.step, (bottom - top) * self.step
        return [
            cv2.resize(plane[top:bottom, left:right], size, interpolation=cv2.INTER_LINEAR)[
                y : y + len(rows), x : x + len(columns)
            ]
            for plane in self.planes
        ]

    def _span(self, pixels: range) -> tuple[int, int, int]:
        """Entries that surround the pixels, and where these begin once those are enlarged."""
        start = (pixels.start - self.first) // self.step
        stop = -(-(pixels.stop - 1 - self.first) // self.step) + 1
        # An entry lands in the middle of the cell that it is enlarged to.
        return start, stop, pixels.start - self.first - start * self.step + self.step // 2


@dataclass(frozen=True)
class _Axis:
    """How the means over the wide window are made along one side of the picture.

    Attributes:
        pixels: of the side, in the order in which they are averaged.
        step: so many of them make a cell.
        window: cells in a window.
        starts: of a side that is shorter than the window: where the windows of the entries begin.
            Cells would need memory for the window and not for the picture.
        radius: length of the windows [px].
    """

    pixels: NDArray[np.intp]
    step: int
    window: int
    radius: int
    starts: NDArray[np.intp] | None = None

    @classmethod
    def of(cls, side: int, radius: int, step: int) -> _Axis:
        # The window of pixel x begins at x - radius // 2, as OpenCV's does. Cells tile the
        # reflected picture from -margin on, so that the windows of every step-th pixel are whole
        # cells.
        before = radius // 2
        margin = step * -(-before // step)
        if side >= radius:
            cells = -(-(margin + side + radius) // step)
            pixels = _reflected(-margin, cells * step - margin, side)
            return cls(pixels, step, radius // step, radius)
        entries = -(-(side - 1 - before + margin) // step) + 1
        starts = np.arange(entries) * step - margin
        return cls(np.arange(side), 1, 1, radius, starts)

    @property
    def cells(self) -> int:
        return len(self.pixels) // self.step

    @property
    def entries(self) -> int:
        return self.cells if self.starts is None else len(self.starts)

    def parts(self, across: int) -> Iterator[tuple[slice, slice]]:
        """Cells of each tile, and the entries that they give; the tile's other side is `across`."""
        if self.starts is not None:
            yield slice(0, self.cells), slice(0, self.entries)
            return
        length = max(1, _tile_side(across) // self.step)
        for start in range(0, self.cells, length):
            part = slice(start, min(self.cells, start + length))
            yield part, part

    def seen(self, cells: slice) -> NDArray[np.intp]:
        """Pixels in these cells."""
        return self.pixels[cells.start * self.step : cells.stop * self.step]

    def averaged(self, plane: Float, axis: int) -> Float:
        """Means over the windows at `starts`; of a longer side, the plane itself.

        A reflected line repeats itself: its sums follow from those over one period.
        """
        if self.starts is None:
            return plane
        side = len(self.pixels)
        period = max(1, 2 * (side - 1))
        line = np.take(plane, _reflected(0, period, side), axis)
        sums = np.cumsum(line, axis, dtype=np.float64)
        sums = np.concatenate([np.zeros_like(np.take(sums, [0], axis)), sums], axis)
        total = np.take(sums, [period], axis)

        def up_to(positions: NDArray[np.intp]) -> NDArray[np.float64]:
            rounds = positions // period
            rounds = rounds[:, None] if axis == 0 else rounds[None]
            return np.asarray(np.take(sums, positions % period, axis) + rounds * total)

        means = (up_to(self.starts + self.radius) - up_to(self.starts)) / self.radius
        return means.astype(np.float32)


def _wide_means(
    image: NDArray,
    alpha: Float,
    radius: int,
    step: int,
    snap: float,
    run: Callable[..., Iterable[Any]],
) -> _WideMeans:
    """Means over cells of step x step pixels first, then box sums over whole cells: both exact."""
    height, width = alpha.shape
    down, across = _Axis.of(height, radius, step), _Axis.of(width, radius, step)
    unit = _unit(image)
    cells = [np.zeros((down.entries, across.entries), np.float32) for _ in range(7)]

    def averaged(plane: Float) -> Float:
        return across.averaged(down.averaged(plane, 0), 1)

    def reduce(part: tuple[tuple[slice, slice], tuple[slice, slice]]) -> None:
        (rows, to_rows), (columns, to_columns) = part
        size = columns.stop - columns.start, rows.stop - rows.start
        inside = down.seen(rows), across.seen(columns)
        seen_alpha = _gather(alpha, *inside)
        low, high = _extremes(seen_alpha)
        target = to_rows, to_columns
        if low >= 1 - snap or high <= snap:
            is_opaque = high > snap
            cells[0][target] = is_opaque
            seen = _gather(image, *inside)
            small = cv2.resize(seen, size, interpolation=cv2.INTER_AREA).reshape(*size[::-1], 3)
            for channel, cell in enumerate(cells[1:4] if is_opaque else cells[4:]):
                plane = np.multiply(small[..., channel], unit, dtype=np.float32)
                cell[target] = averaged(plane)
            return
        a = _snapped(seen_alpha, snap)
        channels = cv2.split(_gather(image, *inside))
        colours = [np.multiply(plane, unit, dtype=np.float32) for plane in channels]
        rest = 1 - a
        planes = [a, *(a * plane for plane in colours), *(rest * plane for plane in colours)]
        for cell, plane in zip(cells, planes, strict=True):
            cell[target] = averaged(cv2.resize(plane, size, interpolation=cv2.INTER_AREA))

    for _ in run(reduce, product(down.parts(width), across.parts(height))):
        pass

    def box(cell: Float) -> Float:
        # Entry i covers cells i ... i + span - 1; those that reach over the end are not used.
        span = across.window, down.window
        if span == (1, 1):
            return cell
        return cv2.blur(cell, span, anchor=(0, 0), borderType=cv2.BORDER_REPLICATE)

    first = radius // 2 - step * -(-(radius // 2) // step)
    return _WideMeans(tuple(run(box, cells)), step, first)


def _tile_side(across: int) -> int:
    """Length of a tile of a picture that is `across` pixels wide [px]: narrow ones are longer."""
    return _TILE * max(1, _TILE // max(1, across))


def _reflected(start: int, stop: int, length: int) -> NDArray[np.intp]:
    """Pixels of a line of `length` that stand at positions from `start` to before `stop`, where the
    line is continued by its reflection, its ends not repeated."""
    around = np.arange(start, stop) % max(1, 2 * (length - 1))
    return np.minimum(around, 2 * (length - 1) - around)


def _gather(pixels: NDArray, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> NDArray:
    """The pixels at these rows and columns: a view where they follow each other."""
    if _is_run(rows) and _is_run(columns):
        return pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return pixels[rows[:, None], columns]


def _is_run(positions: NDArray[np.intp]) -> bool:
    return bool(
        positions[-1] - positions[0] == len(positions) - 1 and (np.diff(positions) == 1).all()
    )


def _fuse(
    image: NDArray, a: Float, means: _WideMeans, rows: range, columns: range, narrow: int
) -> list[Float]:
    """Both passes on a tile; the formula of the module, gathered by its factors.

    F' = mean[F a] * (1 - a^2) / (mean[a] + e)  +  a I
         - mean[B (1 - a)] * a (1 - a) / (1 - mean[a] + e)
    """
    wide_a, *wide = means.at(rows, columns)
    rest = 1 - a
    of_foreground = 1 - a * a
    of_background = a * rest
    background_weight = 1 / (1 - wide_a + EPSILON)
    first_foreground = of_foreground / (wide_a + EPSILON)
    first_background = of_background * background_weight
    background_weight *= rest
    window = (narrow, narrow)
    mean_a = cv2.blur(a, window, borderType=cv2.BORDER_REFLECT_101)
    second_foreground = of_foreground / (mean_a + EPSILON)
    second_background = of_background / (1 - mean_a + EPSILON)
    unit = _unit(image)
    planes = []
    for channel in range(3):
        share = np.multiply(image[..., channel], unit, dtype=np.float32)
        share *= a
        foreground = wide[channel] * first_foreground
        foreground += share
        foreground -= wide[3 + channel] * first_background
        np.clip(foreground, 0, 1, out=foreground)
        foreground *= a
        result: Float = cv2.blur(foreground, window, borderType=cv2.BORDER_REFLECT_101)
        result *= second_foreground
        result += share
        background = wide[3 + channel] * background_weight
        mean: Float = cv2.blur(background, window, borderType=cv2.BORDER_REFLECT_101)
        mean *= second_background
        result -= mean
        planes.append(np.clip(result, 0, 1, out=result))
    return planes


def _check(image: NDArray, alpha: NDArray) -> tuple[NDArray, Float]:
    if image.ndim != 3 or image.shape[2] != 3 or alpha.shape != image.shape[:2]:
        raise ImageError(
            f"got an image of shape {image.shape} and an alpha of {alpha.shape}; expected "
            "H x W x 3 and H x W."
        )
    if image.dtype.kind == "f":
        image = image.astype(np.float32, copy=False)
    elif image.dtype not in (np.uint8, np.uint16):
        raise ImageError(f"the image is of type {image.dtype}; expected uint8, uint16 or float.")
    return np.ascontiguousarray(image), np.ascontiguousarray(to_float(alpha))


def _odd(value: float) -> int:
    """The largest odd whole number up to `value`, at least 1."""
    return max(1, 2 * int((value + 1) / 2) - 1)


def _unit(image: NDArray) -> np.float32:
    """The factor that brings the image's values to [0, 1]."""
    return np.float32(1 if image.dtype.kind == "f" else 1 / np.iinfo(image.dtype).max)


def _extremes(values: Float) -> tuple[float, float]:
    return cv2.minMaxLoc(values)[:2]


def _snapped(alpha: Float, snap: float) -> Float:
    if not snap:
        return alpha
    out = alpha.copy()
    out[alpha <= snap] = 0
    out[alpha >= 1 - snap] = 1
    return out


_CONVERSIONS: dict[np.dtype, Callable[[NDArray], NDArray]] = {
    np.dtype(np.float32): to_float,
    np.dtype(np.uint8): to_uint8,
    np.dtype(np.uint16): to_uint16,
}
