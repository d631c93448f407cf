"""The object under points, or near a coarse mask: which connected parts of a matte are meant."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from birefnet.errors import BiRefNetError
from birefnet.imaging.box import Box
from birefnet.imaging.geometry import resize_map
from birefnet.imaging.guided import guided_filter
from birefnet.imaging.objects import FAINT, owners
from birefnet.imaging.picture import Alpha, Picture, Pixels, to_float, to_uint8
from birefnet.inference.guidance.boxes import matte_in_box
from birefnet.inference.guidance.channel import Guide
from birefnet.inference.guidance.regions import Point, Predict, see

_CLOSER = (1.0, 0.5, 0.25)  # sides of the crops around points that are tried, of the picture's
_SCRIBBLE = 0.2  # thickness of a line, of its box's longer side, at most
_SCRIBBLE_POINTS = 16
_REACH = 0.02  # how far beside an object a point may lie, of the picture's longer side


def matte_at_points(
    predict: Predict,
    picture: Picture,
    points: Sequence[Point],
    *,
    context: float = 0.25,
    has_channel: bool = False,
) -> Alpha:
    """The matte of the object that the points are on, 0 elsewhere.

    Of the parts of the picture's matte, those with a point on the object are kept. Where there is
    none, the network looks closer around the points. What is found is then seen once more in its
    own box. Parts that hold points of both kinds are divided along the picture's edges.

    Args:
        predict: the network.
        picture: the whole.
        points: at least one on the object.
        context: see `matte_in_box`.
        has_channel: the network has a guidance channel, which then shows the points.

    Returns:
        H x W of the whole picture; zeros where no object is found at the points.
    """
    height, width = picture.pixels.shape[:2]
    positive = [point.at(height, width) for point in points if point.is_object]
    negative = [point.at(height, width) for point in points if not point.is_object]
    if not positive:
        raise BiRefNetError("all points are on what is not meant; give one on the object")
    guide = None
    if has_channel:
        marks = [(*point, True) for point in positive] + [(*point, False) for point in negative]
        guide = Guide(marks=tuple(marks))
    alpha = _closest(predict, picture, positive, negative, guide)
    box = Box.around(alpha)
    if box is None:
        return np.zeros((height, width), np.float32)
    closer = matte_in_box(predict, picture, box, context=context, guide=guide)
    closer = _chosen(picture, closer, positive, negative)
    # A closer view that loses the object says less than the first one.
    overlap = np.minimum(alpha, closer).sum()
    return closer if overlap > 0.5 * alpha.sum() else alpha


def matte_near_mask(
    predict: Predict,
    picture: Picture,
    mask: Pixels,
    *,
    context: float = 0.25,
    has_channel: bool = False,
) -> Alpha:
    """The matte of the object that a coarse mask marks.

    The network sees the mask's box; the parts that it finds there and that the mask covers are
    kept. Where the network sees something else than the mask, the mask itself is fitted to the
    picture's edges by a guided filter instead. A scribble is taken for points on the object.

    Args:
        predict: the network.
        picture: the whole.
        mask: H x W of any size, bool, uint8 or float in [0, 1]: where the object is, roughly.
        context: see `matte_in_box`.
        has_channel: the network has a guidance channel, which then shows the mask.

    Returns:
        H x W of the whole picture; zeros for an empty mask.

    Raises:
        BiRefNetError: the mask is not a map of numbers from 0 to 1.
    """
    height, width = picture.pixels.shape[:2]
    coarse = to_float(mask.astype(np.uint8) * 255 if mask.dtype == bool else mask)
    if coarse.ndim != 2 or not coarse.size:
        raise BiRefNetError(f"got a mask of shape {mask.shape}; expected H x W")
    if not ((coarse >= 0) & (coarse <= 1)).all():  # NaN is neither
        raise BiRefNetError("the mask holds numbers outside 0 to 1, or NaN; scale or clip them")
    coarse = resize_map(coarse, height, width)
    box = Box.around(coarse)
    if box is None:
        return np.zeros((height, width), np.float32)
    solid = coarse >= 0.5
    if _is_scribble(solid, box):
        rows, columns = np.nonzero(solid)
        indices = np.linspace(0, len(rows) - 1, min(len(rows), _SCRIBBLE_POINTS)).astype(int)
        points = [Point(int(columns[index]), int(rows[index])) for index in indices]
        return matte_at_points(predict, picture, points, context=context, has_channel=has_channel)
    guide = Guide(mask=coarse) if has_channel else None
    alpha = matte_in_box(predict, picture, box, context=context, guide=guide)
    count, labels = owners(alpha)
    whole = np.bincount(labels.ravel(), minlength=count + 1)
    covered = np.bincount(labels[solid], minlength=count + 1)
    parts = [part for part in range(1, count + 1) if covered[part] > 0.1 * whole[part]]
    alpha = keep(alpha, labels, parts)
    seen = float(alpha[solid].mean())
    if seen >= 0.5:
        return alpha
    side = max(box.height, box.width)
    fitted = guided_filter(to_uint8(picture.pixels), coarse, radius=max(2, round(0.03 * side)))
    return np.maximum(fitted, alpha)


def _is_scribble(solid: NDArray[np.bool_], box: Box) -> bool:
    """Whether the mark is a line rather than an area: nowhere thick for its extent."""
    inside = np.pad(box.cut(solid).astype(np.uint8), 1)
    thickness = 2 * float(cv2.distanceTransform(inside, cv2.DIST_L2, 3).max())
    return thickness < _SCRIBBLE * max(box.height, box.width)


def _closest(
    predict: Predict,
    picture: Picture,
    positive: list[tuple[int, int]],
    negative: list[tuple[int, int]],
    guide: Guide | None,
) -> Alpha:
    """The object at the points in the first view, from far to close, that shows one there."""
    height, width = picture.pixels.shape[:2]
    rows, columns = zip(*positive, strict=True)
    empty = np.zeros((height, width), np.float32)
    for share in _CLOSER:
        view = _around(rows, columns, share, height, width)
        alpha = view.embed(see(predict, picture, view, guide), height, width)
        chosen = _chosen(picture, alpha, positive, negative)
        if chosen.max() >= 0.5:
            return chosen
    return empty


def _around(
    rows: Sequence[int], columns: Sequence[int], share: float, height: int, width: int
) -> Box:
    """A view of `share` of the picture's sides, or more, with the points in its middle."""
    spans = []
    for points, side in ((rows, height), (columns, width)):
        length = min(side, max(round(share * side), 2 * (max(points) - min(points) + 1)))
        start = (min(points) + max(points) - length) // 2
        spans.append((min(max(0, start), side - length), length))
    (top, high), (left, wide) = spans
    return Box(top, left, high, wide)


