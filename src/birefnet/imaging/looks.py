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
    if (height, width) != (look.height, look.width):
        shrunk = np.empty((batch, channels, look.height, look.width), np.float32)
        for source, target in zip(
            input.reshape(-1, height, width),
            shrunk.reshape(-1, look.height, look.width),
            strict=True,
        ):
            cv2.resize(source, (look.width, look.height), target, interpolation=cv2.INTER_AREA)
        input = shrunk
    return np.ascontiguousarray(input[..., ::-1]) if look.mirrored else input


def merge(logits: Sequence[NDArray[np.float32]], looks: Sequence[Look]) -> NDArray[np.float32]:
    """The mean of the looks' logits, each [B, 1, h, w], at the size of the first."""
    height, width = logits[0].shape[-2:]
    mean = np.zeros_like(logits[0])
    for planes, look in zip(logits, looks, strict=True):
        for plane, sum in zip(planes[:, 0], mean[:, 0], strict=True):
            upright = np.ascontiguousarray(plane[:, ::-1]) if look.mirrored else plane
            if upright.shape != (height, width):
                upright = cv2.resize(upright, (width, height), interpolation=cv2.INTER_LINEAR)
            sum += upright
    mean /= np.float32(len(looks))
    return mean
