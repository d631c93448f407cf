"""Which object is meant, and its edge at the picture's own resolution.

Everything here works with a function that gives a picture's matte, so it serves every network and
engine alike, and needs no other training. A network that was trained with a guidance channel is
also shown what is meant.
"""

from __future__ import annotations

import numpy as np

from birefnet.imaging.picture import Picture
from birefnet.imaging.values import Point, parse_box, parse_point
from birefnet.inference.guidance.boxes import matte_in_box
from birefnet.inference.guidance.channel import Guide
from birefnet.inference.guidance.choose import matte_at_points, matte_near_mask
from birefnet.inference.guidance.detail import refine_detail
from birefnet.inference.guidance.regions import (
    Alpha,
    Guidance,
    Predict,
    to_box,
)

__all__ = [
    "Guidance",
    "Guide",
    "Point",
    "matte_at_points",
    "matte_in_box",
    "matte_near_mask",
    "matte_of",
    "parse_box",
    "parse_point",
    "refine_detail",
]


def matte_of(
    predict: Predict, picture: Picture, guidance: Guidance, *, has_channel: bool = False
) -> Alpha:
    """The matte, H x W, of the object that `guidance` means; without any, of the whole picture.

    Args:
        has_channel: the network has a guidance channel: `predict(part, guide)` shows it what is
            meant.

    Raises:
        BiRefNetError: boxes or points that lie outside the picture.
    """
    height, width = picture.height, picture.width
    context = guidance.context
    if guidance.points:
        return matte_at_points(
            predict, picture, guidance.points, context=context, has_channel=has_channel
        )
    if guidance.mask is not None:
        return matte_near_mask(
            predict, picture, guidance.mask, context=context, has_channel=has_channel
        )
    boxes = [to_box(corners, height, width) for corners in guidance.boxes]
    if not boxes:
        return predict(picture)
    alpha = np.zeros((height, width), np.float32)
    for box in boxes:
        guide = Guide(boxes=(box,)) if has_channel else None
        part = matte_in_box(predict, picture, box, context=context, guide=guide)
        np.maximum(alpha, part, out=alpha)
    return alpha
