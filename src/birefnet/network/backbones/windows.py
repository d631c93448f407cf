"""Shifted windows as index maps: which token goes where, and which may see which.

Padding, cyclic shift and partition of Swin compose into one gather, their inverses into another.
Windows that hold padding or the seam of the shift ("edge" windows, a row and a column or two of
them) are kept behind the others, so that only they pay for empty slots and for masks.
"""

from __future__ import annotations

import itertools
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from birefnet.network.execution import pinned

HIDDEN = -100.0  # the released networks hide by this, not by minus infinity; kept for equality


class WindowPlan(NamedTuple):
    """Index maps between the tokens of a batch of maps and the slots of their windows.

    T is the number of tokens of the batch (B * H * W, row by row), N the slots of a window (its
    side squared).

    Attributes:
        order: (T,) token at each place of the window order: those of the inner windows slot by
            slot, then those of the edge windows, leaving out empty slots.
        inner: how many of them are in inner windows.
        fill: (edge windows * N,) position, counted behind `inner`, of the token in each slot of the
            edge windows; 0 in empty slots.
        empty: those of these slots that are empty.
        kinds: (edge windows,) which seams cross the window: 0 none, 1 a vertical, 2 a horizontal,
            3 both; `None` without a shift.
        masks: (4, 1, N, N) what is added to the attention in a window of each kind.
        home: (T,) slot of each token, edge windows counted behind the inner ones.
    """

    order: Tensor
    inner: int
    fill: Tensor
    empty: Tensor
    kinds: Tensor | None
    masks: Tensor
    home: Tensor


def window_plan(x: Tensor, size: tuple[int, int], window: int, shift: int) -> WindowPlan:
    """The plan for tokens `x` (B, H * W, C) of maps of `size` (H, W), on x's device.

    Maps are padded right and bottom to whole windows of side `window`, then rolled up and left by
    `shift`.
    """
    arguments = (int(x.shape[0]), int(size[0]), int(size[1]), window, shift, x.device)
    # Tracing gives tensors that must not outlive it.
    if torch.compiler.is_compiling() or type(x) is not Tensor:
        return _plan(*arguments)
    return pinned(_kept_plan(*arguments))


