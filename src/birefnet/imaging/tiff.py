"""TIFF: which pictures a file holds, how each is read, and a writer for pages of 8 and 16 bits.

tifffile reads the directories; it is imported when a TIFF is met. Pillow decodes what its modes
describe; the samples of the rest are read by `tiff_samples` and interpreted by `photometry`. Pillow
writes no RGB of 16 bits, so the writer is our own.
"""

from __future__ import annotations

import ctypes
import io
import logging
import struct
import zlib
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from itertools import islice
from typing import TYPE_CHECKING, Any, cast

from numpy.typing import NDArray
from PIL import ExifTags, Image, TiffImagePlugin, TiffTags

from birefnet.errors import ImageError
from birefnet.imaging import photometry
from birefnet.imaging.formats import RAW_CURE
from birefnet.imaging.metadata import (
    DESCRIPTIONS,
    IPTC_TAG,
    RESOLUTION_UNIT,
    X_RESOLUTION,
    Y_RESOLUTION,
    Metadata,
)
from birefnet.imaging.photometry import Colours
from birefnet.imaging.tiff_samples import BYTE_STREAMS, Opened, list_segments, read_samples

if TYPE_CHECKING:
    from tifffile import TiffPage

_RAW_PHOTOMETRICS = (32803, 34892)  # a colour filter array; linear raw
_DNG_VERSION, _XMP, _PROFILE, _ORIENTATION = 50706, 700, 34675, 274
_BY_LIBTIFF = (2, 3, 4, 6, 7, 32809)  # fax, JPEG, ThunderScan: no streams of bytes
_IGNORE_DIFFERENCES = (1, 32773)  # none and PackBits, in libtiff
_MOST_INSIDE = 32  # directories inside a directory that are looked at
_STRIP_BYTES = 1 << 20
_EFFORT = 3  # of deflate


def read_pages(data: bytes, name: str, most: int) -> list[TiffPage]:
    """The pictures of a TIFF, in order: no previews, masks, or smaller copies.

    Where the first directories hold only a preview, the picture is in a directory inside one.

    Args:
        data: the whole file.
        most: at most so many directories are looked at, and one more.

    Raises:
        ImageError: a raw camera file.
    """
    import tifffile

    _silence()
    file = tifffile.TiffFile(io.BytesIO(data))
    chain = cast("list[TiffPage]", list(islice(file.pages, most + 1)))
    inside = {number: _inside(page) for number, page in enumerate(chain)}
    everything = [*chain, *(page for pages in inside.values() for page in pages)]
    if any(_is_raw(page) for page in everything):
        raise ImageError(f"{name} is a raw camera file; {RAW_CURE}.")
    pages = []
    for number, page in enumerate(chain):
        larger = [part for part in inside[number] if _is_whole(part) and _area(part) > _area(page)]
        if larger:
            pages.append(max(larger, key=_area))
        elif _is_whole(page):
            pages.append(page)
    return pages or [max(everything, key=_area)]


@cache
def _silence() -> None:
    """Keep tifffile and libtiff from writing to standard error: what is wrong is said by us."""
    logging.getLogger("tifffile").addHandler(logging.NullHandler())
    with suppress(AttributeError, OSError):  # in Pillow for Windows nothing else can reach it
        ctypes.CDLL(Image.core.__file__).TIFFSetErrorHandler(None)


def _inside(page: Any) -> list[TiffPage]:
    offsets = page.subifds or ()
    return list(islice(page.pages, _MOST_INSIDE)) if offsets else []


def _is_raw(page: TiffPage) -> bool:
    return page.photometric in _RAW_PHOTOMETRICS or _DNG_VERSION in page.tags


def _is_whole(page: TiffPage) -> bool:
    return not page.is_reduced and not page.is_mask


def _area(page: TiffPage) -> int:
    return int(page.imagewidth) * int(page.imagelength)


def decode_page(data: bytes, page: TiffPage, name: str) -> Image.Image | Colours:
    """One picture of the file: a loaded, upright Pillow image, or samples as stored.

    Raises:
        ImageError: it holds no picture, or one of a kind that is not read.
        MissingExtraError: its compression needs the extra `tiff`.
    """
    photometry.check(page, name)
    if _is_usual(page):
        image = Opened(io.BytesIO(_starting_at(data, page)))
        image.load()
        return image
    return photometry.interpret(read_samples(data, page, name), page, name)


def _is_usual(page: TiffPage) -> bool:
    """Whether Pillow reads it rightly: up to 8 bits, colours side by side, no other bands; where
    pixels are compressed as such, also alpha, and planes apart."""
    is_stream = page.compression in BYTE_STREAMS
    if not is_stream and page.compression not in _BY_LIBTIFF:
        return False
    is_plain = page.samplesperpixel == photometry.COLOURS[int(page.photometric)]
    is_together = page.samplesperpixel == 1 or page.planarconfig == 1
    if not is_stream and page.photometric == photometry.RGB:
        is_plain = is_together = True
    if not is_stream and is_plain and page.photometric != photometry.YCBCR:
        is_together = True
    return (
        page.sampleformat == 1
        and page.bitspersample in (1, 2, 4, 8)
        and (page.samplesperpixel == 1 or page.bitspersample == 8)
        and (page.photometric in (0, 1, 2, 3, 5, 8) or not is_stream)
        and is_plain
        and is_together
        and page.imagedepth == 1
        and (page.predictor == 1 or page.compression not in _IGNORE_DIFFERENCES)
    )


