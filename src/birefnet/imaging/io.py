"""Decode pictures of every usual kind into upright sRGB pixels; encoding is re-exported here.

Nothing is trusted: the format is found from the first bytes, sizes are judged from the header
before a pixel is decoded, and whatever a decoder trips over becomes one sentence (`ImageError`).
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

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
    WebPImagePlugin,
)

from birefnet.errors import ImageError, counted, needs_extra
from birefnet.files import write_atomic
from birefnet.imaging import colour, deep, photometry, tiff
from birefnet.imaging.encoding import encode, encode_animation
from birefnet.imaging.formats import RAW_CURE, READABLE, SUFFIXES, is_picture, is_raw, sniff
from birefnet.imaging.metadata import Metadata, read_metadata
from birefnet.imaging.picture import (
    Limits,
    Picture,
    Remote,
    Source,
    check_pixels,
    from_array,
    one_sentence,
    png_depth,
    read_source,
    to_float,
    webp_size,
)
from birefnet.imaging.png import without_text

if TYPE_CHECKING:
    from tifffile import TiffPage

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

STILL_FRAME_MS = 100  # browsers show frames of 0 ms this long

# The plugins are called directly: `Image.open` would apply Pillow's own, global, pixel limit, try
# many more formats, and take the thumbnails of a multi-picture JPEG for an animation.
_OPENERS: dict[str, Callable[[BinaryIO], ImageFile.ImageFile]] = {
    "jpeg": JpegImagePlugin.JpegImageFile,
    "png": PngImagePlugin.PngImageFile,
    "webp": WebPImagePlugin.WebPImageFile,
    "bmp": BmpImagePlugin.BmpImageFile,
    "gif": GifImagePlugin.GifImageFile,
    "avif": AvifImagePlugin.AvifImageFile,
}


def decode(
    source: Source, *, limits: Limits | None = None, convert_to_srgb: bool = True
) -> Picture:
    """Decode a picture: of an animation the first frame, of a TIFF the first page.

    Of a TIFF with several pages, a warning says that the others are left out.

    Args:
        source: see `Source`.
        limits: what is refused; `None` for `Limits()`.
        convert_to_srgb: apply the picture's ICC profile; otherwise RGB pixels stay as they are and
            go with `Picture.icc_profile`. CMYK and LAB are always converted.

    Raises:
        ImageError: missing, empty, truncated, too large, or no picture at all.
        MissingExtraError: HEIC without the extra `heif`, or a compression of TIFF that needs the
            extra `tiff`.
    """
    return next(_decode(source, limits or Limits(), convert_to_srgb, first_only=True))


def decode_frames(
    source: Source, *, limits: Limits | None = None, convert_to_srgb: bool = True
) -> Iterator[Picture]:
    """Decode all frames of an animation, or pages of a TIFF, one at a time.

    Frames come composited on their predecessors, at the animation's full size; pages have sizes of
    their own; a still picture gives one. Arguments and errors as for `decode`; an error may also
    come between frames.
    """
    return _decode(source, limits or Limits(), convert_to_srgb, first_only=False)


def snapshot(
    source: object, *, limits: Limits | None = None, convert_to_srgb: bool = True
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
        data, name = read_source(source, limits or Limits())
        return Remote(lambda: io.BytesIO(data), name)
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
    if kind in (None, "tiff", "raw") and is_raw(name):
        kind = "raw"
    if kind == "raw":
        raise ImageError(f"{name} is a raw camera file; {RAW_CURE}.")
    if kind is None:
        raise ImageError(f"{name} is not a picture that can be read; give {READABLE}.")
    if kind == "heif":
        yield _decode_heif(data, limits, name, convert_to_srgb)
        return
    if kind == "tiff":
        yield from _tiff_pages(data, limits, name, convert_to_srgb, first_only=first_only)
        return
    if kind == "webp" and (size := webp_size(data)) is not None:
        check_pixels(*size, limits, name)  # its decoder allocates the canvas when opened
    if kind == "png":
        data = without_text(data)
    with one_sentence(name):
        image = _OPENERS[kind](io.BytesIO(data))
    check_pixels(*image.size, limits, name)
    if kind == "png" and image.mode == "L" and isinstance(image.info.get("transparency"), int):
        # Pillow stretches levels of 2 and 4 bits to 0 ... 255, but not the transparent one.
        image.info["transparency"] *= 255 // (2 ** min(png_depth(data), 8) - 1)
    if first_only:
        yield _frame(image, data, name, convert_to_srgb, keep_depth=True)
    else:
        yield from _frames(image, data, limits, name, convert_to_srgb)


def _frames(
    image: ImageFile.ImageFile, data: bytes, limits: Limits, name: str, convert_to_srgb: bool
) -> Iterator[Picture]:
    with one_sentence(name):
        count = int(getattr(image, "n_frames", 1))
    _check_frames(count, limits, name)
    # An animated PNG may begin with a picture for viewers that cannot animate.
    first = 1 if count > 1 and getattr(image, "default_image", False) else 0
    for index in range(first, count):
        with one_sentence(name):
            if index:
                image.seek(index)
        check_pixels(*image.size, limits, name)
        yield _frame(image, data, name, convert_to_srgb, keep_depth=count == 1)


def _check_frames(count: int, limits: Limits, name: str) -> None:
    if count > limits.max_frames:
        raise ImageError(
            f"{name} has {counted(count, 'frame')}; at most {limits.max_frames} are accepted."
        )


def _frame(
    image: ImageFile.ImageFile, data: bytes, name: str, convert_to_srgb: bool, *, keep_depth: bool
) -> Picture:
    """The frame that an opened file stands at."""
    with one_sentence(name):
        image.load()
        if keep_depth and image.format == "PNG" and png_depth(data) == 16:
            pixels, alpha = deep.decode_deep(data, image.height, image.width, name)
            alpha = _cleared(pixels, image) if alpha is None else alpha
            return _assemble(pixels, alpha, _about(image), name, convert_to_srgb)
        picture = _finish(image, name, convert_to_srgb)
        if not getattr(image, "is_animated", False):
            return picture
        duration = round(image.info.get("duration") or STILL_FRAME_MS)
        return replace(picture, duration_ms=duration, plays=_plays(image))


def _plays(image: ImageFile.ImageFile) -> int:
    """How often an animation is shown; 0 for ever."""
    loop = image.info.get("loop")
    if image.format == "GIF":
        # The file counts repetitions (Netscape's extension); without a count it plays once.
        return 1 if loop is None else loop + 1 if loop else 0
    return int(loop or 0)


@dataclass(frozen=True)
class _About:
    """Beside the pixels: their profile, their orientation, and the metadata that are kept."""

    profile: bytes | None = None
    orientation: int = 1
    metadata: Metadata | None = None

    @property
    def kept(self) -> Metadata | None:
        """Metadata of the upright picture."""
        is_on_its_side = self.metadata is not None and self.orientation in (5, 6, 7, 8)
        return self.metadata.turned() if is_on_its_side and self.metadata else self.metadata


def _about(image: Image.Image) -> _About:
    """Of a Pillow image, loaded."""
    profile = image.info.get("icc_profile")
    return _About(profile, _orientation(image), read_metadata(image.info, _exif(image)))


def _finish(
    image: Image.Image, name: str, convert_to_srgb: bool, about: _About | None = None
) -> Picture:
    """Turn a Pillow image of any mode into a picture."""
    image.load()
    about = about or _about(image)
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        samples = np.asarray(image)
        if image.mode == "F":
            grey = deep.float_to_uint16(samples, name)
        else:
            grey = np.clip(samples, 0, 65535).astype(np.uint16)
        return _assemble(grey, _cleared(samples, image), about, name, convert_to_srgb)
    image, transparency = _split_alpha(image)
    parsed = colour.read_profile(about.profile, name)
    if convert_to_srgb or image.mode in ("CMYK", "LAB"):
        image = colour.to_srgb(image, parsed, name)
    pixels = np.array(image.convert("RGB"))
    alpha = None if transparency is None else to_float(transparency)
    return Picture(
        pixels=_upright(pixels, about.orientation),
        alpha=None if alpha is None else _upright(alpha, about.orientation),
        icc_profile=None if parsed is None else about.profile,
        name=name,
        metadata=about.kept,
    )


def _assemble(
    pixels: NDArray[np.uint16],
    alpha: NDArray[np.float32] | None,
    about: _About,
    name: str,
    convert_to_srgb: bool,
) -> Picture:
    """As `_finish` for 16-bit samples, H x W or H x W x 3."""
    profile = about.profile
    if convert_to_srgb and profile:
        pixels, is_sound = colour.to_srgb_deep(pixels, profile, name)
        profile = profile if is_sound else None
    elif pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=2)
    if alpha is not None and alpha.min() >= 1:
        alpha = None
    return Picture(
        pixels=_upright(pixels, about.orientation),
        alpha=None if alpha is None else _upright(alpha, about.orientation),
        icc_profile=profile,
        name=name,
        metadata=about.kept,
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
    if image.mode == "La":
        image = image.convert("LA")
    if image.mode in ("P", "PA", "RGBa") or "transparency" in image.info:
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


def _tiff_pages(
    data: bytes, limits: Limits, name: str, convert_to_srgb: bool, *, first_only: bool
) -> Iterator[Picture]:
    with one_sentence(name):
        pages = tiff.read_pages(data, name, limits.max_frames)
    if not first_only:
        _check_frames(len(pages), limits, name)
    elif len(pages) > 1:
        warnings.warn(
            f"{name} has {counted(len(pages), 'page')}; the first is read. decode_frames gives "
            "them all",
            stacklevel=2,
        )
    for page in pages[:1] if first_only else pages:
        check_pixels(page.imagewidth, page.imagelength, limits, name)
        with one_sentence(name):
            yield _tiff_page(data, page, name, convert_to_srgb)


def _tiff_page(data: bytes, page: TiffPage, name: str, convert_to_srgb: bool) -> Picture:
    exif = tiff.exif_of(data, page)
    orientation = tiff.orientation_of(page)
    about = _About(tiff.profile_of(page), orientation, read_metadata({}, exif))
    page_image = tiff.decode_page(data, page, name)
    if isinstance(page_image, Image.Image):  # Pillow turns pages upright
        upright = _About(about.profile, 1, about.kept)
        return _finish(page_image, name, convert_to_srgb, upright)
    if page_image.pixels.dtype == np.uint16:
        return _assemble(page_image.pixels, page_image.alpha, about, name, convert_to_srgb)
    height, width = page_image.pixels.shape[:2]
    image = Image.frombytes(page_image.mode, (width, height), page_image.pixels.tobytes())
    picture = _finish(image, name, convert_to_srgb, about)
    if page_image.alpha is None or page_image.alpha.min() >= 1:
        return picture
    return replace(picture, alpha=_upright(page_image.alpha, orientation))


def _decode_heif(data: bytes, limits: Limits, name: str, convert_to_srgb: bool) -> Picture:
    with needs_extra("heif", "reading HEIC"):
        import pillow_heif
    with one_sentence(name):
        container = pillow_heif.open_heif(data, convert_hdr_to_8bit=False)
        image: Any = container[container.primary_index]
        width, height = image.size
        check_pixels(width, height, limits, name)
        # libheif has applied rotations and mirrors; the EXIF's orientation repeats them.
        samples = np.asarray(image)
        picture = from_array(samples, limits, name)
        exif = Image.Exif()
        with suppress(Exception):  # a broken EXIF block must not cost the picture
            exif.load(image.info.get("exif") or b"")
        about = _About(image.info.get("icc_profile"), 1, read_metadata(image.info, exif))
        if image.premultiplied_alpha and picture.alpha is not None:
            pixels = photometry.unmultiplied(picture.pixels, picture.alpha)
            picture = replace(picture, pixels=pixels)
        if samples.dtype == np.uint16:
            return _assemble(picture.pixels, picture.alpha, about, name, convert_to_srgb)
        upright = _finish(Image.fromarray(picture.pixels), name, convert_to_srgb, about)
        return replace(upright, alpha=picture.alpha)


def _exif(image: Image.Image) -> Image.Exif:
    try:
        return image.getexif()
    except Exception:  # a broken EXIF block must not cost the picture
        return Image.Exif()


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 to 8; 1 where it is missing or unreadable."""
    value = _exif(image).get(0x0112, 1)
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


