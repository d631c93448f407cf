"""A picture before and after it is decoded: sources, limits, pixels and their depths."""

from __future__ import annotations

import errno
import os
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any, BinaryIO, TypeAlias, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray
from PIL import Image

from birefnet.errors import BiRefNetError, ImageError, MissingPictureError, UsageError
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
    if values.dtype == np.uint16:
        # Exact rounding of v / 257 in 32-bit integers; the float way costs twice the memory.
        return ((values.astype(np.uint32) * 255 + 32895) >> 16).astype(np.uint8)
    return _levels(values, np.uint8)


def to_uint16(values: NDArray) -> NDArray[np.uint16]:
    """Scale to 16 bits: from uint8, bool, or float in [0, 1] (clipped); uint16 comes back as is."""
    if values.dtype == np.uint8:
        return values.astype(np.uint16) * np.uint16(257)
    return _levels(values, np.uint16)


def to_float(values: NDArray) -> NDArray[np.float32]:
    """Scale uint8, uint16 or bool to float32 in [0, 1]; floats are only converted."""
    if values.dtype == np.bool_ or values.dtype.kind == "f":
        return values.astype(np.float32, copy=False)
    out = values.astype(np.float32)
    out *= np.float32(1 / np.iinfo(values.dtype).max)
    return out


def _levels(values: NDArray, dtype: DTypeLike) -> NDArray:
    """From bool or float in [0, 1]; some rows at a time, so that a large plane needs no other one
    of floats beside it."""
    full_scale = np.iinfo(dtype).max
    if values.dtype == dtype:
        return values
    if values.dtype == np.bool_:
        return values.astype(dtype) * np.array(full_scale, dtype)
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


class Remote:
    """A picture behind a URL, fetched when it is read: in the thread that decodes it.

    Args:
        open: gives the file, each time anew; `fsspec` and `upath` have such things.
        name: its address, for people.
    """

    def __init__(self, open: Callable[[], AbstractContextManager[BinaryIO]], name: str) -> None:
        self._open = open
        self.name = name

    def read(self, size: int) -> bytes:
        """Its first `size` bytes.

        Raises:
            ImageError: it cannot be fetched; the cause is an `OSError`.
        """
        try:
            with self._open() as file:
                return bytes(file.read(size))
        except FileNotFoundError as error:
            raise ImageError(f"{self.name} does not exist.") from error
        except Exception as error:  # every protocol has errors of its own
            cause = error if isinstance(error, OSError) else OSError(errno.EIO, str(error))
            raise ImageError(f"{self.name} cannot be fetched: {error}.") from cause


Source: TypeAlias = str | os.PathLike[str] | bytes | BinaryIO | Remote | Image.Image | Pixels
"""A path, an encoded file as bytes, open file or `Remote`, a Pillow image, or an array: H x W,
H x W x 1, 3 (RGB) or 4 (RGBA) of uint8, uint16, bool, or float in [0, 1]."""

_LIMIT = (
    f"{LIMIT_VARIABLE} in the environment sets the limit, or --max-megapixels where it is an option"
)
# What Pillow says of sound files that it does not know.
_OF_A_RARE_KIND = re.compile("unsupported|not supported|unknown|cannot handle", re.I)
_ARRAY_CHANNELS = ((), (1,), (3,), (4,))


