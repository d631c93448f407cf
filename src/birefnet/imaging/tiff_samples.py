"""The samples of one picture of a TIFF, as stored, whatever its layout (TIFF 6.0).

Pillow's libtiff takes the compression off, by reading each stored row as a row of grey bytes: so
strips, tiles, planes, depths and byte orders that no mode of Pillow describes are read all the
same. Compressions that are no streams of bytes (JPEG 2000 and the like) are left to tifffile.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from importlib.util import find_spec
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, TiffImagePlugin, TiffTags

from birefnet.errors import ImageError, MissingExtraError, counted

if TYPE_CHECKING:
    from tifffile import TiffPage

BYTE_STREAMS = frozenset({1, 5, 8, 32773, 32946, 34925, 50000})
"""Compressions that know nothing of pixels: none, LZW, deflate, PackBits, LZMA, Zstandard."""

_UINT, _INT, _FLOAT, _UNDEFINED = 1, 2, 3, 4  # SampleFormat
_FORMATS = {
    _INT: "signed integers",
    5: "complex integers",
    6: "complex numbers",
}
_MOST_SAMPLES = 64  # of a pixel
_UNPACKED_ROWS = 64  # at a time, for each bit takes a byte


class Opened(TiffImagePlugin.TiffImageFile):
    """A TIFF in Pillow without Pillow's limit: ours is checked before, and counts pixels."""

    def load_prepare(self) -> None:
        if self._im is None:
            self.im = Image.core.new(self.mode, self._tile_size)
        ImageFile.ImageFile.load_prepare(self)