def animation_format(source: Path | bytes) -> str | None:
    """The format for a result of several frames or pages (gif, webp, apng, tiff), by the header of
    a file or its bytes; `None` for still or unreadable ones."""
    try:
        with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file:
            return _animation_in(file)
    except OSError:
        return None  # whoever decodes it will say what is wrong


def _animation_in(file: BinaryIO) -> str | None:
    head = file.read(64)
    if head.startswith(b"GIF8"):
        return "gif" if _gif_is_animated(file) else None
    if head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X":
        return "webp" if head[20] & 2 else None  # the flag for animation
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "apng" if _png_is_animated(file) else None
    if sniff(head) == "tiff":
        file.seek(0)
        return "tiff" if _has_pages(file.read()) else None
    if head[4:12] == b"ftypavis":  # an AVIF sequence: webp is what all browsers play
        return "webp"
    return None


def _has_pages(data: bytes) -> bool:
    try:
        return len(tiff.read_pages(data, "it", 2)) > 1
    except Exception:  # whoever decodes it will say what is wrong
        return False


def _gif_is_animated(file: BinaryIO) -> bool:
    file.seek(0)
    try:
        return bool(GifImagePlugin.GifImageFile(file).is_animated)
    except (SyntaxError, ValueError, IndexError):
        return False


def _png_is_animated(file: BinaryIO) -> bool:
    """Whether a chunk acTL stands before the pixels."""
    file.seek(8)
    while len(head := file.read(8)) == 8:
        if head[4:] in (b"acTL", b"IDAT"):
            return head[4:] == b"acTL"
        file.seek(int.from_bytes(head[:4], "big") + 4, io.SEEK_CUR)
    return False
