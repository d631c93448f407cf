"""Where the subject stands in the result: size, crop, margin, scale and position.

Meanings are those of remove.bg's API (https://www.remove.bg/api, read in November 2026).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from birefnet.errors import BiRefNetError
from birefnet.imaging.box import Box
from birefnet.imaging.framing import VISIBLE
from birefnet.imaging.geometry import resize, resize_map
from birefnet.imaging.picture import Alpha
from birefnet.matte import Matte

LARGEST_MARGIN_PX = 500
LARGEST_MARGIN_SHARE = 0.5

_LENGTH = re.compile(r"(\d{1,6}(?:\.\d{1,6})?)(px|%)?")


class Length(NamedTuple):
    """Pixels, or a share of some side."""

    value: float
    is_share: bool = False

    def of(self, side: int) -> float:
        """In pixels, where the side that shares refer to has `side`."""
        return self.value * side if self.is_share else self.value


def parse_lengths(text: str, counts: tuple[int, ...]) -> list[Length]:
    """Lengths such as "30px", "10%" or "0", separated by spaces.

    Raises:
        BiRefNetError: not as many as one of `counts`, or none.
    """
    matches = [_LENGTH.fullmatch(part) for part in text.split()]
    if len(matches) not in counts or not all(matches):
        wanted = " or ".join(str(count) for count in counts)
        raise BiRefNetError(f"got {text[:60]!r}; give {wanted} lengths such as 30px or 10%")
    return [
        Length(float(match[1]) / 100, True) if match[2] == "%" else Length(float(match[1]))
        for match in matches
        if match is not None
    ]


@dataclass(frozen=True)
class Placement:
    """Crop and position of a result.

    Attributes:
        crop: leave out what is empty around the subject.
        margins: top, right, bottom and left of what `crop` leaves; shares are of its sides.
        scale: longest side of the subject as a share of that side of the canvas; `None` leaves it.
        position: of the subject, as shares of the free room from left and top; `None` leaves it
            where it was.
    """

    crop: bool = False
    margins: tuple[Length, Length, Length, Length] = (Length(0),) * 4
    scale: float | None = None
    position: tuple[float, float] | None = None

    @property
    def moves(self) -> bool:
        """Whether the subject leaves its place."""
        return self.crop or self.scale is not None or self.position is not None


def shrink(matte: Matte, max_pixels: float) -> Matte:
    """The same with at most so many pixels, its aspect ratio kept."""
    if matte.height * matte.width <= max_pixels:
        return matte
    factor = math.sqrt(max_pixels / (matte.height * matte.width))
    return _resized(matte, max(1, int(matte.height * factor)), max(1, int(matte.width * factor)))


def place(matte: Matte, placement: Placement) -> Matte:
    """The subject on its new canvas; what the picture does not cover is empty.

    Colours are the picture's: refine them before (`Matte.foreground`), for the canvas around has
    none.

    Raises:
        BiRefNetError: there is no subject to move.
    """
    if not placement.moves:
        return matte
    box = Box.around(matte.alpha, VISIBLE)
    if box is None:
        raise BiRefNetError("no subject was found that could be cropped, scaled or positioned")
    height, width = matte.height, matte.width
    # Where the box's corner lies on the canvas.
    top, left = float(box.top), float(box.left)
    if placement.crop:
        sides = (box.height, box.width, box.height, box.width)
        margins = [margin.of(side) for margin, side in zip(placement.margins, sides, strict=True)]
        top, left = float(round(margins[0])), float(round(margins[3]))
        height = box.height + round(margins[0]) + round(margins[2])
        width = box.width + round(margins[1]) + round(margins[3])
    factor = 1.0
    position = placement.position
    if placement.scale is not None:
        factor = placement.scale * min(height / box.height, width / box.width)
        position = position or (0.5, 0.5)
    if position is not None:
        left = position[0] * (width - box.width * factor)
        top = position[1] * (height - box.height * factor)
    alpha = np.zeros((height, width), np.float32)
    pixels = np.zeros((height, width, 3), matte.picture.pixels.dtype)
    part, target = _visible(matte, box, factor, (round(top), round(left)), height, width)
    part = _resized_cutout(part, target.height, target.width)
    alpha[target.slices], pixels[target.slices] = part.alpha, part.picture.pixels
    return with_pixels(matte, alpha, pixels)


def _visible(
    matte: Matte, box: Box, factor: float, corner: tuple[int, int], height: int, width: int
) -> tuple[Matte, Box]:
    """The part that will be seen when `box` lands at `corner`, and its place on the canvas.

    Only that part is enlarged, so a speck scaled to the canvas costs no more than the canvas.
    """
    spans = []
    for first, length, source, at, canvas in (
        (box.top, box.height, matte.height, corner[0], height),
        (box.left, box.width, matte.width, corner[1], width),
    ):
        before = min(first, int(at / factor))
        after = min(source - first - length, int((canvas - at) / factor) - length)
        start, stop = first - max(0, before), first + length + max(0, after)
        low = min(max(0, at - round((first - start) * factor)), canvas - 1)
        spans.append((start, stop, low, min(canvas, low + max(1, round((stop - start) * factor)))))
    (top, bottom, high, low), (left, right, near, far) = spans
    seen = Box(top, left, bottom - top, right - left)
    alpha = np.ascontiguousarray(seen.cut(matte.alpha))
    part = with_pixels(matte, alpha, seen.cut(matte.picture.pixels))
    return part, Box(high, near, low - high, far - near)


def _resized(matte: Matte, height: int, width: int) -> Matte:
    if (height, width) == (matte.height, matte.width):
        return matte
    alpha = np.clip(resize_map(matte.alpha, height, width), 0, 1)
    pixels = _like(resize(matte.picture.pixels, height, width), matte.picture.pixels)
    return with_pixels(matte, alpha, pixels)


def _resized_cutout(matte: Matte, height: int, width: int) -> Matte:
    """As `_resized`, where colours mean something only as far as alpha goes: weighted by it."""
    if (height, width) == (matte.height, matte.width):
        return matte
    weight = resize_map(matte.alpha, height, width)
    colours = np.zeros((height, width, 3), np.float32)
    for channel in range(3):
        plane = resize_map(matte.picture.pixels[..., channel] * matte.alpha, height, width)
        np.divide(plane, weight, out=colours[..., channel], where=weight > 1e-4)
    pixels = _like(colours, matte.picture.pixels)
    return with_pixels(matte, np.clip(weight, 0, 1), pixels)


def _like(values: NDArray, pixels: NDArray) -> NDArray:
    """Floats in the range of `pixels` rounded to their type."""
    if values.dtype == pixels.dtype:
        return values
    return np.clip(np.rint(values), 0, np.iinfo(pixels.dtype).max).astype(pixels.dtype)


def with_pixels(matte: Matte, alpha: Alpha, pixels: NDArray) -> Matte:
    """The same picture with another matte and other colours."""
    return Matte(alpha, replace(matte.picture, pixels=pixels, alpha=None))
