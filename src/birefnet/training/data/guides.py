"""Simulated guidance: what people, detectors and segmenters say of an object, and how they err.

Drawn from a sample's mask, so a function of its random numbers like all else of it. The channel is
that of `birefnet.inference.guidance.channel`; samples carry it as levels, 128 for nothing said.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from birefnet.errors import needs_extra

with needs_extra("torch", __name__):
    from torch import Tensor

from birefnet.inference.guidance.channel import Mark, Plane, draw_boxes, draw_marks, draw_mask
from birefnet.training.data.settings import GuidanceSettings
from birefnet.training.data.sources import Pixels

_NOTHING, _SPAN = 128, 127
_LEAST = 0.0005  # share of the picture that an object must take to be pointed at
_CRUMB = 0.1  # of the largest part, below which a part need not be pointed at
_FAR = 0.12  # how far a box may be off, of its side


def to_levels(guide: Plane) -> Pixels:
    """[-1, 1] → 1 to 255."""
    return np.asarray(np.rint(guide * _SPAN) + _NOTHING, np.uint8)


def from_levels(levels: Tensor) -> Tensor:
    """The inverse of `to_levels`."""
    return (levels.float() - _NOTHING) / _SPAN


def simulate(mask: Pixels, other: Pixels, settings: GuidanceSettings, rng: Generator) -> Plane:
    """Guidance for one sample; zeros where there is too little to point at.

    Args:
        mask: H x W, 255 on the object that is meant.
        other: H x W, 255 on objects that are not.
    """
    height, width = mask.shape
    solid, others = mask > 127, other > 127
    if solid.mean() < _LEAST:
        return np.zeros((height, width), np.float32)
    kinds = {
        "box": settings.box,
        "points": settings.points,
        "scribble": settings.scribble,
        "mask": settings.mask,
    }
    shares = np.array(list(kinds.values()))
    kind = list(kinds)[int(rng.choice(len(kinds), p=shares / shares.sum()))]
    if kind == "box":
        return _box(solid, rng)
    if kind == "mask":
        return draw_mask(degrade(mask, rng))
    marks: list[Mark] = []
    for part in _parts(solid):  # several cats that are all meant are all pointed at
        if kind == "scribble":
            marks += _scribble(part, True, rng)
        else:
            marks += _points(part, True, int(rng.integers(1, 4)), rng)
    if kind == "scribble":
        if rng.random() < 0.4:
            marks += _scribble(others, False, rng)
    elif rng.random() < 0.6:
        marks += _points(others, False, int(rng.integers(1, 3)), rng)
        if rng.random() < 0.3:
            marks += _points(~(solid | others), False, 1, rng)
    return draw_marks(marks, height, width)


def _parts(solid: NDArray[np.bool_]) -> list[NDArray[np.bool_]]:
    """The connected parts of an area, but for crumbs."""
    _, labels, statistics, _ = cv2.connectedComponentsWithStats(solid.astype(np.uint8))
    areas = statistics[1:, cv2.CC_STAT_AREA]
    return [labels == i + 1 for i, area in enumerate(areas) if area >= _CRUMB * areas.max()]


def _box(solid: NDArray[np.bool_], rng: Generator) -> Plane:
    """Drawn by hand: each side is somewhat off, more often too large."""
    rows, columns = (np.flatnonzero(solid.any(axis=axis)) for axis in (1, 0))
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    size = np.array([bottom - top, right - left] * 2)
    off = rng.normal(0.02, 0.04, 4).clip(-_FAR, _FAR) * size
    corners = (top - off[0], left - off[1], bottom + off[2], right + off[3])
    return draw_boxes([corners], *solid.shape)


def _points(inside: NDArray[np.bool_], is_object: bool, count: int, rng: Generator) -> list[Mark]:
    """Places in an area, away from its edge more often than not."""
    deep = inside
    if rng.random() < 0.7:
        padded = np.pad(inside.astype(np.uint8), 1)
        distance = cv2.distanceTransform(padded, cv2.DIST_L2, 3)[1:-1, 1:-1]
        deep = distance > 0.4 * distance.max()
    rows, columns = np.nonzero(deep)
    if not len(rows):
        return []
    chosen = rng.integers(len(rows), size=count)
    return [(float(rows[i]) + 0.5, float(columns[i]) + 0.5, is_object) for i in chosen]


def _scribble(inside: NDArray[np.bool_], is_object: bool, rng: Generator) -> list[Mark]:
    """Points along a bent line between two points of an area, those of them that lie in it."""
    ends = _points(inside, is_object, 3, rng)
    if not ends:
        return []
    start, middle, end = (np.array(mark[:2]) for mark in ends)
    share = np.linspace(0, 1, 24)[:, None]
    line = (1 - share) ** 2 * start + 2 * share * (1 - share) * middle + share**2 * end
    height, width = inside.shape
    pixels = np.clip(line.astype(int), 0, [height - 1, width - 1])
    return [
        (float(row), float(column), is_object)
        for (row, column), (y, x) in zip(line, pixels, strict=True)
        if inside[y, x]
    ]


def degrade(mask: Pixels, rng: Generator) -> NDArray[np.float32]:
    """A coarse mask as detectors and segmenters give it: H x W in [0, 1].

    Some of: too large or too small, a polygon of few corners, of low resolution, shifted, with
    pieces missing; at least one of them.
    """
    height, width = mask.shape
    solid = mask > 127
    side = float(np.sqrt(solid.sum()))  # of the object
    mask = solid.astype(np.uint8)
    kinds = rng.random(5) < (0.5, 0.35, 0.35, 0.3, 0.3)
    if not kinds.any():
        kinds[int(rng.integers(5))] = True
    if kinds[0]:
        radius = max(1, round(side * rng.uniform(0.01, 0.1)))
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1,) * 2)
        grown = rng.random() < 0.6
        changed = cv2.dilate(mask, kernel) if grown else cv2.erode(mask, kernel)
        mask = np.asarray(changed if changed.any() else mask, np.uint8)
    if kinds[1]:
        outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        tolerance = side * rng.uniform(0.02, 0.08)
        corners = [cv2.approxPolyDP(outline, tolerance, True) for outline in outlines]
        drawn = cv2.fillPoly(np.zeros_like(mask), corners, [1])
        mask = np.asarray(drawn if drawn.any() else mask, np.uint8)
    if kinds[2]:
        cells = int(rng.integers(16, 65))
        small = cv2.resize(mask.astype(np.float32), (cells, cells), interpolation=cv2.INTER_AREA)
        mask = (cv2.resize(small, (width, height)) > 0.5).astype(np.uint8)
    if kinds[3]:
        down, right = rng.normal(0, 0.04, 2) * side
        shift = np.array([[1, 0, right], [0, 1, down]])
        mask = np.asarray(cv2.warpAffine(mask, shift, (width, height)), np.uint8)
    if kinds[4]:
        rows, columns = np.nonzero(mask)
        for _ in range(int(rng.integers(1, 4)) if len(rows) else 0):
            index = int(rng.integers(len(rows)))
            radius = max(1, round(side * rng.uniform(0.05, 0.2)))
            cv2.circle(mask, (int(columns[index]), int(rows[index])), radius, 0, -1)
    if not mask.any():  # nothing of a small object was left
        mask = solid.astype(np.uint8)
    coarse = mask.astype(np.float32)
    if rng.random() < 0.5:
        coarse = np.asarray(cv2.GaussianBlur(coarse, (0, 0), max(0.5, side * 0.02)), np.float32)
    return coarse
