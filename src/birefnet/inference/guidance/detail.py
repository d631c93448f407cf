"""The second pass: the edge of a matte once more, at the picture's own resolution.

The network sees a large picture much reduced, so it finds the object but not its hair. Here it sees
tiles of the picture, twice as close at each level, and only those in which the matte is undecided
or has an edge; only there does the matte change. A tile shows little of the whole, so it may only
say how things look in detail: where it differs from the matte over whole areas, it is not believed,
the less the surer the matte is.

The coarser levels work on reduced copies of picture and matte, and the last one goes through the
picture in rows of tiles; so little more than the matte itself is held.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from birefnet.imaging.box import Tiles
from birefnet.imaging.picture import Alpha, Picture
from birefnet.inference.guidance.regions import Predict, cut

PredictMany: TypeAlias = Callable[[Sequence[Picture]], Sequence[Alpha]]
"""Gives the mattes of pictures of one size, in their order."""

SURE = 0.04  # alpha this close to 0 or 1 is decided
OVERLAP = 0.25  # of neighbouring tiles, of their side
LARGEST_STEP = 2.0  # from one level to the next: tiles of less context mislead the network
TOLERANCE = 0.1  # difference from a decided matte, over an area, up to which a tile is believed
TOLERANCE_UNDECIDED = 0.6  # likewise where alpha is one half
_DOUBT = 0.2  # over which belief falls from 1 to 0, beyond the tolerance
_AREA = 2 * LARGEST_STEP  # standard deviation of what counts as an area [px of a level]
_RADIUS = round(4 * LARGEST_STEP)  # of what is redone around the undecided [px of a level]
_STRIP = 256  # rows in which a level's change is enlarged


def refine_detail(
    predict: Predict,
    picture: Picture,
    alpha: Alpha,
    *,
    side: int,
    predict_many: PredictMany | None = None,
    overwrite: bool = False,
) -> Alpha:
    """A matte with its edges redone at the picture's resolution.

    Args:
        predict: the network.
        picture: the whole.
        alpha: H x W, its matte of the first pass.
        side: of the network's input [px], the shorter one.
        predict_many: the network for several tiles at once, which it may run in batches.
        overwrite: work in the memory of `alpha`, which spares another plane of its size.

    Returns:
        H x W; equal to `alpha` where that is decided and no edge is near.
    """
    many = predict_many or (lambda parts: [predict(part) for part in parts])
    alpha = alpha if overwrite else alpha.copy()
    for reduction, seen in _reduced(picture, side):
        if reduction == 1:
            _level(many, seen, alpha, side)
            continue
        small = cv2.resize(alpha, (seen.width, seen.height), interpolation=cv2.INTER_AREA)
        before: Alpha = np.asarray(small, np.float32)
        after = before.copy()
        _level(many, seen, after, side)
        after -= before
        _add_enlarged(after, alpha)
    return alpha


def levels(reduction: float) -> list[float]:
    """How many picture pixels an input pixel stands for at each level, down to 1.

    Args:
        reduction: at the first pass.
    """
    count = int(np.ceil(np.log(reduction) / np.log(LARGEST_STEP) - 0.2)) if reduction > 1 else 0
    ratio = reduction ** (1 / count) if count else 1.0
    return [ratio**index for index in reversed(range(count))]


def _reduced(picture: Picture, side: int) -> Iterator[tuple[float, Picture]]:
    """The picture at each level, from the coarsest on; each is let go of before the next."""
    made = [picture]
    reductions = levels(max(picture.height, picture.width) / side)
    for reduction in reductions[-2::-1]:  # from the finest one that is not the picture itself
        size = [max(1, round(length / reduction)) for length in (picture.width, picture.height)]
        pixels = cv2.resize(made[-1].pixels, size, interpolation=cv2.INTER_AREA)
        own: Alpha | None = None
        if picture.alpha is not None:
            own = np.asarray(cv2.resize(picture.alpha, size, interpolation=cv2.INTER_AREA))
        made.append(replace(picture, pixels=pixels, alpha=own))
    for reduction in reductions:
        yield reduction, made.pop()


def _level(many: PredictMany, picture: Picture, alpha: Alpha, tile: int) -> None:
    """One level, in place, a row of tiles at a time."""
    height, width = alpha.shape
    tiles = Tiles.plan(height, width, tile, round(OVERLAP * tile))
    total, weights = np.zeros((2, tiles.tile[0], width), np.float32)
    above = alpha[:0]  # what the last rows were, which the next band looks at too
    across = len(tiles.lefts)
    placed = zip(tiles, tiles.weights, strict=True)
    for top, following in zip(tiles.tops, (*tiles.tops[1:], height), strict=True):
        band = _band(above, alpha[top:], tiles.tile[0])
        row = [
            (box, weight)
            for box, weight in islice(placed, across)
            if (band[:, box.left : box.right] > 0).any()
        ]
        mattes = many([cut(picture, box) for box, _ in row]) if row else []
        for (box, weight), seen in zip(row, mattes, strict=True):
            columns = slice(box.left, box.right)
            belief = weight * _belief(seen, box.cut(alpha))
            total[:, columns] += belief * seen
            weights[:, columns] += belief
        # Rows that no later tile reaches. Where neighbours were not needed or not believed, the
        # matte takes their share.
        rows = following - top
        before = alpha[top:following]
        change = total[:rows] - weights[:rows] * before
        above = np.concatenate([above, before])[-2 * _RADIUS - 1 :]
        before += band[:rows] * change
        for held in (total, weights):
            kept = held[rows:].copy()
            held[:] = 0
            held[: len(kept)] = kept


def _belief(seen: Alpha, before: Alpha) -> NDArray[np.float32]:
    """0 to 1: how far a tile is believed that contradicts the matte before.

    Finer detail averages out: an edge that becomes sharp, or moves by some pixels, is no
    contradiction, and nor is a hair; a part that comes, goes or is hollowed out is one.
    """
    difference = np.abs(cv2.GaussianBlur(seen - before, (0, 0), _AREA))
    undecided = cv2.GaussianBlur(4 * before * (1 - before), (0, 0), _AREA)
    tolerance = TOLERANCE + (TOLERANCE_UNDECIDED - TOLERANCE) * undecided
    return np.asarray(np.clip(1 + (tolerance - difference) / _DOUBT, 0, 1), np.float32)


def _band(above: Alpha, below: Alpha, rows: int) -> NDArray[np.float32]:
    """1 in the first rows of `below` where the matte is undecided or has an edge, and some pixels
    around; from there it falls to 0 within as many. `above` are the rows before."""
    part = np.concatenate([above, below[: rows + 2 * _RADIUS + 1]])
    first = len(above)
    undecided = (part > SURE) & (part < 1 - SURE)
    solid = (part >= 0.5).astype(np.uint8)
    edge = cv2.morphologyEx(solid, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
    away = (~(undecided | edge)).astype(np.uint8)
    if away.all():
        return np.zeros((min(rows, len(below)), part.shape[1]), np.float32)
    distance = cv2.distanceTransform(away, cv2.DIST_L2, 3)[first : first + rows]
    return np.clip(2 - distance / _RADIUS, 0, 1).astype(np.float32)


def _add_enlarged(change: Alpha, alpha: Alpha) -> None:
    """Add a reduced matte's change to the whole one, bilinearly, in place; 0 stays 0 to the bit."""
    height, width = alpha.shape
    position = (np.arange(height, dtype=np.float64) + 0.5) * (len(change) / height) - 0.5
    position = np.clip(position, 0, len(change) - 1)
    for first in range(0, height, _STRIP):
        rows = position[first : first + _STRIP]
        low = np.floor(rows).astype(int)
        high = np.minimum(low + 1, len(change) - 1)
        if not change[low[0] : high[-1] + 1].any():
            continue
        share = (rows - low).astype(np.float32)[:, None]
        tall = (1 - share) * change[low] + share * change[high]
        strip = alpha[first : first + _STRIP]
        strip += cv2.resize(tall, (width, len(tall)), interpolation=cv2.INTER_LINEAR)
        np.clip(strip, 0, 1, out=strip)
