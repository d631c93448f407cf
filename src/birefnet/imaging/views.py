"""Test-time augmentation: several views of a picture, whose logits are averaged.

A small network sees what a picture is about best when it is small, and where its edges run when it
is large. The mean of a few views is better than either, most of all for networks of few parameters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray


class View(NamedTuple):
    """One run of the network.

    Attributes:
        width, height: of its input [px].
        mirrored: left and right change places.
    """

    width: int
    height: int
    mirrored: bool = False

    def __str__(self) -> str:
        return f"{self.width}x{self.height}{' mirrored' if self.mirrored else ''}"


def apply_view(input: NDArray[np.float32], view: View) -> NDArray[np.float32]:
    """The network's input for a view.

    Args:
        input: float32 [B, C, h, w], normalised, no smaller than the view.

    Returns:
        float32 [B, C, view.height, view.width], shrunk by area.
    """
    height, width = input.shape[-2:]
    seen = input
    if (height, width) != (view.height, view.width):
        seen = _shrink(input, view.height, view.width)
    if not view.mirrored:
        return seen
    mirror = np.empty_like(seen)
    planes = (-1, view.height, view.width)
    for source, target in zip(seen.reshape(planes), mirror.reshape(planes), strict=True):
        cv2.flip(source, 1, target)
    return mirror


def _shrink(input: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """The mean over the area of each new pixel, as small products of matrices.

    Sides of views share a large divisor, so that a few rows of weights serve all of a picture: this
    takes a third of the time of OpenCV's resize. Each product is too small for NumPy's library to
    wake its other threads, which would wait busily beside the network.
    """
    batch, channels, high, wide = input.shape
    down, across = _area_weights(high, height), _area_weights(wide, width)
    rows: NDArray[np.float32] = np.matmul(down, input.reshape(-1, down.shape[1], wide))
    rows = rows.reshape(batch * channels * height, -1, across.shape[1])
    shrunk: NDArray[np.float32] = np.matmul(rows, across.T)
    return shrunk.reshape(batch, channels, height, width)


@cache
def _area_weights(source: int, target: int) -> NDArray[np.float32]:
    """The share of each old pixel in each new one, [m, n], repeated after n old and m new."""
    repeats = math.gcd(source, target)
    old, new = source // repeats, target // repeats
    ends = np.arange(1, new + 1)[:, None] * old / new
    starts = np.arange(new)[:, None] * old / new
    pixel = np.arange(old)
    covered = np.minimum(ends, pixel + 1) - np.maximum(starts, pixel)
    return (np.clip(covered, 0, None) * new / old).astype(np.float32)


def merge_views(
    logits: Sequence[NDArray[np.float32]], views: Sequence[View]
) -> NDArray[np.float32]:
    """The mean of the views' logits, each [B, 1, h, w], at the size of the first."""
    height, width = logits[0].shape[-2:]
    mean = np.zeros_like(logits[0])
    for planes, view in zip(logits, views, strict=True):
        for plane, sum in zip(planes[:, 0], mean[:, 0], strict=True):
            if plane.shape != (height, width):
                plane = cv2.resize(plane, (width, height), interpolation=cv2.INTER_LINEAR)
            sum += cv2.flip(plane, 1) if view.mirrored else plane
    mean /= np.float32(len(views))
    return mean
