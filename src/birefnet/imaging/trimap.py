"""A trimap of a matte: what is surely subject, what is surely not, and the band between."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from birefnet.errors import BiRefNetError
from birefnet.imaging.picture import Alpha

SUBJECT, UNKNOWN, GROUND = 255, 128, 0

SURE = 0.05  # alpha this close to 0 or 1 is certain, far enough from the edge
_BAND = 0.012  # half of the band's width, of the picture's longer side
_THIN = 0.5  # of the thickness of a part: what the band leaves of the thinnest ones


def default_band(height: int, width: int) -> float:
    """Half of the width of the unknown band [px] for a picture of this size."""
    return max(2.0, _BAND * max(height, width))


def trimap(alpha: Alpha, *, band: float | None = None, sure: float = SURE) -> NDArray[np.uint8]:
    """Certain subject (255), certain ground (0) and unknown (128).

    Unknown is every pixel within `band` of the edge, and wherever alpha itself is uncertain. A part
    that is thinner than the band keeps its innermost pixels as subject, so that a wire is not given
    up.

    Args:
        alpha: float32 H x W in [0, 1].
        band: how far the unknown reaches to either side of the edge [px]; `None` follows the
            picture's size, see `default_band`.
        sure: distance of alpha from 0 or 1 beyond which it is uncertain, below one half.

    Returns:
        uint8 H x W.

    Raises:
        BiRefNetError: a negative band, or `sure` outside 0 to 0.5.
    """
    reach = default_band(*alpha.shape) if band is None else band
    if not 0 <= reach < np.inf:
        raise BiRefNetError(f"the trimap's band is {band}; give 0 or more pixels")
    if not 0 <= sure < 0.5:
        raise BiRefNetError(f"sure is {sure}; give a number from 0 to below 0.5")
    out = np.full(alpha.shape, UNKNOWN, np.uint8)
    not_ground = (alpha > sure).view(np.uint8)
    out[_depth(1 - not_ground) > reach] = GROUND
    inside = (alpha >= 1 - sure).view(np.uint8)
    depth = _depth(inside)
    out[inside.astype(bool) & (depth > np.minimum(reach, _THIN * _thickness(inside, depth)))] = (
        SUBJECT
    )
    return out


def _depth(mask: NDArray[np.uint8]) -> NDArray[np.float32]:
    """How far each pixel of a mask lies from its edge [px]; the picture's border is not an edge."""
    if mask.all():
        return np.full(mask.shape, np.inf, np.float32)
    return np.asarray(cv2.distanceTransform(mask, cv2.DIST_L2, 5), np.float32)


def _thickness(mask: NDArray[np.uint8], depth: NDArray[np.float32]) -> NDArray[np.float32]:
    """For each pixel the largest depth in its connected part of the mask [px]."""
    count, labels = cv2.connectedComponents(mask, connectivity=8)
    deepest = np.zeros(count, np.float32)
    np.maximum.at(deepest, np.asarray(labels, np.int32).ravel(), depth.ravel())
    return deepest[labels]
