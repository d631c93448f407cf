"""Read masks from files as 8-bit grey values."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from birefnet.errors import ImageError, UsageError
from birefnet.imaging.io import decode
from birefnet.imaging.masks import GREY_TOLERANCE, alpha_is_mask, channel_spread, grey_levels
from birefnet.imaging.picture import to_uint8

Channel = Literal["auto", "alpha", "luminance"]
CHANNELS: tuple[str, ...] = get_args(Channel)

_ASPECT_TOLERANCE = 0.02

FROM_ALPHA = "have an alpha channel, which was taken as the mask"
FROM_LUMINANCE = "have an alpha channel, which was ignored for their grey levels"
FROM_16_BITS = "have 16 bits and were rounded to 8"
FROM_LOW_16_BITS = "have 16 bits but no level above 255, and were read as 8 bits"
FROM_ANIMATION = "are animations, of which only the first frame was used"
FROM_0_AND_1 = "are ground truths with only the levels 0 and 1, which were read as 0 and 255"


@dataclass(frozen=True, eq=False)
class Mask:
    """Grey values (uint8, H x W), and notes on how the file was read, each for several files."""

    levels: NDArray[np.uint8]
    notes: tuple[str, ...] = ()


def read_mask(path: Path, *, channel: Channel = "auto", is_truth: bool = False) -> Mask:
    """Read a mask of any readable format.

    Args:
        channel: the mask of a file with an alpha channel. ``auto`` takes alpha if the colours are
            constant or not grey (a cut-out), else the grey values.
        is_truth: it is a ground truth: the levels 0 and 1 are read as 0 and 255, and a 16-bit file
            without a level above 255 as 8 bits, with a note.

    Raises:
        ImageError: for a colour picture or an unreadable file.
    """
    if channel not in CHANNELS:
        raise UsageError(f"channel came as '{channel}'; give one of {', '.join(CHANNELS)}")
    picture = decode(path, convert_to_srgb=False)
    notes = [FROM_16_BITS] if picture.pixels.dtype == np.uint16 else []
    pixels = to_uint8(picture.pixels)
    if is_truth and notes and 0 < picture.pixels.max() <= 255:
        pixels, notes = picture.pixels.astype(np.uint8), [FROM_LOW_16_BITS]
    if picture.duration_ms is not None:
        notes.append(FROM_ANIMATION)
    takes_alpha = alpha_is_mask(picture) if channel == "auto" else channel == "alpha"
    if picture.alpha is not None and takes_alpha:
        levels = to_uint8(picture.alpha)
        notes.append(FROM_ALPHA)
    else:
        if picture.alpha is not None:
            notes.append(FROM_LUMINANCE)
        spread = channel_spread(pixels)
        if spread > GREY_TOLERANCE:
            raise ImageError(
                f"{path} is a colour picture (its channels differ by up to {spread} levels); give "
                "a grey mask, 0 for background and 255 for object"
            )
        levels = grey_levels(pixels)
    if is_truth and levels.max() == 1:
        levels = levels * np.uint8(255)
        notes.append(FROM_0_AND_1)
    return Mask(levels, tuple(notes))


def fit_to_truth(
    levels: NDArray[np.uint8], height: int, width: int, name: str
) -> NDArray[np.uint8]:
    """Resize levels bilinearly to the ground truth's size, as the paper does (section 4.3).

    Raises:
        ImageError: if the aspect ratio differs.
    """
    own_height, own_width = levels.shape
    if (own_height, own_width) == (height, width):
        return levels
    off = abs(own_width * height - own_height * width)
    # A rounding of one pixel on the smaller picture is not another aspect ratio.
    slack = max(_ASPECT_TOLERANCE * own_height * width, max(height, width))
    if off > slack:
        raise ImageError(
            f"{name} is {own_width} x {own_height}, but its ground truth is {width} x {height}, "
            "another aspect ratio; resize the prediction to the size of its picture"
        )
    resized = cv2.resize(levels, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(resized, dtype=np.uint8)


def looks_inverted(confusion: tuple[int, int, int, int]) -> bool:
    """Whether the inverse of a prediction would fit the ground truth far better.

    Args:
        confusion: true positives, false positives, false negatives, true negatives.
    """
    hits, wrong, missed, quiet = confusion
    as_is = hits / max(hits + wrong + missed, 1)
    inverse = missed / max(missed + quiet + hits, 1)
    return inverse > 0.5 and inverse > 2 * as_is and wrong > quiet
