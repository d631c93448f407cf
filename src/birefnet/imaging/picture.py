"""A decoded picture, what may be decoded at all, and the conversions between depths."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from birefnet.errors import ImageError, UsageError
from birefnet.imaging.metadata import Metadata

Alpha: TypeAlias = NDArray[np.float32]
"""H x W in [0, 1]."""

Pixels: TypeAlias = NDArray[np.integer | np.floating]
"""H x W x channels, or H x W: uint8, uint16, or float in [0, 1]."""

PixelType = TypeVar("PixelType", np.uint8, np.uint16, np.float32)

LIMIT_VARIABLE = "BIREFNET_MAX_MEGAPIXELS"
"""Of the environment: the pixel limit where none is given, in millions."""

_BYTES_A_PIXEL = 8
_PIECE = 2**20  # values that are rounded at a time


@dataclass(frozen=True)
class Limits:
    """Limits beyond which `decode` refuses a picture before it decodes a pixel.

    Attributes:
        max_bytes: of the encoded file; as many as the pixels of the usual limit have in 16 bits.
        max_pixels: width x height of a frame; 200 million, or what the environment's
            BIREFNET_MAX_MEGAPIXELS says.
        max_frames: of an animation, where all its frames are asked for.

    Raises:
        UsageError: BIREFNET_MAX_MEGAPIXELS is no number above 0.
    """

    max_bytes: int = field(default_factory=lambda: _BYTES_A_PIXEL * usual_pixels())
    max_pixels: int = field(default_factory=lambda: usual_pixels())
    max_frames: int = 2_000

    @classmethod
    def of_megapixels(cls, megapixels: float) -> Limits:
        """For pictures of up to so many million pixels, and their files of 16 bits."""
        pixels = round(megapixels * 1e6)
        return cls(_BYTES_A_PIXEL * max(pixels, usual_pixels()), pixels)


def usual_pixels(megapixels: int = 200) -> int:
    """The pixel limit where none is given: so many million, or what the environment says.

    Raises:
        UsageError: the environment's BIREFNET_MAX_MEGAPIXELS is no number above 0.
    """
    text = os.environ.get(LIMIT_VARIABLE) or str(megapixels)
    try:
        pixels = float(text) * 1e6
        if pixels >= 1:
            return round(pixels)
    except (ValueError, OverflowError):
        pass
    raise UsageError(f"{LIMIT_VARIABLE} is {text!r}; give a number of megapixels, such as 500")


@dataclass(frozen=True, eq=False)
class Picture:
    """A decoded picture: upright, RGB, sRGB.

    Attributes:
        pixels: H x W x 3, uint8, or uint16 where the source holds more than 8 bits.
        alpha: the source's own alpha, float32 H x W in [0, 1]; None where it has none or is opaque.
            Colours are not multiplied by it.
        icc_profile: the profile that the source carried, for those who want it kept.
        duration_ms: how long this frame of an animation is shown; None for a still picture.
        plays: how often the animation is shown; 0 for ever, None for a still picture.
        name: of the source, for messages.
        metadata: resolution, EXIF, XMP and IPTC of the source, for those who want them kept.
    """

    pixels: NDArray
    alpha: NDArray[np.float32] | None = None
    icc_profile: bytes | None = None
    duration_ms: int | None = None
    name: str | None = None
    plays: int | None = None
    metadata: Metadata | None = None

    @property
    def height(self) -> int:
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        return int(self.pixels.shape[1])

    def rgb8(self) -> NDArray[np.uint8]:
        """Pixels as uint8 H x W x 3, rounded."""
        return to_uint8(self.pixels)


def warn_if_black(picture: Picture) -> Picture:
    """The same picture; warns where 16 bits seem to hold values of 8."""
    if picture.pixels.dtype == np.uint16 and 0 < picture.pixels.max() <= 255:
        warnings.warn(
            f"{picture.name or 'the picture'} is almost black: no value is above 255 of 65535; if "
            "its values are those of 8 bits, save or give it as 8 bits (uint8)",
            stacklevel=2,
        )
    return picture


def to_uint8(values: NDArray) -> NDArray[np.uint8]:
    """Round to 8 bits: from uint16, bool, or float in [0, 1] (clipped); uint8 comes back as is."""
    if values.dtype == np.uint8:
        return values
    if values.dtype == np.bool_:
        return values.astype(np.uint8) * np.uint8(255)
    if values.dtype == np.uint16:
        # Exact rounding of v / 257 in 32-bit integers; the float way costs twice the memory.
        return ((values.astype(np.uint32) * 255 + 32895) >> 16).astype(np.uint8)
    return _rounded(values, 255, np.uint8)


def to_uint16(values: NDArray) -> NDArray[np.uint16]:
    """Scale to 16 bits: from uint8, bool, or float in [0, 1] (clipped); uint16 comes back as is."""
    if values.dtype == np.uint16:
        return values
    if values.dtype == np.bool_:
        return values.astype(np.uint16) * np.uint16(65535)
    if values.dtype == np.uint8:
        return values.astype(np.uint16) * np.uint16(257)
    return _rounded(values, 65535, np.uint16)


def to_float(values: NDArray) -> NDArray[np.float32]:
    """Scale uint8, uint16 or bool to float32 in [0, 1]; floats are only converted."""
    if values.dtype == np.bool_ or values.dtype.kind == "f":
        return values.astype(np.float32, copy=False)
    out = values.astype(np.float32)
    out *= np.float32(1 / np.iinfo(values.dtype).max)
    return out


def _rounded(values: NDArray, full_scale: int, dtype: DTypeLike) -> NDArray:
    """Some rows at a time, so that a large plane needs no other one of floats beside it."""
    if values.dtype.kind != "f":
        raise ImageError(f"got pixels of type {values.dtype}; expected uint8, uint16 or float.")
    out = np.empty(values.shape, dtype)
    step = max(1, _PIECE * len(values) // max(1, values.size)) if values.ndim else 1
    parts = [slice(i, i + step) for i in range(0, len(values), step)] if values.ndim else [...]
    for part in parts:
        scaled = values[part].astype(np.float32)
        scaled *= full_scale
        scaled += 0.5  # truncation follows, so this rounds
        out[part] = np.clip(scaled, 0, full_scale, out=scaled).astype(dtype)
    return out
