"""Where a picture is cut to its subject, with a margin, and in which shape."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from birefnet.errors import BiRefNetError
from birefnet.imaging.box import Area, Box
from birefnet.imaging.picture import Alpha, PixelType
from birefnet.imaging.values import Measure

NO_MARGIN = Measure(0)
LONGEST = 65_535  # side of a frame [px]: no usual format holds more
FAINT = 1 / 255  # a shadow up to this leaves no edge where it is cut
VISIBLE = 0.05  # alpha from which on a pixel must be seen; a network's ground is rarely quite 0


@dataclass(frozen=True)
class Frame(Area):
    """A rectangle that may reach beyond the picture: `top` and `left` may be negative."""

    def cut(self, pixels: NDArray[PixelType], *, repeats: bool = False) -> NDArray[PixelType]:
        """The rectangle's part of H x W (x C); beyond the picture 0, or its edge repeated."""
        height, width = pixels.shape[:2]
        bottom, right = self.bottom, self.right
        inside = pixels[max(0, self.top) : max(0, bottom), max(0, self.left) : max(0, right)]
        above, below = max(0, -self.top), max(0, bottom - height)
        before, after = max(0, -self.left), max(0, right - width)
        if not (above or below or before or after):
            return np.ascontiguousarray(inside)
        how = cv2.BORDER_REPLICATE if repeats else cv2.BORDER_CONSTANT
        edge = (above, below, before, after)
        return np.asarray(cv2.copyMakeBorder(inside, *edge, how, value=[0] * 4), pixels.dtype)


def visible_box(
    alpha: Alpha, shadow: Alpha | None = None, around: Frame | None = None
) -> Area | None:
    """The smallest box with all that is seen of a subject and its shadow; `None` for nothing.

    Args:
        alpha: H x W.
        shadow: H x W, or of the frame `around`, which may reach beyond the picture.
    """
    box = Box.around(alpha, VISIBLE)
    dark = None if shadow is None else Box.around(shadow, FAINT)
    if box is None or dark is None:
        return box
    assert shadow is not None
    dark = dark.grow(1, *shadow.shape)  # the first pixels that are fainter
    top, left = (0, 0) if around is None else (around.top, around.left)
    return union([box, Frame(dark.top + top, dark.left + left, dark.height, dark.width)])


def union(boxes: Iterable[Area | None]) -> Frame | None:
    """The smallest frame that holds all of them; `None` for none."""
    seen = [box for box in boxes if box is not None]
    if not seen:
        return None
    top, left = min(box.top for box in seen), min(box.left for box in seen)
    bottom, right = max(box.bottom for box in seen), max(box.right for box in seen)
    return Frame(top, left, bottom - top, right - left)


def frame_around(
    box: Area,
    height: int,
    width: int,
    *,
    margin: Measure = NO_MARGIN,
    aspect: float | None = None,
) -> Frame:
    """Where to cut a picture of `height` x `width` to what is in a box.

    Args:
        box: what must be seen.
        margin: added on each side, a share of the box's longer side; not where the box touches the
            picture's border, for the subject is cut off there. Box and margin may reach beyond the
            picture.
        aspect: width over height; the shorter direction is widened, equally on both sides, except
            away from a border that the box touches.

    Raises:
        BiRefNetError: a margin that makes a picture too large for any file.
    """
    pixels = margin.of(max(box.height, box.width))
    top = 0 if box.top == 0 else pixels
    left = 0 if box.left == 0 else pixels
    bottom = 0 if box.bottom == height else pixels
    right = 0 if box.right == width else pixels
    high, wide = box.height + top + bottom, box.width + left + right
    if aspect is not None:
        more_high = max(0, round(wide / aspect) - high)
        more_wide = max(0, round(high * aspect) - wide)
        top += _before(more_high, box.top == 0, box.bottom == height)
        left += _before(more_wide, box.left == 0, box.right == width)
        high, wide = high + more_high, wide + more_wide
    if max(high, wide) > LONGEST:
        raise BiRefNetError(
            f"the margin makes a picture of {wide} x {high} pixels; choose one of which no side is "
            f"longer than {LONGEST}"
        )
    return Frame(box.top - top, box.left - left, high, wide)


def _before(more: int, touches_first: bool, touches_last: bool) -> int:
    """How much of an addition goes to the first side."""
    if touches_first == touches_last:
        return more // 2
    return 0 if touches_first else more
