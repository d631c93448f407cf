"""Derivative of deformable convolution, compiled by numba: training on CPUs in float32.

The same tables, pieces and matrix products as `portable.backward`, but samples are located,
gathered and differentiated in one sweep that keeps the four rows in registers. Forward passes
gain nothing from it. Python threads share the pixels of a piece: numba's own parallel loops would
bring a second thread pool, and one that must not be forked.
"""

from __future__ import annotations

import functools
import math
import os
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from birefnet.compiling import announced
from birefnet.network.deform.portable import BORDER, Grid, from_pixel_table, pixel_table

_MOST_THREADS = 16  # each needs its own copy of the table's gradient
_LEAST_SAMPLES = 4_096  # per thread; below this a thread costs more than it saves
# Infinities and NaN keep their meaning: only the order of additions is free.
_compile = numba.njit(
    nogil=True, cache=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz"}
)

if os.environ.get("NUMBA_DISABLE_JIT", "0") != "0":
    raise ImportError("numba's compiler is switched off, so its kernels would be slow")


@_compile
def _locate(y, x, height, width):  # type: ignore[no-untyped-def]
    """Row of the table of the corner top left, and the distances from it; see BORDER."""
    # Written so that NaN, for which every comparison is false, is replaced for the address alone.
    near_y = y if y > np.float32(-BORDER) else np.float32(-BORDER)
    near_x = x if x > np.float32(-BORDER) else np.float32(-BORDER)
    near_y = min(near_y, np.float32(height + 1))
    near_x = min(near_x, np.float32(width + 1))
    top = min(np.int64(math.floor(near_y)), height)
    left = min(np.int64(math.floor(near_x)), width)
    down = near_y - np.float32(top) if y == y else y
    right = near_x - np.float32(left) if x == x else x
    return (top + BORDER) * (width + 2 * BORDER) + left + BORDER, down, right


@_compile
def _differentiate(  # type: ignore[no-untyped-def]
    thread, start, stop, table, offset, mask, height, width, size, padding, out_width, origin,
    columns, grad_columns, grad_tables, grad_offset, grad_mask,
):  # fmt: skip
    """Turns gradients of the sampled values into those of table, offset and mask, and refills the
    sampled values `columns` themselves, for the pixels from start to stop of all images.

    `columns` and `grad_columns` have shape [pixel - origin, tap, C]; `mask` of size 0 means None.
    """
    pixels, pitch = offset.shape[2], width + 2 * BORDER
    for i in range(start, stop):
        image = i // pixels
        pixel = i - image * pixels
        row = pixel // out_width
        column = pixel - row * out_width
        rows, grad_rows = table[image], grad_tables[thread, image]
        tap = 0
        for tap_row in range(size):
            for tap_column in range(size):
                first, down, right = _locate(
                    np.float32(row + tap_row - padding) + offset[image, 2 * tap, pixel],
                    np.float32(column + tap_column - padding) + offset[image, 2 * tap + 1, pixel],
                    height,
                    width,
                )
                scale = mask[image, tap, pixel] if mask.size else np.float32(1)
                below = scale * down
                above = scale - below
                factor_1, factor_3 = above * right, below * right
                factor_0, factor_2 = above - factor_1, below - factor_3
                row_0, row_1 = rows[first], rows[first + 1]
                row_2, row_3 = rows[first + pitch], rows[first + pitch + 1]
                sample, grad = columns[i - origin, tap], grad_columns[i - origin, tap]
                product_0 = product_1 = product_2 = product_3 = np.float32(0)
                for c in range(sample.size):
                    g, a, b, d, e = grad[c], row_0[c], row_1[c], row_2[c], row_3[c]
                    sample[c] = factor_0 * a + factor_1 * b + factor_2 * d + factor_3 * e
                    product_0 += g * a
                    product_1 += g * b
                    product_2 += g * d
                    product_3 += g * e
                # Two sweeps: the compiler vectorises one that writes two rows, not four.
                grad_0, grad_1 = grad_rows[first], grad_rows[first + 1]
                for c in range(sample.size):
                    grad_0[c] += factor_0 * grad[c]
                    grad_1[c] += factor_1 * grad[c]
                grad_2, grad_3 = grad_rows[first + pitch], grad_rows[first + pitch + 1]
                for c in range(sample.size):
                    grad_2[c] += factor_2 * grad[c]
                    grad_3[c] += factor_3 * grad[c]
                step_above, step_below = product_1 - product_0, product_3 - product_2
                value_above = product_0 + step_above * right
                value_below = product_2 + step_below * right
                if mask.size:
                    grad_mask[image, tap, pixel] = value_above + (value_below - value_above) * down
                grad_offset[image, 2 * tap, pixel] = scale * (value_below - value_above)
                grad_offset[image, 2 * tap + 1, pixel] = scale * (
                    step_above + (step_below - step_above) * down
                )
                tap += 1


