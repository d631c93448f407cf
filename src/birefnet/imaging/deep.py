"""Pictures of more than 8 bits, which Pillow reduces: 16-bit PNG, 16-bit and float TIFF.

OpenCV decodes the samples. It reads the header again by itself, so the caller has judged it before
(`tiff.read_tiff_header` for TIFF, Pillow for PNG).
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from birefnet.errors import ImageError
from birefnet.imaging.picture import to_uint16


def decode_deep(
    data: bytes, height: int, width: int, name: str, *, premultiplied: bool = False
) -> tuple[NDArray[np.uint16], NDArray[np.float32] | None]:
    """Samples of a 16-bit PNG, or a 16-bit or float TIFF.

    Args:
        data: the encoded file.
        height, width: what the header says [px]; the decoder must find the same.

    Returns:
        uint16 H x W (grey) or H x W x 3 (RGB), and alpha in [0, 1] or None. Orientation and profile
        are not applied.
    """
    flags = cv2.IMREAD_UNCHANGED
    try:
        samples = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise ImageError(f"{name} cannot be decoded: {error.err}.") from None
    if samples is None or samples.shape[:2] != (height, width):
        raise ImageError(f"{name} cannot be decoded: its data are damaged or of a rare kind.")
    deep = _to_unit_range(samples, name)
    if deep.ndim == 2:
        return deep, None
    if deep.shape[2] == 2:
        return deep[..., 0].copy(), _scale(deep[..., 1])
    colour = np.ascontiguousarray(deep[..., 2::-1])  # OpenCV's order is BGR(A)
    if deep.shape[2] == 3:
        return colour, None
    alpha = _scale(deep[..., 3])
    if premultiplied:
        unit = colour / np.maximum(alpha, 1 / 65535)[..., None] / 65535
        colour = to_uint16(unit)
    return colour, alpha


def _to_unit_range(samples: NDArray, name: str) -> NDArray[np.uint16]:
    if samples.dtype == np.uint16:
        return samples
    if samples.dtype == np.uint8:
        return to_uint16(samples)
    if samples.dtype.kind != "f":
        raise ImageError(
            f"{name} holds samples of type {samples.dtype}; convert it to 16 bits first."
        )
    return float_to_uint16(samples, name)


def float_to_uint16(samples: NDArray, name: str) -> NDArray[np.uint16]:
    """16-bit pixels of float samples, which carry no scale of their own.

    The largest value tells: up to 16, white is 1 (highlights above it are clipped); up to 255 or
    65535, that is white. NaN counts as 0.
    """
    samples = np.nan_to_num(samples.astype(np.float32), nan=0, posinf=np.inf, neginf=0)
    largest = float(samples.max(initial=0))
    white = next((scale for limit, scale in _FLOAT_SCALES if largest <= limit), None)
    if white is None:
        raise ImageError(
            f"{name} holds values up to {largest:.3g}; scale its floats to 0 ... 1 first."
        )
    return to_uint16(samples / white)


_FLOAT_SCALES = ((16, 1), (255, 255), (65535, 65535))


def _scale(alpha: NDArray[np.uint16]) -> NDArray[np.float32]:
    return alpha.astype(np.float32) * np.float32(1 / 65535)
