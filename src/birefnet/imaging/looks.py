"""Several looks at one picture, whose logits are averaged: small for the whole, large for detail.

A small network sees what a picture is about best when it is small, and where its edges run when it
is large. The mean of a few looks is better than either, most of all for networks of few parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray


class Look(NamedTuple):
    """One run of the network.

    Attributes:
        width, height: of its input [px].
        mirrored: left and right change places.
    """

    width: int
    height: int
    mirrored: bool = False


def view(input: NDArray[np.float32], look: Look) -> NDArray[np.float32]:
    """What a look shows the network.

    Args:
        input: float32 [B, C, h, w], normalised, no smaller than the look.

    Returns:
        float32 [B, C, look.height, look.width], shrunk by area.
    """
    batch, channels, height, width = input.shape
    is_whole = (height, width) == (look.height, look.width)
    if is_whole and not look.mirrored:
        return input
    seen = np.empty((batch, channels, look.height, look.width), np.float32)
    for source, target in zip(
        input.reshape(-1, height, width), seen.reshape(-1, look.height, look.width), strict=True
    ):
        if not is_whole:
            cv2.resize(source, (look.width, look.height), target, interpolation=cv2.INTER_AREA)
        if look.mirrored:
            cv2.flip(source if is_whole else target, 1, target)
    return seen


def merge(logits: Sequence[NDArray[np.float32]], looks: Sequence[Look]) -> NDArray[np.float32]:
    """The mean of the looks' logits, each [B, 1, h, w], at the size of the first."""
    height, width = logits[0].shape[-2:]
    mean = np.zeros_like(logits[0])
    for planes, look in zip(logits, looks, strict=True):
        for plane, sum in zip(planes[:, 0], mean[:, 0], strict=True):
            if plane.shape != (height, width):
                plane = cv2.resize(plane, (width, height), interpolation=cv2.INTER_LINEAR)
            sum += cv2.flip(plane, 1) if look.mirrored else plane
    mean /= np.float32(len(looks))
    return mean
