"""Encode pixels, masks and animations."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, features

from birefnet.errors import BiRefNetError
from birefnet.imaging.metadata import IPTC_OVERHEAD, Metadata, fits, iptc_segment
from birefnet.imaging.picture import to_uint8, to_uint16
from birefnet.imaging.png import write_apng, write_png
from birefnet.imaging.tiff import write_tiff

FORMATS = ("png", "webp", "jpeg", "tiff", "avif")
ANIMATIONS = ("gif", "webp", "apng")

_ALIASES = {"jpg": "jpeg", "tif": "tiff"}
_DEFAULT_QUALITY = {"jpeg": 95, "webp": 90, "avif": 80}
_LONGEST_SIDE = {"jpeg": 65535, "webp": 16383, "avif": 65536}
_LONGEST_BLOCK = {"jpeg": 65533}  # of EXIF, bytes
_NO_LIMIT = 1 << 30
_MOST_PLAYS = 65535
_GIF_CLEAR = 255  # palette entry of transparent pixels

Frame = tuple[NDArray, NDArray | None, int]


def encode(
    pixels: NDArray,
    alpha: NDArray | None = None,
    *,
    format: str = "png",
    quality: int | None = None,
    bits: Literal[8, 16] = 8,
    icc_profile: bytes | None = None,
    lossless: bool | None = None,
    metadata: Metadata | None = None,
) -> bytes:
    """Encode a picture or a mask.

    Args:
        pixels: H x W x 3 RGB, H x W x 4 RGBA, or H x W (a mask), uint8, uint16, bool, or float in
            [0, 1].
        alpha: H x W of the same kinds, not multiplied into `pixels`; None for none.
        format: png, webp, jpeg, tiff, or avif where Pillow was built with it.
        quality: 1 to 100 for jpeg, webp and avif; None for 95, 90 and 80.
        bits: 8, or 16 for png and tiff.
        icc_profile: profile of these very pixels, written along.
        lossless: of webp and avif; None means masks only. A webp's alpha is always lossless.
        metadata: resolution, EXIF, XMP and, in jpeg and tiff, IPTC, written along.

    Raises:
        BiRefNetError: the format cannot hold what is asked for.
    """
    format = _ALIASES.get(format.lower(), format.lower())
    if format not in FORMATS:
        raise BiRefNetError(f"format is {format!r}; choose one of {', '.join(FORMATS)}.")
    if bits not in (8, 16) or (bits == 16 and format not in ("png", "tiff")):
        raise BiRefNetError(f"{format} with {bits} bits cannot be written; 16 need png or tiff.")
    _check_shapes(pixels, alpha)
    if format == "jpeg" and (alpha is not None or pixels.shape[2:] == (4,)):
        raise BiRefNetError(
            "a JPEG cannot be transparent: it needs a background, or choose png or webp."
        )
    samples = _stack(pixels, alpha, bits)
    if format == "png":
        return write_png(samples, icc_profile, metadata)
    if format == "tiff":
        return write_tiff([(samples, icc_profile)], metadata)
    return _encode_with_pillow(samples, format, quality, icc_profile, lossless, metadata)


def encode_pages(
    pages: Iterable[tuple[NDArray, bytes | None]], metadata: Metadata | None = None
) -> bytes:
    """Encode pages of a TIFF, drawn one at a time.

    Args:
        pages: what `encode` takes as `pixels`, of any sizes, and its ICC profile; uint16 pixels
            have 16 bits, others 8.
        metadata: goes to the first page, its resolution to all.
    """

    def samples() -> Iterator[tuple[NDArray, bytes | None]]:
        for pixels, icc_profile in pages:
            _check_shapes(pixels, None)
            yield _stack(pixels, None, 16 if pixels.dtype == np.uint16 else 8), icc_profile

    return write_tiff(samples(), metadata)


def encode_animation(
    frames: Iterable[Frame],
    *,
    format: str = "webp",
    quality: int | None = None,
    lossless: bool = False,
    loop: int = 0,
    metadata: Metadata | None = None,
) -> bytes:
    """Encode frames of one size, drawn one at a time.

    Args:
        frames: (pixels, alpha or None, duration [ms]) each, as for `encode`.
        format: gif (alpha becomes all or nothing at one half), webp or apng.
        quality: 1 to 100, of lossy webp; None for 90.
        lossless: of webp.
        loop: how often it plays; 0 for ever.
        metadata: resolution, EXIF and XMP, written along; a gif cannot hold them.

    Raises:
        BiRefNetError: no frames, or frames of different sizes.
    """
    format = format.lower()
    if format not in ANIMATIONS:
        raise BiRefNetError(f"format is {format!r}; choose one of {', '.join(ANIMATIONS)}.")
    drawn = _rgba_frames(frames)
    first = next(drawn, None)
    if first is None:
        raise BiRefNetError("the animation has no frames; give at least one.")
    drawn = chain([first], drawn)
    if format == "apng":
        return write_apng(drawn, loop, metadata)
    durations: list[int] = []  # grows as Pillow draws the frames

    def images() -> Iterator[Image.Image]:
        for rgba, duration in drawn:
            durations.append(duration)
            yield _gif_frame(rgba) if format == "gif" else Image.fromarray(rgba)

    rest = images()
    options: dict[str, Any] = {"save_all": True, "append_images": rest, "duration": durations}
    if format == "gif":
        options |= {"disposal": 2, "optimize": False}
        if loop != 1:  # a GIF counts repetitions, and plays once where it has no count
            options["loop"] = max(0, min(loop, _MOST_PLAYS) - 1)
    else:
        options |= {"quality": _check_quality(quality, format), "lossless": lossless, "method": 2}
        options |= {"loop": min(loop, _MOST_PLAYS), **_described(metadata, format)}
    buffer = io.BytesIO()
    next(rest).save(buffer, format.upper(), **options)
    return buffer.getvalue()


def _check_shapes(pixels: NDArray, alpha: NDArray | None) -> None:
    channels = (3,) if alpha is not None else (3, 4)
    if 0 in pixels.shape or not (
        pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in channels)
    ):
        raise BiRefNetError(f"got pixels of shape {pixels.shape}; expected H x W x 3, or H x W.")
    if alpha is not None and alpha.shape != pixels.shape[:2]:
        raise BiRefNetError(
            f"alpha has shape {alpha.shape}, the pixels {pixels.shape[:2]}; they must agree."
        )


def _stack(pixels: NDArray, alpha: NDArray | None, bits: int) -> NDArray:
    """Grey, grey and alpha, RGB or RGBA of the wanted depth."""
    convert = to_uint8 if bits == 8 else to_uint16
    colour = convert(pixels)
    if alpha is None:
        return colour
    return np.dstack([colour, convert(alpha)])


def _check_quality(quality: int | None, format: str) -> int:
    if quality is None:
        return _DEFAULT_QUALITY[format]
    if not 1 <= quality <= 100:
        raise BiRefNetError(f"quality is {quality}; give 1 to 100.")
    return quality


def _described(metadata: Metadata | None, format: str) -> dict[str, object]:
    """Resolution, EXIF, XMP and IPTC as Pillow's arguments."""
    if metadata is None:
        return {}
    most = _LONGEST_BLOCK.get(format, _NO_LIMIT)
    options: dict[str, object] = {}
    exif = metadata.exif if format == "jpeg" else metadata.exif_with_dpi()
    if format == "jpeg" and metadata.dpi:
        options["dpi"] = metadata.dpi
    if exif := fits(exif, most, "EXIF"):
        options["exif"] = exif
    if xmp := fits(metadata.xmp, most - 29, "XMP"):  # which has a longer signature
        options["xmp"] = xmp
    if format == "jpeg" and (iptc := fits(metadata.iptc, most - IPTC_OVERHEAD, "IPTC")):
        options["extra"] = iptc_segment(iptc)
    return options


