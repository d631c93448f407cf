"""Which object is meant, and its edge at the picture's own resolution.

Everything here works with a function that gives a picture's matte, so it serves every network and
engine alike, and needs no other training.
"""

from __future__ import annotations

import numpy as np

from birefnet.guidance.boxes import matte_in_box
from birefnet.guidance.choose import matte_at_points, matte_near_mask
from birefnet.guidance.detail import refine_detail
from birefnet.guidance.regions import (
    Alpha,
    Guidance,
    Point,
    Predict,
    parse_box,
    parse_point,
    to_box,
)
from birefnet.imaging.picture import Picture

__all__ = [
    "Guidance",
    "Point",
    "matte_at_points",
    "matte_in_box",
    "matte_near_mask",
    "matte_of",
    "parse_box",
    "parse_point",
    "refine_detail",
]


def matte_of(predict: Predict, picture: Picture, guidance: Guidance) -> Alpha:
    """The matte, H x W, of the object that `guidance` means; without any, of the whole picture.

    Raises:
        BiRefNetError: boxes or points that lie outside the picture.
    """
    height, width = picture.height, picture.width
    context = guidance.context
    if guidance.points:
        return matte_at_points(predict, picture, guidance.points, context=context)
    if guidance.mask is not None:
        return matte_near_mask(predict, picture, guidance.mask, context=context)
    boxes = [to_box(corners, height, width) for corners in guidance.boxes]
    if not boxes:
        return predict(picture)
    alpha = matte_in_box(predict, picture, boxes[0], context=context)
    for box in boxes[1:]:
        np.maximum(alpha, matte_in_box(predict, picture, box, context=context), out=alpha)
    return alpha