def read_source(source: object, limits: Limits) -> tuple[bytes, str]:
    """The encoded bytes of a path, bytes or binary file, and a name for messages."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        data, name = bytes(source), "the picture"
    elif isinstance(source, (str, os.PathLike)):
        name = os.fspath(source)
        if not name:
            raise ImageError("the path of the picture is empty; give a file.")
        data = _read_file(name, limits)
    elif hasattr(source, "read"):
        name = str(getattr(source, "name", "the stream"))
        data = _read_stream(source, name, limits)
    else:
        raise ImageError(
            f"got a {type(source).__name__}; expected a path, bytes, a binary file, a Pillow image "
            "or a numpy array."
        )
    if len(data) > limits.max_bytes:
        raise ImageError(f"{name} has more than {limits.max_bytes:,} bytes: {_LIMIT}.")
    if not data:
        raise ImageError(f"{name} is empty.")
    return data, name


def _read_stream(stream: Any, name: str, limits: Limits) -> bytes:
    try:
        data = stream.read(limits.max_bytes + 1)
    except (OSError, ValueError) as error:
        if getattr(stream, "closed", False):
            raise ImageError(f"{name} is closed; give it while it is open.") from None
        raise ImageError(f"{name} cannot be read: {error}.") from error
    if not isinstance(data, bytes):
        raise ImageError(f"{name} gives text; open it in binary mode ('rb').")
    if not data and _position(stream) > 0:
        raise ImageError(f"{name} is at its end; call seek(0) before it is given.")
    return data


def _position(stream: BinaryIO) -> int:
    try:
        return int(stream.tell())
    except (AttributeError, OSError, ValueError):
        return 0  # a pipe has none


def from_array(array: NDArray, limits: Limits, name: str = "the array") -> Picture:
    """A picture of RGB(A) or grey values, see `Source`; it shares no memory with the array."""
    if array.ndim not in (2, 3) or 0 in array.shape or array.shape[2:] not in _ARRAY_CHANNELS:
        raise ImageError(
            f"{name} has shape {array.shape}; expected H x W, or H x W x 1, 3 (RGB) or 4 (RGBA)."
        )
    check_pixels(array.shape[1], array.shape[0], limits, name)
    given = array
    if array.dtype.kind == "f":
        # A NaN makes both comparisons false.
        if not (array.min() >= 0 and array.max() <= 1):
            raise ImageError(f"{name} holds floats outside 0 ... 1; scale or clip them first.")
        array = to_uint16(array)
    elif array.dtype == np.bool_:
        array = array.astype(np.uint8) * np.uint8(255)
    elif array.dtype not in (np.uint8, np.uint16):
        raise ImageError(f"{name} is of type {array.dtype}; expected uint8, uint16, bool or float.")
    array = array if array.ndim == 3 else array[..., None]
    alpha = to_float(array[..., 3]) if array.shape[2] == 4 else None
    if alpha is not None and alpha.min() >= 1:
        alpha = None
    grey = array.shape[2] == 1
    pixels = np.repeat(array, 3, axis=2) if grey else np.ascontiguousarray(array[..., :3])
    if np.may_share_memory(pixels, given):
        pixels = pixels.copy()
    return Picture(pixels=pixels, alpha=alpha, name=name)


def _read_file(path: str, limits: Limits) -> bytes:
    if path.startswith(("http://", "https://")):
        raise ImageError(f"{path} is an address; download it first and give its bytes.")
    if os.path.isdir(path):
        raise ImageError(f"{path} is a folder; give a file.")
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > limits.max_bytes:
                raise ImageError(
                    f"{path} has {size:,} bytes; at most {limits.max_bytes:,} are read: {_LIMIT}."
                )
            # Pipes and devices have size 0; `read` would reserve as much as it is asked for.
            return file.read((size or limits.max_bytes) + 1)
    except FileNotFoundError:
        raise MissingPictureError(f"{path} does not exist.") from None
    except ImageError:
        raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ImageError(f"{path!r} cannot be opened: {reason}.") from None


def check_pixels(width: int, height: int, limits: Limits, name: str) -> None:
    """Refuse empty pictures and those beyond the limit."""
    if width < 1 or height < 1:
        raise ImageError(f"{name} is {width} x {height} pixels; it needs at least 1 x 1.")
    if width * height > limits.max_pixels:
        raise ImageError(
            f"{name} has {width} x {height} pixels; at most {limits.max_pixels:,} are "
            f"accepted: {_LIMIT}."
        )


def webp_size(data: bytes) -> tuple[int, int] | None:
    """Width and height of the canvas from the header (RFC 9649)."""
    kind, body = data[12:16], data[20:30]
    if len(body) < 10:
        return None
    if kind == b"VP8X":
        return (
            int.from_bytes(body[4:7], "little") + 1,
            int.from_bytes(body[7:10], "little") + 1,
        )
    if kind == b"VP8L":
        packed = int.from_bytes(body[1:5], "little")
        return (packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1
    if kind == b"VP8 ":
        return (
            int.from_bytes(body[6:8], "little") & 0x3FFF,
            int.from_bytes(body[8:10], "little") & 0x3FFF,
        )
    return None


def png_depth(data: bytes) -> int:
    """Bits of a sample, from the header; 0 if that is out of place."""
    return data[24] if data[12:16] == b"IHDR" else 0


@contextmanager
def one_sentence(name: str) -> Iterator[None]:
    """Turn whatever a decoder raises over damaged or hostile bytes into an `ImageError`."""
    try:
        yield
    except (BiRefNetError, MemoryError):
        raise
    except Exception as error:  # decoders raise nearly every type there is
        lines = str(error).strip().splitlines() or [type(error).__name__]
        why = "it is damaged or cut short"
        if _OF_A_RARE_KIND.search(lines[0]):
            why = "it is of a kind that is not read; save it as PNG"
        raise ImageError(f"{name} cannot be decoded, {why} ({lines[0].rstrip('.')}).") from error