def _encode_with_pillow(
    samples: NDArray[np.uint8],
    format: str,
    quality: int | None,
    icc_profile: bytes | None,
    lossless: bool | None,
    metadata: Metadata | None,
) -> bytes:
    if format == "avif" and not features.check("avif"):
        raise BiRefNetError("this Pillow was built without AVIF; choose png or webp.")
    if max(samples.shape[:2]) > _LONGEST_SIDE[format]:
        raise BiRefNetError(
            f"the picture's longer side is {max(samples.shape[:2])} pixels; {format} holds "
            f"{_LONGEST_SIDE[format]}, png and tiff more."
        )
    is_mask = samples.ndim == 2
    quality = _check_quality(quality, format)
    options: dict[str, object] = {"quality": quality}
    if lossless if lossless is not None else is_mask:
        options = _LOSSLESS.get(format, options)
    elif format == "webp":
        options |= {"alpha_quality": 100, "method": 3}
    elif format == "jpeg" and quality >= 90:
        options["subsampling"] = 0
    if icc_profile:
        options["icc_profile"] = icc_profile
    options |= _described(metadata, format)
    image = Image.fromarray(samples)
    if format != "jpeg" and image.mode in ("L", "LA"):
        image = image.convert("RGB" if image.mode == "L" else "RGBA")
    buffer = io.BytesIO()
    image.save(buffer, format.upper(), **options)
    return buffer.getvalue()


_LOSSLESS: dict[str, dict[str, object]] = {
    # `quality` is the effort here; more buys a few hundredths of the size for many times the time.
    "webp": {"lossless": True, "quality": 20, "method": 0},
    "avif": {"quality": 100, "subsampling": "4:4:4"},
}


def _rgba_frames(frames: Iterable[Frame]) -> Iterator[tuple[NDArray[np.uint8], int]]:
    """RGBA pixels and durations of frames, which must agree in size."""
    size: tuple[int, ...] | None = None
    for index, (pixels, alpha, duration) in enumerate(frames):
        _check_shapes(pixels, alpha)
        size = size or pixels.shape[:2]
        if pixels.shape[:2] != size:
            raise BiRefNetError(
                f"frame {index} is {pixels.shape[1]} x {pixels.shape[0]}, the first {size[1]} x "
                f"{size[0]}; the frames of an animation must agree."
            )
        colour = to_uint8(pixels)
        if colour.ndim == 2:
            colour = np.repeat(colour[..., None], 3, axis=2)
        opacity = np.full(size, 255, np.uint8) if alpha is None else to_uint8(alpha)
        yield np.dstack([colour, opacity]), min(max(1, round(duration)), 65535)


def _gif_frame(rgba: NDArray[np.uint8]) -> Image.Image:
    """255 colours of the visible pixels, and one transparent entry."""
    colour, is_clear = rgba[..., :3], rgba[..., 3] < 128
    if is_clear.any() and not is_clear.all():
        # Hidden colours must not take entries of the palette.
        colour = np.where(is_clear[..., None], colour[~is_clear].mean(axis=0), colour)
    image = Image.fromarray(colour.astype(np.uint8)).quantize(255, dither=Image.Dither.NONE)
    image.paste(_GIF_CLEAR, mask=Image.fromarray(is_clear))
    image.info["transparency"] = _GIF_CLEAR
    return image
