"""The object in a box: seen closer, with what is around it, and set back with a soft border."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from birefnet.imaging.box import Box
from birefnet.imaging.objects import owners
from birefnet.imaging.picture import Alpha, Picture
from birefnet.inference.guidance.channel import Guide
from birefnet.inference.guidance.regions import Predict, see


def matte_in_box(
    predict: Predict,
    picture: Picture,
    box: Box,
    *,
    context: float = 0.25,
    guide: Guide | None = None,
) -> Alpha:
    """The matte of what is in a box, 0 elsewhere.

    The network sees the box with some of its surroundings. Parts that lie mostly outside the box
    are dropped, and what is left fades out over the surroundings, for boxes drawn by hand cut a
    little off.

    Args:
        predict: the network.
        picture: the whole.
        box: around the object [px].
        context: share of the box's longer side that is added on all sides.
        guide: what to tell a network with a guidance channel.

    Returns:
        H x W of the whole picture.
    """
    height, width = picture.pixels.shape[:2]
    outer = box.grow(float(context), height, width)
    alpha = see(predict, picture, outer, guide)
    inner = Box(box.top - outer.top, box.left - outer.left, box.height, box.width)
    alpha = _without_neighbours(alpha, inner)
    alpha = alpha * np.outer(
        _fade(outer.height, inner.top, inner.bottom),
        _fade(outer.width, inner.left, inner.right),
    ).astype(np.float32)
    return outer.embed(alpha, height, width)


def _without_neighbours(alpha: Alpha, inner: Box) -> Alpha:
    """Without the connected parts more than half of which lie outside the box."""
    count, labels = owners(alpha)
    if not count:
        return alpha
    whole = np.bincount(labels.ravel(), alpha.ravel(), count + 1)
    inside = np.bincount(inner.cut(labels).ravel(), inner.cut(alpha).ravel(), count + 1)
    is_kept = inside * 2 >= whole
    is_kept[0] = True
    return np.where(is_kept[labels], alpha, np.float32(0))


def _fade(length: int, start: int, stop: int) -> NDArray[np.float64]:
    """1 from `start` to `stop`, falling linearly to 0 just beyond both ends."""
    position = np.arange(length)
    before = (position + 1) / (start + 1)
    after = (length - position) / (length - stop + 1)
    return np.clip(np.minimum(before, after), 0, 1)
