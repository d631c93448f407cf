"""The meaning of the samples of a TIFF (TIFF 6.0): grey, palettes, inks, YCbCr, Lab, and alpha."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from birefnet.errors import ImageError, counted
from birefnet.imaging.deep import float_to_uint16
from birefnet.imaging.picture import to_float, to_uint8, to_uint16
from birefnet.imaging.tiff_samples import BYTE_STREAMS

if TYPE_CHECKING:
    from tifffile import TiffPage

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, INKS, YCBCR, CIELAB, ICCLAB = 0, 1, 2, 3, 5, 6, 8, 9

COLOURS = {
    WHITE_IS_ZERO: 1,
    BLACK_IS_ZERO: 1,
    RGB: 3,
    PALETTE: 1,
    INKS: 4,
    YCBCR: 3,
    CIELAB: 3,
    ICCLAB: 3,
}
"""Photometric interpretations that are read, and how many samples their colours take."""

_MODES = {INKS: "CMYK", CIELAB: "LAB", ICCLAB: "LAB"}
_NOT_CMYK = 2  # InkSet
_ASSOCIATED, _UNASSOCIATED = 1, 2  # ExtraSamples: alpha, multiplied into the colours or not


class Colours(NamedTuple):
    """Pixels that a page's samples mean.

    Attributes:
        pixels: H x W (grey), H x W x 3 (RGB or Lab) or H x W x 4 (CMYK); uint8, or uint16 of grey
            and RGB. Lab as files hold it, with a and b signed.
        mode: Pillow's for uint8: L, RGB, CMYK or LAB.
        alpha: float32 H x W in [0, 1], or None. Pixels are not multiplied by it.
    """

    pixels: NDArray
    mode: str
    alpha: NDArray[np.float32] | None


def interpret(samples: NDArray, page: TiffPage, name: str) -> Colours:
    """The colours of H x W x S samples, as the page's tags explain them.

    Raises:
        ImageError: an interpretation that is not one of `COLOURS`, or bands that are none.
    """
    check(page, name)
    photometric = int(page.photometric)
    count = COLOURS[photometric]
    if samples.shape[2] < count:
        raise ImageError(
            f"{name} has {counted(samples.shape[2], 'sample')} a pixel; {count} are needed."
        )
    if samples.dtype.kind == "f" and photometric not in (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB):
        raise ImageError(f"{name} is a TIFF in {_name_of(page)} of floats; save it as RGB.")
    colours, alpha = samples[..., :count], None
    bits = page.bitspersample
    band, kinds = alpha_band(page), _kinds_of_bands(page)
    if band is not None:
        alpha = to_float(_scaled(samples[..., band], bits, name))
    _warn_of_bands(page, band, name)
    if photometric == PALETTE:
        pixels = _look_up(colours[..., 0], page, name)
    else:
        pixels = _scaled(colours, bits, name)
    if band is not None and alpha is not None and kinds[band - count] == _ASSOCIATED:
        if photometric in _MODES or photometric == YCBCR:
            raise ImageError(f"{name} has {_name_of(page)} multiplied by alpha; save it as RGB.")
        pixels = unmultiplied(pixels, alpha)
    if photometric == WHITE_IS_ZERO:
        pixels = np.invert(pixels)
    if photometric == YCBCR:
        pixels = _ycbcr_to_rgb(pixels, page, name)
    if photometric in _MODES:
        pixels = _as_eight_bits(pixels, photometric)
    if pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    mode = _MODES.get(photometric, "L" if pixels.ndim == 2 else "RGB")
    return Colours(np.ascontiguousarray(pixels), mode, alpha)


def check(page: TiffPage, name: str) -> None:
    """Refuse interpretations that are not read.

    Raises:
        ImageError: it is one.
    """
    known = int(page.photometric) in COLOURS
    if not known or (page.photometric == INKS and page.tags.valueof(332) == _NOT_CMYK):
        what = "other inks than CMYK" if known else _name_of(page)
        raise ImageError(f"{name} is a TIFF of the kind {what}, which is not read; save it as RGB.")
    if page.photometric in (CIELAB, ICCLAB) and page.bitspersample not in (8, 16):
        raise ImageError(f"{name} is a TIFF in Lab of {page.bitspersample} bits; save it as RGB.")
    extra = page.samplesperpixel - COLOURS[int(page.photometric)]
    if page.photometric in (WHITE_IS_ZERO, BLACK_IS_ZERO) and extra > 1:
        raise ImageError(
            f"{name} has {counted(page.samplesperpixel, 'band')} and does not say which are red, "
            "green and blue; save three of them as RGB."
        )


def _name_of(page: TiffPage) -> str:
    return str(getattr(page.photometric, "name", page.photometric))


def alpha_band(page: TiffPage) -> int | None:
    """Which sample is alpha; bands of another meaning, such as infrared, are not."""
    first = COLOURS[int(page.photometric)]
    for number, kind in enumerate(_kinds_of_bands(page)):
        if kind in (_ASSOCIATED, _UNASSOCIATED):
            return first + number
    return None


def _kinds_of_bands(page: TiffPage) -> tuple[int, ...]:
    """ExtraSamples; where a file leaves them out, one more band than colours is alpha."""
    extra = page.samplesperpixel - COLOURS[int(page.photometric)]
    if extra == 1 and not page.extrasamples and page.photometric != PALETTE:
        return (_UNASSOCIATED,)
    kinds = tuple(int(kind) for kind in page.extrasamples)[:extra]
    return kinds + (0,) * (extra - len(kinds))


def _warn_of_bands(page: TiffPage, alpha: int | None, name: str) -> None:
    left = len(_kinds_of_bands(page)) - (alpha is not None)
    if left:
        bands = counted(left, "band")
        warnings.warn(
            f"{name}: {bands} beside the colours, not said to be alpha, left out", stacklevel=2
        )


def _scaled(values: NDArray, bits: int, name: str) -> NDArray:
    """uint8 of samples of up to 8 bits, uint16 of others, so that white is white."""
    if values.dtype.kind == "f":
        return float_to_uint16(values, name)
    if values.dtype.kind == "b":
        return to_uint8(values)
    if bits == 8:
        return values.astype(np.uint8, copy=False)
    if bits == 16:
        return values.astype(np.uint16, copy=False)
    if bits > 16:
        return (values >> np.array(bits - 16, values.dtype)).astype(np.uint16)
    most, white = (1 << bits) - 1, 255 if bits < 8 else 65535
    scaled = (values.astype(np.uint32) * white + most // 2) // most
    return scaled.astype(np.uint8 if bits < 8 else np.uint16)


def _look_up(indices: NDArray, page: TiffPage, name: str) -> NDArray:
    table = page.colormap
    if table is None or indices.dtype.kind == "f" or table.shape[1] <= int(indices.max(initial=0)):
        raise ImageError(f"{name} has a palette without the colours that its pixels name.")
    entries = np.ascontiguousarray(table.T.astype(np.uint16))
    if entries.max(initial=0) < 256:  # a common mistake: a palette of 8 bits
        entries *= 257
    return (entries if page.bitspersample > 8 else (entries >> 8).astype(np.uint8))[indices]


def unmultiplied(pixels: NDArray, alpha: NDArray[np.float32]) -> NDArray:
    """Colours H x W x C of colours that alpha was multiplied into; uint8 or uint16."""
    full_scale = np.iinfo(pixels.dtype).max
    unit = to_float(pixels) / np.maximum(alpha, 1 / full_scale)[..., None]
    return to_uint8(unit) if full_scale == 255 else to_uint16(unit)


def _ycbcr_to_rgb(pixels: NDArray, page: TiffPage, name: str) -> NDArray:
    """Section 21 of TIFF 6.0, for colours of full resolution."""
    # Other decoders give sometimes YCbCr, sometimes RGB.
    is_sure = page.compression in BYTE_STREAMS
    if not is_sure or tuple(page.subsampling or (2, 2)) != (1, 1):
        raise ImageError(
            f"{name} is a TIFF in YCbCr of a kind that is read only as JPEG; save it as RGB."
        )
    coefficients = page.tags.valueof(529)
    weights = np.array([0.299, 0.587, 0.114])
    if coefficients is not None:
        weights = np.array(coefficients, np.float64).reshape(3, -1)
        weights = weights[:, 0] / weights[:, 1] if weights.shape[1] == 2 else weights[:, 0]
    red, green, blue = weights
    full_scale = np.iinfo(pixels.dtype).max
    out = np.empty(pixels.shape, pixels.dtype)
    for top in range(0, len(pixels), 256):
        luma, cb, cr = np.moveaxis(to_float(pixels[top : top + 256]), -1, 0)
        middle = np.float32((full_scale + 1) / 2 / full_scale)
        r = luma + (cr - middle) * (2 - 2 * red)
        b = luma + (cb - middle) * (2 - 2 * blue)
        g = (luma - red * r - blue * b) / green
        rgb = np.stack([r, g, b], axis=-1)
        out[top : top + 256] = to_uint8(rgb) if full_scale == 255 else to_uint16(rgb)
    return out


def _as_eight_bits(pixels: NDArray, photometric: int) -> NDArray[np.uint8]:
    """Samples as Pillow's modes CMYK and LAB hold them; a and b of Lab are signed."""
    if photometric == INKS:
        return to_uint8(pixels)
    if pixels.dtype == np.uint16:  # a and b are signed, so their high bytes are too
        pixels = (pixels >> 8).astype(np.uint8)
    if photometric == ICCLAB:
        pixels = pixels ^ np.array([0, 128, 128], np.uint8)
    return pixels
