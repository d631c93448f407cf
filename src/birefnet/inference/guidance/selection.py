"""The connected parts of a matte, and which of them are meant."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from birefnet.imaging.objects import FAINT
from birefnet.inference.guidance.regions import Alpha


def keep(alpha: Alpha, labels: NDArray[np.int32], wanted: Collection[int]) -> Alpha:
    """The matte of some parts alone."""
    table = np.zeros(int(labels.max()) + 1, bool)
    table[list(wanted)] = True
    return np.where(table[labels], alpha, np.float32(0))


def split(
    pixels: NDArray[np.uint8],
    alpha: Alpha,
    wanted: Sequence[tuple[int, int]],
    unwanted: Sequence[tuple[int, int]],
) -> Alpha:
    """Divide one part between points on and off the object, along the picture's edges.

    Args:
        pixels: H x W x 3, RGB.
        alpha: H x W.
        wanted, unwanted: (row, column).

    Source: Meyer's watershed with markers, as OpenCV computes it.
    """
    height, width = alpha.shape
    radius = max(1, round(0.01 * max(height, width)))
    markers = np.zeros((height, width), np.int32)
    markers[alpha <= FAINT] = 3
    for value, points in ((1, wanted), (2, unwanted)):
        for row, column in points:
            cv2.circle(markers, (column, row), radius, value, -1)
    cv2.watershed(np.ascontiguousarray(pixels[..., ::-1]), markers)
    is_other = (markers == 2).astype(np.float32)
    # The line between two regions is one pixel wide; soften the cut over the marks' width.
    is_other = cv2.GaussianBlur(cv2.dilate(is_other, np.ones((3, 3))), (0, 0), max(0.8, radius / 4))
    return alpha * (1 - is_other)
