"""Corrections of a matte: softer, wider or narrower, all or nothing."""

from __future__ import annotations

from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from birefnet.errors import BiRefNetError

Alpha: TypeAlias = NDArray[Any]
"""float32 H x W in [0, 1]."""

_CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
_DISC = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))


def blur_mask(alpha: Alpha, radius: float) -> Alpha:
    """Soften by a Gaussian whose standard deviation is half of `radius` [px]; H x W in [0, 1]."""
    if radius < 0:
        raise BiRefNetError(f"the mask's blur is {radius}; give 0 or more pixels.")
    if radius == 0:
        return alpha.copy()
    blurred = cv2.GaussianBlur(alpha, (0, 0), radius / 2, borderType=cv2.BORDER_REPLICATE)
    return np.clip(blurred, 0, 1, out=blurred)


def offset_mask(alpha: Alpha, pixels: float) -> Alpha:
    """Move the edge outwards (`pixels` > 0) or inwards (< 0), soft edges included; H x W in [0, 1].

    The largest (or smallest) value within that distance, with a part of a pixel interpolated. Wide
    discs are made of small ones, which is exact along the axes and octagonal between them.
    """
    change = cv2.dilate if pixels > 0 else cv2.erode
    whole, part = divmod(abs(pixels), 1)
    out = alpha.copy()
    if whole >= 2:
        out = change(out, _DISC, iterations=int(whole // 2))
    if whole % 2:
        out = change(out, _CROSS)
    if part:
        out += np.float32(part) * (change(out, _CROSS) - out)
    return out


def threshold_mask(alpha: Alpha, level: float = 0.5) -> Alpha:
    """1 where alpha reaches `level`, else 0; float32 H x W."""
    if not 0 < level <= 1:
        raise BiRefNetError(f"the mask's threshold is {level}; give a number above 0, at most 1.")
    return (alpha >= level).astype(np.float32)
