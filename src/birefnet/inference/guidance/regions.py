"""Regions that people point at: boxes and points, in pixels or shares of the picture, and masks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from birefnet.errors import UsageError, counted
from birefnet.imaging.box import Box
from birefnet.imaging.picture import Alpha, Picture, Pixels
from birefnet.imaging.values import Point
from birefnet.inference.guidance.channel import Guide

Predict: TypeAlias = Callable[..., Alpha]
"""Gives a picture's alpha matte at its own size; of a network with a guidance channel also that of
`(picture, guide)`, where the `Guide` says what is meant."""

Corners: TypeAlias = Sequence[float]
"""x0, y0, x1, y1: pixels, or shares of width and height where all four lie in [0, 1]."""


@dataclass(frozen=True, eq=False)
class Guidance:
    """Which object of a picture is meant.

    Attributes:
        boxes: around it; of several, the matte is their union.
        points: on it, and on what it is not.
        mask: H x W of the picture's size, or any other, which is resized: where it is, roughly; a
            scribble, a detector's or a segmenter's mask; bool, uint8, float in [0, 1], or any
            integers that are only 0 and 1. Copied.
        context: share of a box's longer side that is seen around it.
    """

    boxes: tuple[Corners, ...] = ()
    points: tuple[Point, ...] = ()
    mask: Pixels | None = None
    context: float = 0.25

    def __bool__(self) -> bool:
        return bool(self.boxes or self.points) or self.mask is not None

    def __post_init__(self) -> None:
        kinds = bool(self.boxes) + bool(self.points) + (self.mask is not None)
        if kinds > 1:
            raise UsageError("got boxes, points and a mask together; give one kind of guidance")
        if self.points and not any(point.is_object for point in self.points):
            raise UsageError("all points are on what is not meant; give one on the object")
        if self.mask is not None:
            mask = np.array(self.mask)
            if mask.dtype.kind in "iu" and np.isin(mask, (0, 1)).all():
                mask = mask.astype(bool)
            if mask.dtype.kind != "f" and mask.dtype not in (bool, np.uint8, np.uint16):
                raise UsageError(
                    f"the mask is of type {mask.dtype}; expected bool, uint8, uint16 or float"
                )
            object.__setattr__(self, "mask", mask)
        if self.context < 0:
            raise UsageError(f"context is {self.context}; give 0 or more")


def to_box(corners: Corners, height: int, width: int) -> Box:
    """The box in whole pixels, clipped to a picture of `height` x `width`.

    Raises:
        BiRefNetError: it is empty, or lies outside.
    """
    if len(corners) != 4:
        raise UsageError(f"a box is x0,y0,x1,y1; got {counted(len(corners), 'number')}")
    x0, y0, x1, y1 = corners
    if all(0 <= value <= 1 for value in corners):
        x0, x1, y0, y1 = x0 * width, x1 * width, y0 * height, y1 * height
    left, top = max(0, int(np.floor(x0))), max(0, int(np.floor(y0)))
    right, bottom = min(width, int(np.ceil(x1))), min(height, int(np.ceil(y1)))
    if right <= left or bottom <= top:
        raise UsageError(
            f"the box {','.join(f'{value:g}' for value in corners)} holds no pixel of a picture of "
            f"{width} x {height}; give x0,y0,x1,y1 with x0 < x1 and y0 < y1, in pixels or as shares"
        )
    return Box(top, left, bottom - top, right - left)


def cut(picture: Picture, box: Box) -> Picture:
    """The box's part of a picture, as a picture."""
    alpha = None if picture.alpha is None else box.cut(picture.alpha)
    return replace(picture, pixels=box.cut(picture.pixels), alpha=alpha)


def see(predict: Predict, picture: Picture, view: Box, guide: Guide | None) -> Alpha:
    """The matte of the box's part of a picture, guided if there is a guide."""
    part = cut(picture, view)
    return predict(part) if guide is None else predict(part, guide.within(view))