def _starting_at(data: bytes, page: TiffPage) -> bytes:
    """The same file with this page's directory as its first."""
    parent = page.parent
    start, layout = (8, "Q") if parent.is_bigtiff else (4, "I")
    pointer = struct.pack(parent.byteorder + layout, page.offset)
    end = start + len(pointer)
    return data if data[start:end] == pointer else data[:start] + pointer + data[end:]


def exif_of(data: bytes, page: TiffPage) -> Image.Exif:
    """The page's directory as Pillow holds EXIF; empty if that cannot be read."""
    exif = Image.Exif()
    exif.endian, exif.bigtiff = page.parent.byteorder, page.parent.is_bigtiff
    try:
        exif.load_from_fp(io.BytesIO(data), page.offset)
    except Exception:  # a broken tag must not cost the picture
        return Image.Exif()
    return exif


def orientation_of(page: TiffPage) -> int:
    """As of EXIF, 1 to 8; 1 where it is missing or makes no sense."""
    value = page.tags.valueof(_ORIENTATION)
    return int(value) if isinstance(value, int) and 1 <= value <= 8 else 1


def profile_of(page: TiffPage) -> bytes | None:
    """The ICC profile."""
    value = page.tags.valueof(_PROFILE)
    return value if isinstance(value, bytes) and value else None


def write_tiff(
    pages: Iterable[tuple[NDArray, bytes | None]], metadata: Metadata | None = None
) -> bytes:
    """Encode pages of H x W (grey), or H x W x 2, 3 or 4 (the last of 2 and 4 is alpha), uint8 or
    uint16, with their ICC profiles; drawn one at a time.

    Lossless: horizontal differences, deflated in strips; little-endian. What `metadata` describes
    goes to the first page, its resolution to all.
    """
    metadata = metadata or Metadata()
    data = bytearray(struct.pack("<2sHI", b"II", 42, 8))
    pointer = 4  # where the place of the next directory is written
    for number, (samples, icc_profile) in enumerate(pages):
        strips, rows = _deflate(samples)
        directory = _directory(samples, strips, rows)
        if icc_profile:
            directory[_PROFILE] = icc_profile
        if metadata.dpi:
            directory[X_RESOLUTION], directory[Y_RESOLUTION] = metadata.dpi
            directory[RESOLUTION_UNIT] = 2
        if number == 0:
            _describe(directory, metadata)
        start = len(data)
        struct.pack_into("<I", data, pointer, start)
        pointer = start + 2 + 12 * len(directory)
        data += directory.tobytes(start) + b"".join(strips)
        data += bytes(len(data) % 2)
    return bytes(data)


def _deflate(samples: NDArray) -> tuple[list[bytes], int]:
    """Strips of differences, and how many rows each holds."""
    samples = samples if samples.ndim == 3 else samples[..., None]
    height, width, channels = samples.shape
    rows = max(1, _STRIP_BYTES // (width * channels * samples.itemsize))
    strips = []
    for top in range(0, height, rows):
        strip = samples[top : top + rows].astype(samples.dtype.newbyteorder("<"))
        strip[:, 1:] -= samples[top : top + rows, :-1]  # wraps around, as the reader's sums do
        strips.append(zlib.compress(strip.tobytes(), _EFFORT))
    return strips, rows


def _directory(
    samples: NDArray, strips: list[bytes], rows: int
) -> TiffImagePlugin.ImageFileDirectory_v2:
    height, width = samples.shape[:2]
    channels = samples.shape[2] if samples.ndim == 3 else 1
    directory = TiffImagePlugin.ImageFileDirectory_v2(b"II*\0\0\0\0\0")
    directory[256], directory[257] = width, height
    directory[258] = (8 * samples.itemsize,) * channels
    directory[259] = 8  # deflate
    directory[262] = photometry.RGB if channels > 2 else photometry.BLACK_IS_ZERO
    list_segments(directory, strips)
    directory[277], directory[278] = channels, rows
    directory[317] = 2  # horizontal differences
    if channels in (2, 4):
        directory[338] = 2  # alpha, colours not multiplied by it
    directory[339] = (1,) * channels
    return directory


def _describe(directory: TiffImagePlugin.ImageFileDirectory_v2, metadata: Metadata) -> None:
    exif = Image.Exif()
    exif.load(metadata.exif or b"")
    for tag in DESCRIPTIONS & set(exif):
        directory[tag] = exif[tag]
    for inside in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
        if entries := exif.get_ifd(inside):
            directory[inside] = dict(entries)
    if metadata.xmp:
        directory.tagtype[_XMP] = TiffTags.BYTE
        directory[_XMP] = metadata.xmp
    if metadata.iptc:
        directory.tagtype[IPTC_TAG] = TiffTags.UNDEFINED
        directory[IPTC_TAG] = metadata.iptc
