"""The second pass: the edge of a matte once more, at the picture's own resolution.

The network sees a large picture much reduced, so it finds the object but not its hair. Here it sees
tiles of the picture, twice as close at each level, and only those in which the matte is undecided
or has an edge; only there does the matte change.
"""

from __future__ import annotations

from itertools import islice

import cv2
import numpy as np
from numpy.typing import NDArray

from birefnet.guidance.regions import Alpha, Predict, cut
from birefnet.imaging.box import Box, Tiles
from birefnet.imaging.picture import Picture

SURE = 0.04  # alpha this close to 0 or 1 is decided
OVERLAP = 0.25  # of neighbouring tiles, of their side
LARGEST_STEP = 2.0  # from one level to the next: tiles of less context mislead the network
DISAGREES = 0.15  # mean difference from the decided pixels above which a tile is not believed


def refine_detail(predict: Predict, picture: Picture, alpha: Alpha, *, side: int) -> Alpha:
    """A matte with its edges redone at the picture's resolution.

    Args:
        predict: the network.
        picture: the whole.
        alpha: H x W, its matte of the first pass.
        side: of the network's input [px], the shorter one.

    Returns:
        H x W; equal to `alpha` where that is decided and no edge is near.
    """
    height, width = alpha.shape
    for reduction in levels(max(height, width) / side):
        alpha = _level(predict, picture, alpha, round(reduction * side), reduction)
    return alpha


def levels(reduction: float) -> list[float]:
    """How many picture pixels an input pixel stands for at each level, down to 1.

    Args:
        reduction: at the first pass.
    """
    count = int(np.ceil(np.log(reduction) / np.log(LARGEST_STEP) - 0.2)) if reduction > 1 else 0
    ratio = reduction ** (1 / count) if count else 1.0
    return [ratio**index for index in reversed(range(count))]


def _level(predict: Predict, picture: Picture, alpha: Alpha, tile: int, reduction: float) -> Alpha:
    """One level, a row of tiles at a time, so that little beside the matte is held."""
    height, width = alpha.shape
    tiles = Tiles.plan(height, width, tile, round(OVERLAP * tile))
    radius = max(1, round(4 * reduction * LARGEST_STEP))
    out = alpha.copy()
    total, weights = np.zeros((2, tiles.tile[0], width), np.float32)
    across = len(tiles.lefts)
    placed = zip(tiles, tiles.weights, strict=True)
    for top, following in zip(tiles.tops, (*tiles.tops[1:], height), strict=True):
        band = _band(alpha, top, top + tiles.tile[0], radius)
        for box, weight in islice(placed, across):
            columns = slice(box.left, box.right)
            seen = _seen(predict, picture, alpha, box, band[:, columns])
            if seen is not None:
                total[:, columns] += weight * seen
                weights[:, columns] += weight
        # Rows that no later tile reaches. Where neighbours were not needed or not believed, the
        # matte takes their share.
        rows = following - top
        before = alpha[top:following]
        change = total[:rows] - weights[:rows] * before
        out[top:following] = before + band[:rows] * change
        for held in (total, weights):
            kept = held[rows:].copy()
            held[:] = 0
            held[: len(kept)] = kept
    return out


def _seen(
    predict: Predict, picture: Picture, alpha: Alpha, box: Box, band: NDArray[np.float32]
) -> Alpha | None:
    """What the network sees in a tile; `None` if it need not look, or contradicts the matte."""
    if not (band > 0).any():
        return None
    seen = predict(cut(picture, box))
    decided = band == 0
    if decided.any() and np.abs(seen - box.cut(alpha))[decided].mean() > DISAGREES:
        return None
    return seen


def _band(alpha: Alpha, top: int, bottom: int, radius: int) -> NDArray[np.float32]:
    """1 in the rows where the matte is undecided or has an edge, and `radius` pixels around; from
    there it falls to 0 within as many."""
    first, last = max(0, top - 2 * radius - 1), min(len(alpha), bottom + 2 * radius + 1)
    part = alpha[first:last]
    undecided = (part > SURE) & (part < 1 - SURE)
    solid = (part >= 0.5).astype(np.uint8)
    edge = cv2.morphologyEx(solid, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
    away = (~(undecided | edge)).astype(np.uint8)
    if away.all():
        return np.zeros((bottom - top, alpha.shape[1]), np.float32)
    distance = cv2.distanceTransform(away, cv2.DIST_L2, 3)[top - first : bottom - first]
    return np.clip(2 - distance / radius, 0, 1).astype(np.float32)