def backward(
    grad: Tensor, x: Tensor, offset: Tensor, mask: Tensor | None, weight: Tensor, padding: int
) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
    """As `portable.backward`."""
    grid = Grid.of(x, weight, padding)
    kernel = weight.permute(2, 3, 1, 0).reshape(-1, len(weight))
    table = pixel_table(x, offset.dtype)
    grad_x, grad_offset = torch.empty_like(x), offset.new_empty(offset.shape)
    grad_mask = None if mask is None else mask.new_empty(mask.shape)
    grad_kernel = torch.zeros_like(kernel, dtype=offset.dtype)
    for images, ranges in grid.pieces(x.device):
        inputs = _inputs(table[images], offset[images], mask, images, grid)
        outputs = (_maps(grad_offset[images]), _maps_or_none(grad_mask, images))
        columns = _columns(images, ranges, grid)
        grad_tables = table.new_zeros(_threads(), *table[images].shape)
        for pixels in ranges:
            grad_out = grad[images, pixels].flatten(0, 1)
            piece = columns[: len(grad_out)]
            grad_columns = torch.mm(grad_out, kernel.t()).to(offset.dtype).view(piece.shape)
            _share(
                len(piece), pixels, grid, *inputs, pixels.start, _array(piece),
                _array(grad_columns), _array(grad_tables), *outputs,
            )  # fmt: skip
            grad_kernel += torch.mm(piece.flatten(1).to(x.dtype).t(), grad_out)
        grad_x[images] = from_pixel_table(grad_tables.sum(0), grid).to(x.dtype)
    shape = (grid.size, grid.size, grid.channels, len(weight))
    grad_weight = grad_kernel.view(shape).permute(3, 2, 0, 1).to(weight.dtype)
    return grad_x, grad_offset, grad_mask, grad_weight.contiguous()


def _inputs(
    table: Tensor, offset: Tensor, mask: Tensor | None, images: slice, grid: Grid
) -> tuple[object, ...]:
    """First arguments of the kernels, for a group of images."""
    maps = (_array(table), _maps(offset), _maps_or_none(mask, images))
    return (*maps, grid.height, grid.width, grid.size, grid.padding, grid.out_width)


def _columns(images: slice, ranges: list[slice], grid: Grid) -> Tensor:
    """Room for the sampled values of the largest piece: [pixels of all images, taps, C]."""
    pixels = (images.stop - images.start) * (ranges[0].stop - ranges[0].start)
    return torch.empty(pixels, grid.taps, grid.channels)


def _array(tensor: Tensor) -> NDArray[np.float32]:
    return tensor.detach().contiguous().numpy()


def _maps(tensor: Tensor) -> NDArray[np.float32]:
    """[images, maps, pixels]; shares memory with a contiguous tensor."""
    return _array(tensor.flatten(2))


def _maps_or_none(tensor: Tensor | None, images: slice) -> NDArray[np.float32]:
    """As `_maps`; an array of size 0 stands for None, which would compile a second kernel."""
    if tensor is None:
        return np.empty((images.stop - images.start, 0, 0), np.float32)
    return _maps(tensor[images])


def _threads() -> int:
    return min(torch.get_num_threads(), _MOST_THREADS)


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_MOST_THREADS, thread_name_prefix="birefnet-deform")


if hasattr(os, "register_at_fork"):
    # Threads do not survive a fork: the child starts its own.
    os.register_at_fork(after_in_child=_pool.cache_clear)


def _share(length: int, pixels: slice, grid: Grid, *arguments: object) -> None:
    """Runs `_differentiate` over `length` pixels from the first of `pixels`, split by threads."""
    if not _differentiate.signatures:
        with announced("the derivative of deformable convolution"):
            _differentiate(0, pixels.start, pixels.start, *arguments)
    threads = max(1, min(_threads(), length * grid.taps // _LEAST_SAMPLES))
    bounds = [pixels.start + length * thread // threads for thread in range(threads + 1)]
    others = [
        _pool().submit(_differentiate, thread, bounds[thread], bounds[thread + 1], *arguments)
        for thread in range(1, threads)
    ]
    _differentiate(0, bounds[0], bounds[1], *arguments)
    for other in others:
        other.result()
