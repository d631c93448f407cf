"""Samples of more than 8 bits: 16-bit PNG, which Pillow reduces, and floats without a scale."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from birefnet.errors import ImageError
from birefnet.imaging.picture import to_float, to_uint16
from birefnet.imaging.png import bare


def decode_deep(
    data: bytes, height: int, width: int, name: str
) -> tuple[NDArray[np.uint16], NDArray[np.float32] | None]:
    """Samples of a 16-bit PNG that Pillow has decoded without complaint.

    OpenCV's decoder writes lines of its own to standard error over broken files and odd chunks.

    Args:
        data: the encoded file.
        height, width: what the header says [px]; the decoder must find the same.

    Returns:
        uint16 H x W (grey) or H x W x 3 (RGB), and alpha in [0, 1] or None. Orientation and profile
        are not applied.
    """
    decoded = cv2.imdecode(np.frombuffer(bare(data), np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None or decoded.shape[:2] != (height, width) or decoded.dtype != np.uint16:
        raise ImageError(f"{name} cannot be decoded: its data are damaged.")
    samples: NDArray[np.uint16] = np.asarray(decoded, np.uint16)
    if samples.ndim == 2:
        return samples, None
    if samples.shape[2] == 2:
        return samples[..., 0].copy(), to_float(samples[..., 1])
    colour = np.ascontiguousarray(samples[..., 2::-1])  # OpenCV's order is BGR(A)
    return colour, to_float(samples[..., 3]) if samples.shape[2] == 4 else None


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