def _chosen(
    picture: Picture,
    alpha: Alpha,
    positive: list[tuple[int, int]],
    negative: list[tuple[int, int]],
) -> Alpha:
    count, labels = owners(alpha)
    if not count:
        return np.zeros_like(alpha)
    reach = max(1, round(_REACH * max(alpha.shape)))
    parts = {_part_at(labels, point, reach) for point in positive} - {0}
    chosen = keep(alpha, labels, parts)
    mixed = [point for point in negative if labels[point] in parts]
    if mixed:
        chosen = split(to_uint8(picture.pixels), chosen, positive, mixed)
    return chosen


def _part_at(labels: NDArray[np.int32], point: tuple[int, int], reach: int) -> int:
    """The part at a point, or the commonest one around it; 0 for none."""
    row, column = point
    if labels[row, column]:
        return int(labels[row, column])
    near = labels[
        max(0, row - reach) : row + reach + 1, max(0, column - reach) : column + reach + 1
    ]
    counts = np.bincount(near[near > 0])
    return int(counts.argmax()) if counts.size else 0


def keep(alpha: Alpha, labels: NDArray[np.int32], parts: Collection[int]) -> Alpha:
    """The matte of some parts alone."""
    table = np.zeros(int(labels.max()) + 1, bool)
    table[list(parts)] = True
    return np.where(table[labels], alpha, np.float32(0))


def split(
    pixels: NDArray[np.uint8],
    alpha: Alpha,
    positive: Sequence[tuple[int, int]],
    negative: Sequence[tuple[int, int]],
) -> Alpha:
    """Divide one part between points on and off the object, along the picture's edges.

    Args:
        pixels: H x W x 3, RGB.
        alpha: H x W.
        positive, negative: (row, column).

    Source: Meyer's watershed with markers, as OpenCV computes it.
    """
    height, width = alpha.shape
    radius = max(1, round(0.01 * max(height, width)))
    markers = np.zeros((height, width), np.int32)
    markers[alpha <= FAINT] = 3
    for value, points in ((1, positive), (2, negative)):
        for row, column in points:
            cv2.circle(markers, (column, row), radius, value, -1)
    cv2.watershed(np.ascontiguousarray(pixels[..., ::-1]), markers)
    is_other = (markers == 2).astype(np.float32)
    # The line between two regions is one pixel wide; soften the cut over the marks' width.
    is_other = cv2.GaussianBlur(cv2.dilate(is_other, np.ones((3, 3))), (0, 0), max(0.8, radius / 4))
    return alpha * (1 - is_other)