def read_samples(data: bytes, page: TiffPage, name: str) -> NDArray:
    """H x W x S samples of a page: unsigned integers of its own depth, or floats.

    Args:
        data: the whole file.
        page: one of its directories; the caller has judged its size.

    Raises:
        ImageError: a layout or type of sample without a meaning as a picture.
        MissingExtraError: a compression that needs the extra `tiff`.
    """
    _check_layout(page, name)
    if page.compression not in BYTE_STREAMS:
        return _read_with_tifffile(page, name)
    planes = page.samplesperpixel if page.planarconfig == 2 else 1
    samples = page.samplesperpixel // planes  # of a pixel, as they lie side by side
    height, width, bits = page.imagelength, page.imagewidth, page.bitspersample
    if page.is_tiled:
        part_height, part_width = page.tilelength, page.tilewidth
        down, across = -(-height // part_height), -(-width // part_width)
        if part_width > max(4096, 2 * width) or part_height > max(4096, 2 * height):
            raise ImageError(f"{name} has tiles far larger than the picture.")
    else:
        part_height, part_width, down, across = height, width, 1, 1
    row_bytes = (part_width * samples * bits + 7) // 8
    rows = planes * down * across * part_height
    parts: list[tuple[int, Sequence[int], Sequence[int]]] = []
    if page.is_tiled:
        parts.append((rows, page.dataoffsets, page.databytecounts))
        rows_per_part = part_height
    else:
        rows_per_part = max(1, min(page.rowsperstrip or height, height))
        strips = -(-height // rows_per_part)
        for first in range(0, planes * strips, strips):
            chosen = slice(first, first + strips)
            parts.append((height, page.dataoffsets[chosen], page.databytecounts[chosen]))
    inflated = [
        _inflate(data, page, offsets, counts, count, rows_per_part, row_bytes, name)
        for count, offsets, counts in parts
    ]
    stored = inflated[0] if len(inflated) == 1 else np.concatenate(inflated)
    assert stored.shape == (rows, row_bytes)
    values = _decode_rows(stored, page, part_width, samples)
    values = values.reshape(planes, down, across, part_height, part_width, samples)
    values = values.transpose(1, 3, 2, 4, 0, 5)
    values = values.reshape(down * part_height, across * part_width, planes * samples)
    return values[:height, :width]


def _check_layout(page: TiffPage, name: str) -> None:
    if page.imagedepth != 1:
        raise ImageError(f"{name} holds a volume {page.imagedepth} deep; save its slices as pages.")
    if not 1 <= page.samplesperpixel <= _MOST_SAMPLES:
        raise ImageError(
            f"{name} has {counted(page.samplesperpixel, 'sample')} a pixel; at most "
            f"{_MOST_SAMPLES} are read."
        )
    bits, kind = page.bitspersample, page.sampleformat
    if not isinstance(bits, int) or not isinstance(kind, int):
        raise ImageError(f"{name} has samples of several depths; save it with one.")
    if kind in _FORMATS:
        raise ImageError(
            f"{name} holds {_FORMATS[kind]}, which do not say what is black and white; save it "
            "as unsigned integers."
        )
    is_known = bits in (16, 32, 64) if kind == _FLOAT else 1 <= bits <= 16 or bits in (32, 64)
    if bits == 1 and page.samplesperpixel > 1 and page.planarconfig == 1:
        raise ImageError(f"{name} holds bits of several bands side by side; save it with 8 bits.")
    if kind not in (_UINT, _FLOAT, _UNDEFINED) or not is_known:
        raise ImageError(
            f"{name} holds samples of {bits} bits in format {int(kind)}; save it with 8 or 16 bits."
        )


def _read_with_tifffile(page: TiffPage, name: str) -> NDArray:
    compression = getattr(page.compression, "name", page.compression)
    if not hasattr(page.compression, "name"):
        raise ImageError(f"{name} is compressed in a way that is not known ({compression}).")
    if find_spec("imagecodecs") is None:
        raise MissingExtraError(f"reading {name}, a TIFF compressed with {compression},", "tiff")
    try:
        samples = page.asarray()
    except (ValueError, NotImplementedError, KeyError) as error:
        raise ImageError(
            f"{name} is compressed with {compression}, which is not read ({error})."
        ) from error
    if page.planarconfig == 2 and page.samplesperpixel > 1:
        samples = np.moveaxis(samples, 0, -1)
    return samples if samples.ndim == 3 else samples[..., None]


def _inflate(
    data: bytes,
    page: TiffPage,
    offsets: Sequence[int],
    counts: Sequence[int],
    rows: int,
    rows_per_part: int,
    row_bytes: int,
    name: str,
) -> NDArray[np.uint8]:
    """Strips or tiles of `rows_per_part` rows of bytes each, decompressed: rows x row_bytes."""
    expected = -(-rows // rows_per_part)
    if len(offsets) < expected or len(counts) < expected:
        raise ImageError(
            f"{name} lists {len(offsets)} of the {counted(expected, 'part')} of its pixels."
        )
    if not all(counts[:expected]):
        raise ImageError(f"{name} holds no pixels for some of its parts; save it without gaps.")
    order = "<" if page.parent.byteorder == "<" else ">"
    header = b"II*\0" if order == "<" else b"MM\0*"
    segments = [
        data[offset : offset + count]
        for offset, count in zip(offsets[:expected], counts[:expected], strict=True)
    ]
    directory = TiffImagePlugin.ImageFileDirectory_v2(header + bytes(4))
    directory[256], directory[257] = row_bytes, rows
    directory[258], directory[262], directory[277] = 8, 1, 1
    directory[259], directory[266] = int(page.compression), int(page.fillorder)
    directory[278] = rows_per_part
    list_segments(directory, segments)
    parts = [header, struct.pack(order + "I", 8), directory.tobytes(8), *segments]
    file = b"".join(parts)
    return np.asarray(Opened(io.BytesIO(file)))


def list_segments(
    directory: TiffImagePlugin.ImageFileDirectory_v2, segments: Sequence[bytes]
) -> None:
    """Say where strips lie that will follow the directory: Pillow counts from its end."""
    sizes = [len(segment) for segment in segments]
    for tag in (273, 279):
        directory.tagtype[tag] = TiffTags.LONG
    directory[273] = tuple(accumulate(sizes[:-1], initial=0))
    directory[279] = tuple(sizes)


def _decode_rows(stored: NDArray[np.uint8], page: TiffPage, width: int, samples: int) -> NDArray:
    """Rows of bytes → rows x (width * samples) numbers, with differences summed up."""
    bits, count = page.bitspersample, width * samples
    is_float = page.sampleformat == _FLOAT
    order: str = page.parent.byteorder
    if page.predictor == 3 and is_float:
        return _sum_float_bytes(stored, bits // 8, samples, order)
    if bits not in (8, 16, 32, 64):
        if page.predictor != 1:
            raise ImageError(f"differences of {bits} bits are not read.")
        return _unpack(stored, count, bits)
    integers = stored.view(np.dtype(f"{order}u{bits // 8}"))
    if page.predictor == 2:
        integers = integers.astype(integers.dtype.newbyteorder("="))
        pixels = integers.reshape(len(integers), width, samples)
        np.cumsum(pixels, axis=1, dtype=pixels.dtype, out=pixels)
        order = "="
    elif page.predictor != 1:
        raise ImageError(f"predictor {page.predictor} is not read.")
    return integers.view(np.dtype(f"{order}f{bits // 8}")) if is_float else integers


def _sum_float_bytes(stored: NDArray[np.uint8], size: int, samples: int, order: str) -> NDArray:
    """Predictor 3 (Adobe Photoshop TIFF Technical Note 3): the floats' bytes lie apart, the most
    significant first, as differences."""
    rows = len(stored)
    summed = stored.reshape(rows, -1, samples).copy()
    np.cumsum(summed, axis=1, dtype=np.uint8, out=summed)
    apart = summed.reshape(rows, size, -1)
    return np.ascontiguousarray(apart.transpose(0, 2, 1)).view(f">f{size}")[..., 0]


def _unpack(stored: NDArray[np.uint8], count: int, bits: int) -> NDArray:
    """Numbers of an odd number of bits, the most significant first, each row from a full byte."""
    weights = (1 << np.arange(bits - 1, -1, -1)).astype(np.uint16)
    out = np.empty((len(stored), count), np.uint8 if bits < 8 else np.uint16)
    for top in range(0, len(stored), _UNPACKED_ROWS):
        rows = np.unpackbits(stored[top : top + _UNPACKED_ROWS], axis=1)[:, : count * bits]
        out[top : top + _UNPACKED_ROWS] = rows.reshape(len(rows), count, bits) @ weights
    return out
