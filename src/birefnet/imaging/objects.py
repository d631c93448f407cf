"""The connected parts of a matte: each one's own matte, its box and area."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from birefnet.imaging.box import Box
from birefnet.imaging.picture import Alpha

OBJECT = 0.5  # alpha that belongs to an object; what is fainter belongs to the nearest one
FAINT = 0.02  # alpha below this belongs to none

_NEAR = 0.02  # small pieces this close to an object belong to it, of the picture's longer side
_SEAM = 0.0015  # width of the transition between the soft edges of two objects, likewise
_NARROW = 4  # times the shorter side that the longer counts for, where a transition follows it


@dataclass(frozen=True, eq=False)
class Region:
    """One connected object of a matte.

    Attributes:
        alpha: float32 H x W of the whole picture: the object's own share.
        box: where that is more than `FAINT`.
        area: sum of its alpha [px].
        territory: bool H x W: what lies nearer to it than to the other objects.
    """

    alpha: Alpha
    box: Box
    area: float
    territory: NDArray[np.bool_]


def owners(alpha: Alpha) -> tuple[int, NDArray[np.int32]]:
    """To which connected part of the matte each pixel belongs.

    Returns:
        The number of parts, and their labels from 1 on, H x W; a soft pixel has the label of the
        part next to it, and 0 is nobody's.
    """
    solid = (alpha >= OBJECT).astype(np.uint8)
    count, components = cv2.connectedComponents(solid, connectivity=8)
    labels: NDArray[np.int32] = np.asarray(components, np.int32)
    soft = (alpha > FAINT) & (solid == 0)
    if count > 1 and soft.any():
        labels[soft] = _nearest(labels)[1][soft]
    return count - 1, labels


def regions(alpha: Alpha, minimum: float) -> Iterator[Region]:
    """The objects of a matte, the largest first.

    Pixels of one half and more that touch each other make an object. Smaller pieces beside it, such
    as ends of hair, and all that is fainter go to the nearest object; pieces far from any are
    dropped. Where the soft edges of two objects meet they are divided half-way between them, with a
    transition of a few pixels, so that the mattes of all objects sum to the whole.

    Args:
        minimum: area from which on a part is an object [px].

    Yields:
        One at a time: each holds a matte of the picture's size.
    """
    height, width = alpha.shape
    solid = (alpha >= OBJECT).astype(np.uint8)
    # OpenCV's own areas need half a kilobyte for each row.
    count, components = cv2.connectedComponents(solid, connectivity=8)
    areas = np.bincount(np.asarray(components).ravel(), minlength=count)
    is_object = areas >= max(minimum, 1)
    is_object[0] = False
    core = np.where(is_object[components], components, 0).astype(np.int32)
    if not is_object.any():
        return
    distance, nearest = _nearest(core)
    owned = np.where(_belongs(alpha, distance), nearest, 0)
    # Of a narrow picture the longer side says little of its objects.
    sigma = max(1.0, _SEAM * min(max(height, width), _NARROW * min(height, width)))
    total = cv2.GaussianBlur((owned > 0).astype(np.float32), (0, 0), sigma)
    for label in sorted(np.flatnonzero(is_object), key=lambda number: -areas[number]):
        own = owned == label
        own_box = Box.around(own)
        assert own_box is not None
        view = own_box.grow(int(np.ceil(4 * sigma)) + 1, height, width).slices
        share = cv2.GaussianBlur(own[view].astype(np.float32), (0, 0), sigma)
        share /= np.maximum(total[view], 1e-6)
        # What is solid is shared with nobody, and what is nobody's stays so.
        share = np.where(core[view] > 0, core[view] == label, share)
        share[owned[view] == 0] = 0
        part = np.zeros_like(alpha)
        part[view] = alpha[view] * np.minimum(share, 1)
        box = Box.around(part, FAINT)
        assert box is not None
        area = float(part.sum(dtype=np.float64))
        yield Region(part, box, area, nearest == label)


def _nearest(labels: NDArray[np.int32]) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """For each pixel the distance to the nearest labelled one [px], and that one's label."""
    inside = labels > 0
    distance, number = cv2.distanceTransformWithLabels(
        (~inside).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    of_number = np.zeros(int(number.max()) + 1, np.int32)
    of_number[number[inside]] = labels[inside]
    return np.asarray(distance, np.float32), of_number[number]


def _belongs(alpha: Alpha, distance: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which pixels hang together with an object, or lie in a piece that begins near one."""
    count, pieces = cv2.connectedComponents((alpha > FAINT).astype(np.uint8), connectivity=8)
    near = distance <= max(2.0, _NEAR * max(alpha.shape))
    kept = np.zeros(count, bool)
    kept[np.unique(pieces[near])] = True
    kept[0] = False
    return kept[pieces]
