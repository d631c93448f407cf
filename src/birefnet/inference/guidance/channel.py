"""Guidance as the fourth channel of a network that was trained with one.

See `birefnet.network.guidance` for the channel's values. Here they are:
- A box is `BOX` inside and -1 outside: the object is in it, not all of it.
- A point is a hill of `RADIUS` around it, up to 1 on the object and down to -1 on what it is not;
  far from all points nothing is said.
- A coarse mask goes from -1 to 1: a scribble is not a mask, but a row of points.
`birefnet.training.data.guides` draws the training's guidance with the same functions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from birefnet.imaging.box import Box
from birefnet.imaging.geometry import Geometry, resize_map

BOX = 0.5
RADIUS = 0.03  # standard deviation of a point's hill, of the longer side of what is seen
_REACH = 3.0  # standard deviations after which a hill is 0

Plane = NDArray[np.float32]
"""h x w in [-1, 1]."""

Mark = tuple[float, float, bool]
"""Row, column [px], and whether the object is there."""


@dataclass(frozen=True, eq=False)
class Guide:
    """Guidance in the pixels of one view of a picture.

    Attributes:
        boxes: around the object.
        marks: points on it, and on what it is not.
        mask: of the view's size, 1 on the object, roughly.
    """

    boxes: tuple[Box, ...] = ()
    marks: tuple[Mark, ...] = ()
    mask: NDArray[np.float32] | None = None

    def within(self, view: Box) -> Guide:
        """The same for a part of the view."""
        marks = tuple(
            (row - view.top, column - view.left, is_object) for row, column, is_object in self.marks
        )
        boxes = tuple(filter(None, (_overlap(box, view) for box in self.boxes)))
        mask = None if self.mask is None else view.cut(self.mask)
        return Guide(boxes, marks, mask)

    def draw(self, geometry: Geometry) -> Plane:
        """The channel beside a picture that `geometry` prepares, at the size of the input."""
        out = np.zeros(geometry.input, np.float32)
        content = geometry.box.cut(out)
        height, width = content.shape
        scale = height / geometry.source[0], width / geometry.source[1]
        if self.boxes:
            content[...] = draw_boxes(_scaled(self.boxes, scale), height, width)
        if self.mask is not None:
            content[...] = draw_mask(resize_map(self.mask, height, width))
        if self.marks:
            marks = [((r + 0.5) * scale[0], (c + 0.5) * scale[1], on) for r, c, on in self.marks]
            content += draw_marks(marks, height, width)
            np.clip(content, -1, 1, out=content)
        return out


def draw_boxes(corners: Iterable[Sequence[float]], height: int, width: int) -> Plane:
    """Boxes (top, left, bottom, right [px]) as a channel."""
    out = np.full((height, width), -1, np.float32)
    for top, left, bottom, right in corners:
        rows = slice(max(0, int(top)), max(int(top) + 1, int(np.ceil(bottom))))
        columns = slice(max(0, int(left)), max(int(left) + 1, int(np.ceil(right))))
        out[rows, columns] = BOX
    return out


def draw_marks(marks: Iterable[Mark], height: int, width: int) -> Plane:
    """Points as a channel; the nearest one of each kind counts, and kinds add up."""
    both = np.zeros((2, height, width), np.float32)
    sigma = max(1.0, RADIUS * max(height, width))
    reach = int(np.ceil(_REACH * sigma))
    for row, column, is_object in marks:
        top, left = max(0, int(row) - reach), max(0, int(column) - reach)
        rows = np.arange(top, min(height, int(row) + reach + 1))
        columns = np.arange(left, min(width, int(column) + reach + 1))
        if not len(rows) or not len(columns):
            continue
        y, x = (rows + 0.5 - row) / sigma, (columns + 0.5 - column) / sigma
        hill = np.exp(-0.5 * (y[:, None] ** 2 + x[None] ** 2)).astype(np.float32)
        part = both[int(is_object), top : rows[-1] + 1, left : columns[-1] + 1]
        np.maximum(part, hill, out=part)
    return both[1] - both[0]


def draw_mask(mask: NDArray[np.float32]) -> Plane:
    """A coarse mask in [0, 1] as a channel."""
    return np.clip(2 * mask - 1, -1, 1).astype(np.float32)


def _scaled(boxes: Sequence[Box], scale: tuple[float, float]) -> list[tuple[float, ...]]:
    down, right = scale
    return [(b.top * down, b.left * right, b.bottom * down, b.right * right) for b in boxes]


def _overlap(box: Box, view: Box) -> Box | None:
    """The part of `box` in `view`, in its pixels; `None` where there is none."""
    top, left = max(box.top, view.top), max(box.left, view.left)
    bottom, right = min(box.bottom, view.bottom), min(box.right, view.right)
    if bottom <= top or right <= left:
        return None
    return Box(top - view.top, left - view.left, bottom - top, right - left)