def _slots(
    height: int, width: int, window: int, shift: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Token in each slot of each window, -1 in empty ones, (windows, N); the windows' kinds."""
    rows, columns = -(-height // window), -(-width // window)
    y = (np.arange(rows * window) + shift) % (rows * window)
    x = (np.arange(columns * window) + shift) % (columns * window)
    inside = (y < height)[:, None] & (x < width)
    tokens = np.where(inside, y[:, None] * width + x, -1)
    tokens = tokens.reshape(rows, window, columns, window).transpose(0, 2, 1, 3)
    kinds = np.zeros((rows, columns), dtype=np.int64)
    if shift:
        kinds[:, -1] += 1
        kinds[-1] += 2
    return tokens.reshape(rows * columns, window * window), kinds.ravel()


@lru_cache(maxsize=64)
def _kept_plan(
    batch: int, height: int, width: int, window: int, shift: int, device: torch.device
) -> WindowPlan:
    with torch.inference_mode(False):  # training may meet the same size later
        return _plan(batch, height, width, window, shift, device)


def _plan(
    batch: int, height: int, width: int, window: int, shift: int, device: torch.device
) -> WindowPlan:
    slots, kinds = _slots(height, width, window, shift)
    edge = (kinds > 0) | (slots < 0).any(axis=1)
    starts = (np.arange(batch) * height * width)[:, None, None]
    inner_tokens = (starts + slots[~edge]).ravel()
    edge_tokens = np.where(slots[edge] < 0, -1, starts + slots[edge]).ravel()
    taken = edge_tokens >= 0
    order = np.concatenate([inner_tokens, edge_tokens[taken]])
    home = np.empty_like(order)
    home[order] = np.concatenate(
        [np.arange(inner_tokens.size), inner_tokens.size + np.flatnonzero(taken)]
    )

    def tensor(values: NDArray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values, dtype=np.int64)).to(device)

    return WindowPlan(
        order=tensor(order),
        inner=inner_tokens.size,
        fill=tensor(np.where(taken, np.cumsum(taken) - 1, 0)),
        empty=tensor(np.flatnonzero(~taken)),
        kinds=tensor(np.tile(kinds[edge], batch)) if shift else None,
        masks=torch.from_numpy(seam_masks(window, shift)).to(device)[:, None],
        home=tensor(home),
    )


class WindowChunk(NamedTuple):
    """Some windows that one seam mask fits, small enough to stay in a processor's cache.

    Attributes:
        kind: which seams cross these windows: 0 none, 1 a vertical, 2 a horizontal, 3 both.
        tokens: (t,) tokens of the batch that they hold, slot by slot, without empty slots.
        fill: (windows * N,) position in `tokens` of the token in each slot, 0 in empty ones; `None`
            if no slot is empty.
        empty: those of the slots that are empty.
        taken: those that are not.
    """

    kind: int
    tokens: Tensor
    fill: Tensor | None
    empty: Tensor | None
    taken: Tensor | None


@lru_cache(maxsize=64)
def window_chunks(
    batch: int, height: int, width: int, window: int, shift: int, most: int
) -> list[WindowChunk]:
    """All windows of a batch of maps, on the CPU, in chunks of at most `most` tokens or one window.

    Maps are padded and rolled as in `window_plan`.
    """
    slots, kinds = _slots(height, width, window, shift)
    starts = (np.arange(batch) * height * width)[:, None, None]
    slots = np.where(slots < 0, -1, starts + slots).reshape(-1, window**2)
    kinds = np.tile(kinds, batch)
    has_empty = (slots < 0).any(axis=1)
    step = max(1, most // window**2)
    chunks: list[WindowChunk] = []
    for kind, padded in itertools.product(range(4), (False, True)):
        alike = slots[(kinds == kind) & (has_empty == padded)]
        chunks += [
            _chunk(kind, alike[first : first + step].ravel(), padded)
            for first in range(0, len(alike), step)
        ]
    return chunks


def _chunk(kind: int, slots: NDArray[np.int64], padded: bool) -> WindowChunk:
    taken = slots >= 0
    with torch.inference_mode(False):
        tokens = torch.from_numpy(slots[taken])
        if not padded:
            return WindowChunk(kind, tokens, None, None, None)
        fill = np.where(taken, np.cumsum(taken) - 1, 0)
        parts = (fill, np.flatnonzero(~taken), np.flatnonzero(taken))
        return WindowChunk(kind, tokens, *map(torch.from_numpy, parts))


# What torch.compiler.assume_constant_result would set; calling that imports the whole compiler, a
# second at every start.
_plan.__dict__["_dynamo_marked_constant"] = True


def seam_masks(window: int, shift: int) -> NDArray[np.float32]:
    """The attention masks for a window of each kind: (4, N, N), 0 or `HIDDEN`.

    Row: the slot that looks, column: the slot looked at. A seam leaves `shift` rows (columns) of
    the opposite side of the map at the bottom (right) of a window.
    """
    behind = np.arange(window) >= window - shift
    vertical = np.tile(behind, window)
    horizontal = np.repeat(behind, window)
    apart_x = vertical[:, None] != vertical
    apart_y = horizontal[:, None] != horizontal
    masks = np.stack([np.zeros_like(apart_x), apart_x, apart_y, apart_x | apart_y])
    return np.where(masks, np.float32(HIDDEN), np.float32(0.0))


def relative_position_index(window: int) -> Tensor:
    """Row of the bias table for each pair of slots: (N, N) int64, 0 to (2 * window - 1)² - 1.

    Counted on the default device, so that a network can be built on "meta".
    """
    side = torch.arange(window)
    y = side.repeat_interleave(window)
    x = side.repeat(window)
    dy = y[:, None] - y + window - 1
    dx = x[:, None] - x + window - 1
    return dy * (2 * window - 1) + dx
