"""Decode pictures of every usual kind into upright sRGB pixels; encoding is re-exported here.

Nothing is trusted: the format is found from the first bytes, sizes are judged from the header
before a pixel is decoded, and whatever a decoder trips over becomes one sentence (`ImageError`).
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from birefnet.errors import ImageError, MissingExtraError
from birefnet.imaging import colour, deep
from birefnet.imaging.encoding import encode, encode_animation, write_atomic
from birefnet.imaging.formats import READABLE, SUFFIXES, is_picture, sniff
from birefnet.imaging.picture import Limits, Picture, to_float, to_uint8, to_uint16
from birefnet.imaging.png import without_text
from birefnet.imaging.remote import Remote
from birefnet.imaging.source import (
    Source,
    check_pixels,
    from_array,
    one_sentence,
    png_depth,
    read_source,
    webp_size,
)
from birefnet.imaging.tiff import TiffHeader, read_tiff_header

__all__ = [
    "SUFFIXES",
    "Limits",
    "Picture",
    "Source",
    "decode",
    "decode_frames",
    "encode",
    "encode_animation",
    "is_picture",
    "snapshot",
    "write_atomic",
]

DEFAULT_LIMITS = Limits()
STILL_FRAME_MS = 100  # browsers show frames of 0 ms this long

# The plugins are called directly: `Image.open` would apply Pillow's own, global, pixel limit, try
# many more formats, and take the thumbnails of a multi-picture JPEG for an animation.
_OPENERS: dict[str, Callable[[BinaryIO], ImageFile.ImageFile]] = {
    "jpeg": JpegImagePlugin.JpegImageFile,
    "png": PngImagePlugin.PngImageFile,
    "webp": WebPImagePlugin.WebPImageFile,
    "tiff": TiffImagePlugin.TiffImageFile,
    "bmp": BmpImagePlugin.BmpImageFile,
    "gif": GifImagePlugin.GifImageFile,
    "avif": AvifImagePlugin.AvifImageFile,
}


def decode(
    source: Source, *, limits: Limits = DEFAULT_LIMITS, convert_to_srgb: bool = True
) -> Picture:
    """Decode a picture, or the first frame of an animation.

    Args:
        source: see `Source`.
        limits: what is refused, see `Limits`.
        convert_to_srgb: apply the picture's ICC profile; otherwise RGB pixels stay as they are and
            go with `Picture.icc_profile`. CMYK and LAB are always converted.

    Raises:
        ImageError: missing, empty, truncated, too large, or no picture at all.
        MissingExtraError: HEIC without the extra `heif`.
    """
    return next(_decode(source, limits, convert_to_srgb, first_only=True))


def decode_frames(
    source: Source, *, limits: Limits = DEFAULT_LIMITS, convert_to_srgb: bool = True
) -> Iterator[Picture]:
    """Decode all frames of an animation, or pages of a TIFF, one at a time.

    Frames come composited on their predecessors, at the animation's full size; a still picture
    gives one. Arguments and errors as for `decode`; an error may also come between frames.
    """
    return _decode(source, limits, convert_to_srgb, first_only=False)


def snapshot(
    source: Any, *, limits: Limits = DEFAULT_LIMITS, convert_to_srgb: bool = True
) -> Source | Picture:
    """The same picture, in memory that the caller does not hold.

    An array, a Pillow image, a buffer or an open file may hold something else by the time it is
    decoded. Paths, bytes and `Picture` come back as they are. Arguments and errors as for `decode`.
    """
    if isinstance(source, (bytearray, memoryview)):
        return bytes(source)
    if isinstance(source, (np.ndarray, Image.Image)):
        return decode(source, limits=limits, convert_to_srgb=convert_to_srgb)
    if hasattr(source, "read") and not isinstance(source, (os.PathLike, Remote)):
        data, name = read_source(source, limits)
        return cast(Source, Remote(lambda: io.BytesIO(data), name))
    return cast("Source | Picture", source)


def _load_open(image: Image.Image, name: str) -> None:
    """Load a Pillow image that a caller has opened, and perhaps closed."""
    try:
        image.load()
    except (AssertionError, AttributeError, ValueError) as error:
        if "closed" in str(error) or getattr(image, "fp", None) is None:
            raise ImageError(
                f"{name} was closed before its pixels were read; give it while it is open, or call "
                "its load() first."
            ) from None
        raise


def _decode(
    source: Source, limits: Limits, convert_to_srgb: bool, *, first_only: bool
) -> Iterator[Picture]:
    if isinstance(source, np.ndarray):
        yield from_array(source, limits)
        return
    if isinstance(source, Image.Image):
        name = str(getattr(source, "filename", "") or "the image")
        check_pixels(*source.size, limits, name)
        with one_sentence(name):
            _load_open(source, name)
            picture = _finish(source, name, convert_to_srgb)
        yield picture
        return
    data, name = read_source(source, limits)
    kind = sniff(data)
    if kind is None:
        raise ImageError(f"{name} is not a picture that can be read; give {READABLE}.")
    if kind == "heif":
        yield _decode_heif(data, limits, name, convert_to_srgb)
        return
    if kind == "webp" and (size := webp_size(data)) is not None:
        check_pixels(*size, limits, name)  # its decoder allocates the canvas when opened
    if kind == "tiff":
        header = read_tiff_header(data)
        if header is not None and header.is_deep and (first_only or not header.has_more_pages):
            check_pixels(header.width, header.height, limits, name)
            yield _decode_deep_tiff(data, header, name, convert_to_srgb)
            return
    if kind == "png":
        data = without_text(data)
    with one_sentence(name):
        image = _OPENERS[kind](io.BytesIO(data))
    check_pixels(*image.size, limits, name)
    if first_only:
        yield _frame(image, data, name, convert_to_srgb, keep_depth=True)
    else:
        yield from _frames(image, data, limits, name, convert_to_srgb)


def _frames(
    image: ImageFile.ImageFile, data: bytes, limits: Limits, name: str, convert_to_srgb: bool
) -> Iterator[Picture]:
    with one_sentence(name):
        count = int(getattr(image, "n_frames", 1))
    if count > limits.max_frames:
        raise ImageError(f"{name} has {count} frames; at most {limits.max_frames} are accepted.")
    # An animated PNG may begin with a picture for viewers that cannot animate.
    first = 1 if count > 1 and getattr(image, "default_image", False) else 0
    for index in range(first, count):
        with one_sentence(name):
            if index:
                image.seek(index)
        check_pixels(*image.size, limits, name)
        yield _frame(image, data, name, convert_to_srgb, keep_depth=count == 1)


def _frame(
    image: ImageFile.ImageFile, data: bytes, name: str, convert_to_srgb: bool, *, keep_depth: bool
) -> Picture:
    """The frame that an opened file stands at."""
    with one_sentence(name):
        if keep_depth and image.format == "PNG" and png_depth(data) == 16:
            width, height = image.size
            pixels, alpha = deep.decode_deep(data, height, width, name)
            image.load()  # its EXIF may follow the pixels
            alpha = _cleared(pixels, image) if alpha is None else alpha
            profile = image.info.get("icc_profile")
            return _assemble(
                pixels, alpha, profile, name, convert_to_srgb, orientation=_orientation(image)
            )
        is_animated = image.format != "TIFF" and getattr(image, "is_animated", False)
        image.load()
        duration = image.info.get("duration") if is_animated else None
        if is_animated:
            duration = round(duration or STILL_FRAME_MS)
        return _finish(image, name, convert_to_srgb, duration)


def _finish(
    image: Image.Image, name: str, convert_to_srgb: bool, duration_ms: int | None = None
) -> Picture:
    """Turn a Pillow image of any mode into a picture."""
    image.load()
    profile = image.info.get("icc_profile")
    orientation = _orientation(image)
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        samples = np.asarray(image)
        if image.mode == "F":
            grey = deep.float_to_uint16(samples, name)
        else:
            grey = np.clip(samples, 0, 65535).astype(np.uint16)
        alpha = _cleared(samples, image)
        return _assemble(grey, alpha, profile, name, convert_to_srgb, orientation=orientation)
    image, transparency = _split_alpha(image)
    parsed = colour.read_profile(profile, name)
    if convert_to_srgb or image.mode in ("CMYK", "LAB"):
        image = colour.to_srgb(image, parsed, name)
    pixels = np.array(image.convert("RGB"))
    alpha = None if transparency is None else to_float(transparency)
    return Picture(
        pixels=_upright(pixels, orientation),
        alpha=None if alpha is None else _upright(alpha, orientation),
        icc_profile=None if parsed is None else profile,
        duration_ms=duration_ms,
        name=name,
    )


def _assemble(
    pixels: NDArray[np.uint16],
    alpha: NDArray[np.float32] | None,
    profile: bytes | None,
    name: str,
    convert_to_srgb: bool,
    *,
    orientation: int,
) -> Picture:
    """As `_finish` for 16-bit samples, H x W or H x W x 3."""
    if convert_to_srgb and profile:
        pixels, is_sound = colour.to_srgb_deep(pixels, profile, name)
        profile = profile if is_sound else None
    elif pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=2)
    if alpha is not None and alpha.min() >= 1:
        alpha = None
    return Picture(
        pixels=_upright(pixels, orientation),
        alpha=None if alpha is None else _upright(alpha, orientation),
        icc_profile=profile,
        name=name,
    )


def _cleared(samples: NDArray, image: Image.Image) -> NDArray[np.float32] | None:
    """Alpha of a picture that names one value or colour as transparent."""
    clear = image.info.get("transparency")
    if clear is None:
        return None
    differs = samples != np.asarray(clear)
    return (differs if samples.ndim == 2 else differs.any(axis=2)).astype(np.float32)


def _split_alpha(image: Image.Image) -> tuple[Image.Image, NDArray[np.uint8] | None]:
    """Colours as L, RGB, CMYK or LAB, and alpha where it is not opaque throughout."""
    if image.mode in ("P", "PA", "La", "RGBa") or "transparency" in image.info:
        has_alpha = image.mode != "P" or "transparency" in image.info
        image = image.convert("RGBA" if has_alpha else "RGB")
    if image.mode in ("LA", "RGBA"):
        transparency = np.array(image.getchannel("A"))
        image = image.convert("L" if image.mode == "LA" else "RGB")
        return image, None if transparency.min() == 255 else transparency
    if image.mode == "1":
        return image.convert("L"), None
    if image.mode not in ("L", "RGB", "CMYK", "LAB"):
        return image.convert("RGB"), None
    return image, None


def _decode_deep_tiff(data: bytes, header: TiffHeader, name: str, convert_to_srgb: bool) -> Picture:
    with one_sentence(name):
        pixels, alpha = deep.decode_deep(
            data, header.height, header.width, name, premultiplied=header.is_premultiplied
        )
        return _assemble(
            pixels,
            alpha,
            header.icc_profile,
            name,
            convert_to_srgb,
            orientation=header.orientation,
        )


def _decode_heif(data: bytes, limits: Limits, name: str, convert_to_srgb: bool) -> Picture:
    try:
        import pillow_heif
    except ImportError:
        raise MissingExtraError("reading HEIC", "heif") from None
    with one_sentence(name):
        container = pillow_heif.open_heif(data, convert_hdr_to_8bit=False)
        image: Any = container[container.primary_index]
        width, height = image.size
        check_pixels(width, height, limits, name)
        # libheif has applied rotations and mirrors; the EXIF's orientation repeats them.
        samples = np.asarray(image)
        picture = from_array(samples, limits, name)
        profile: bytes | None = image.info.get("icc_profile")
        if image.premultiplied_alpha and picture.alpha is not None:
            picture = _unmultiply(picture)
        if samples.dtype == np.uint16:
            return _assemble(
                picture.pixels, picture.alpha, profile, name, convert_to_srgb, orientation=1
            )
        still = Image.fromarray(picture.pixels)
        if profile:
            still.info["icc_profile"] = profile
        upright = _finish(still, name, convert_to_srgb)
        return Picture(upright.pixels, picture.alpha, upright.icc_profile, None, name)


def _unmultiply(picture: Picture) -> Picture:
    assert picture.alpha is not None
    full_scale = np.iinfo(picture.pixels.dtype).max
    unit = to_float(picture.pixels) / np.maximum(picture.alpha, 1 / full_scale)[..., None]
    pixels = to_uint8(unit) if full_scale == 255 else to_uint16(unit)
    return Picture(pixels, picture.alpha, picture.icc_profile, picture.duration_ms, picture.name)


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 to 8; 1 where it is missing or unreadable."""
    try:
        value = image.getexif().get(0x0112, 1)
    except Exception:  # a broken EXIF block must not cost the picture
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _upright(pixels: NDArray, orientation: int) -> NDArray:
    """Undo an EXIF orientation (Exif 2.32, table 6): how row 0 and column 0 were stored."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)
