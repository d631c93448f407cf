"""Masks as files hold them, and corrections of a matte: softer, wider or narrower, binary."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from birefnet.errors import BiRefNetError
from birefnet.imaging.picture import Alpha, Picture, to_uint8

GREY_TOLERANCE = 16
"""Levels by which the channels of a grey picture may differ; JPEG makes them differ a little."""

WIDE = 16
"""Times as wide as high, from which on a picture is filtered on its side: OpenCV's filters hold as
many rows as their window is high, however few the picture has."""

_CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
_DISC = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))


def alpha_is_mask(picture: Picture) -> bool:
    """Whether a mask's file holds the mask in its alpha channel rather than in its grey levels.

    So it is if what can be seen has one colour, or has colours at all (then it is a cut-out).
    """
    if picture.alpha is None:
        return False
    visible = to_uint8(picture.pixels)[picture.alpha > 0]
    if not len(visible):
        return True
    return bool((visible == visible[0]).all()) or channel_spread(visible) > GREY_TOLERANCE


def channel_spread(pixels: NDArray[np.uint8]) -> int:
    """The largest difference between two channels of a pixel; `pixels` are ... x 3, RGB."""
    red, green, blue = pixels[..., 0], pixels[..., 1], pixels[..., 2]
    if np.array_equal(red, green) and np.array_equal(green, blue):
        return 0
    return int((pixels.max(axis=-1) - pixels.min(axis=-1)).max())


def grey_levels(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """H x W levels of an H x W x 3 picture; of a grey one, the levels themselves."""
    if channel_spread(pixels) == 0:
        return np.ascontiguousarray(pixels[..., 0])
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), dtype=np.uint8)


def blur_mask(alpha: Alpha, radius: float) -> Alpha:
    """Soften by a Gaussian whose standard deviation is half of `radius` [px]; H x W in [0, 1]."""
    if not 0 <= radius < np.inf:  # NaN is not
        raise BiRefNetError(f"the mask's blur is {radius}; give 0 or more pixels.")
    if radius == 0:
        return alpha.copy()
    height, width = alpha.shape
    if width > WIDE * height:
        return np.ascontiguousarray(blur_mask(np.ascontiguousarray(alpha.T), radius).T)
    blurred = cv2.GaussianBlur(alpha, (0, 0), radius / 2, borderType=cv2.BORDER_REPLICATE)
    out = np.asarray(blurred, np.float32)
    return np.clip(out, 0, 1, out=out)


def offset_mask(alpha: Alpha, pixels: float) -> Alpha:
    """Move the edge outwards (`pixels` > 0) or inwards (< 0), soft edges included; H x W in [0, 1].

    The largest (or smallest) value within that distance, with a part of a pixel interpolated. Wide
    discs are made of small ones, which is exact along the axes and octagonal between them.

    Raises:
        BiRefNetError: `pixels` is not a finite number.
    """
    if not np.isfinite(pixels):
        raise BiRefNetError(f"the mask's offset is {pixels}; give a number of pixels.")
    change = cv2.dilate if pixels > 0 else cv2.erode
    # Farther than from corner to corner nothing changes any more.
    whole, part = divmod(min(abs(pixels), sum(alpha.shape)), 1)
    out = alpha.copy()
    if whole >= 2:
        out = np.asarray(change(out, _DISC, iterations=int(whole // 2)), np.float32)
    if whole % 2:
        out = np.asarray(change(out, _CROSS), np.float32)
    if part:
        out += np.float32(part) * (change(out, _CROSS) - out)
    return out


def threshold_mask(alpha: Alpha, level: float = 0.5) -> Alpha:
    """1 where alpha reaches `level`, else 0; float32 H x W."""
    if not 0 < level <= 1:
        raise BiRefNetError(f"the mask's threshold is {level}; give a number above 0, at most 1.")
    return (alpha >= level).astype(np.float32)
