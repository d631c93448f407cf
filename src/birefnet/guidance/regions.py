"""What people point at: boxes and points, in pixels or as shares of the picture, and masks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from birefnet.errors import UsageError
from birefnet.guidance.channel import Guide
from birefnet.imaging.box import Box
from birefnet.imaging.picture import Picture

Alpha: TypeAlias = NDArray[np.float32]
"""H x W in [0, 1]."""

Predict: TypeAlias = Callable[..., Alpha]
"""Gives a picture's alpha matte at its own size; of a network with a guidance channel also that of
`(picture, guide)`, where the `Guide` says what is meant."""

Corners: TypeAlias = Sequence[float]
"""x0, y0, x1, y1: pixels, or shares of width and height where all four lie in [0, 1]."""


@dataclass(frozen=True)
class Point:
    """A place on the object that is meant, or on one that is not.

    Attributes:
        x, y: pixels from the left and the top; shares of width and height where both are floats in
            [0, 1].
        is_object: whether the object is there.
    """

    x: float
    y: float
    is_object: bool = True

    def at(self, height: int, width: int) -> tuple[int, int]:
        """Row and column in a picture of this size [px].

        Raises:
            BiRefNetError: the point lies outside.
        """
        is_share = isinstance(self.x, float) and isinstance(self.y, float)
        is_share = is_share and 0 <= self.x <= 1 and 0 <= self.y <= 1
        x, y = (self.x * width, self.y * height) if is_share else (self.x, self.y)
        if is_share:
            x, y = min(x, width - 1), min(y, height - 1)
        if not (0 <= x < width and 0 <= y < height):
            raise UsageError(
                f"the point {self.x:g},{self.y:g} lies outside the picture of {width} x {height} "
                "pixels; give x,y in pixels from the top left corner, or as shares from 0.0 to 1.0"
            )
        return int(y), int(x)


@dataclass(frozen=True, eq=False)
class Guidance:
    """Which object of a picture is meant.

    Attributes:
        boxes: around it; of several, the matte is their union.
        points: on it, and on what it is not.
        mask: H x W of the picture's size, or any other, which is resized: where it is, roughly; a
            scribble, a detector's or a segmenter's mask; bool, uint8 or float in [0, 1]. Copied.
        context: share of a box's longer side that is seen around it.
    """

    boxes: tuple[Corners, ...] = ()
    points: tuple[Point, ...] = ()
    mask: NDArray[Any] | None = None
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
            object.__setattr__(self, "mask", np.array(self.mask))
        if self.context < 0:
            raise UsageError(f"context is {self.context}; give 0 or more")


def to_box(corners: Corners, height: int, width: int) -> Box:
    """The box in whole pixels, clipped to a picture of `height` x `width`.

    Raises:
        BiRefNetError: it is empty, or lies outside.
    """
    if len(corners) != 4:
        raise UsageError(f"a box is x0,y0,x1,y1; got {len(corners)} numbers")
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


def parse_box(text: str) -> tuple[float, float, float, float]:
    """`x0,y0,x1,y1` as typed.

    Raises:
        BiRefNetError: anything else.
    """
    values = _numbers(text)
    if len(values) != 4:
        raise UsageError(f"{text!r} is no box; give x0,y0,x1,y1 in pixels or as shares")
    return values[0], values[1], values[2], values[3]


def parse_point(text: str, *, is_object: bool = True) -> Point:
    """`x,y` as typed; with a decimal point in both, they are shares.

    Raises:
        BiRefNetError: anything else.
    """
    values = _numbers(text)
    if len(values) != 2:
        raise UsageError(f"{text!r} is no point; give x,y in pixels or as shares such as 0.5,0.4")
    return Point(values[0], values[1], is_object)


def _numbers(text: str) -> list[Any]:
    try:
        return [float(part) if "." in part else int(part) for part in text.split(",")]
    except ValueError:
        return []
