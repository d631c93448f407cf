"""A guided filter: a matte's edge follows the picture's.

Source: He, Sun, Tang, "Guided Image Filtering", TPAMI 2013, with colour guidance (Sec. 3.5), and
the subsampled form of "Fast Guided Filter", arXiv:1505.00996.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from birefnet.errors import BiRefNetError
from birefnet.imaging.masks import WIDE

_CELLS = 8  # radius at the reduced size; finer ones change nothing that can be seen


def guided_filter(
    pixels: NDArray[np.uint8],
    alpha: NDArray[np.float32],
    *,
    radius: int,
    epsilon: float = 1e-4,
) -> NDArray[np.float32]:
    """Fit a matte to the picture: in each window it becomes a linear function of the colours.

    Args:
        pixels: H x W x 3, RGB.
        alpha: H x W in [0, 1].
        radius: of the windows [px], at least 1.
        epsilon: variance of colours in [0, 1] below which a window counts as flat and alpha is
            only blurred.

    Returns:
        H x W in [0, 1].

    Raises:
        BiRefNetError: shapes that differ, or a radius below 1.
    """
    if pixels.shape != (*alpha.shape, 3):
        raise BiRefNetError(
            f"got pixels of shape {pixels.shape} and an alpha of {alpha.shape}; expected "
            "H x W x 3 and H x W"
        )
    if radius < 1:
        raise BiRefNetError(f"radius is {radius}; give at least 1")
    height, width = alpha.shape
    if width > WIDE * height:
        sideways = guided_filter(
            np.ascontiguousarray(pixels.swapaxes(0, 1)),
            np.ascontiguousarray(alpha.T),
            radius=radius,
            epsilon=epsilon,
        )
        return np.ascontiguousarray(sideways.T)
    step = max(1, radius // _CELLS)
    size = max(1, width // step), max(1, height // step)
    guide = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    guide *= np.float32(1 / 255)
    small = cv2.resize(alpha, size, interpolation=cv2.INTER_AREA)
    side = 2 * max(1, round(radius / step)) + 1

    def mean(plane: NDArray[Any]) -> NDArray[Any]:  # OpenCV says no more
        return cv2.blur(plane, (side, side), borderType=cv2.BORDER_REFLECT_101)

    mean_guide = mean(guide)
    mean_alpha = mean(small)
    covariance = mean(guide * small[..., None]) - mean_guide * mean_alpha[..., None]
    variance = np.empty((*small.shape, 3, 3), np.float32)
    for i in range(3):
        for j in range(i, 3):
            product = mean(guide[..., i] * guide[..., j])
            variance[..., i, j] = variance[..., j, i] = (
                product - mean_guide[..., i] * mean_guide[..., j]
            )
    variance += epsilon * np.eye(3, dtype=np.float32)
    slope = np.linalg.solve(variance, covariance[..., None])[..., 0]
    offset = mean_alpha - (slope * mean_guide).sum(axis=-1)
    # Of all windows that a pixel lies in, the mean; then at the picture's own size.
    coefficients = mean(np.dstack([slope, offset]).astype(np.float32))
    coefficients = cv2.resize(coefficients, (width, height), interpolation=cv2.INTER_LINEAR)
    fine = pixels.astype(np.float32) / 255
    out = np.einsum("hwc,hwc->hw", fine, coefficients[..., :3]) + coefficients[..., 3]
    return np.clip(out, 0, 1).astype(np.float32)
