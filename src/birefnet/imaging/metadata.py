"""Metadata of a picture that results keep: resolution, EXIF, XMP, and IPTC (IIM 4.2).

Kept is what people wrote and what the camera noted, the place (GPS) included. Left out is what
describes the old file or would show the old picture: orientation (pixels are upright), sizes,
colour space, thumbnails, maker notes, and XMP with pictures or parts of its file in it.
"""

from __future__ import annotations

import math
import re
import struct
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, get_args

from PIL import ExifTags, Image

from birefnet.errors import BiRefNetError
from birefnet.imaging.values import Keep

X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT = 282, 283, 296
_PER_INCH = {2: 1.0, 3: 2.54}  # by ResolutionUnit
_MOST_DPI = 65535  # what a JPEG holds
_XMP = 700  # of TIFF

# Of the first directory (Exif 2.32, table 3), which in a TIFF also describes its pixels.
DESCRIPTIONS = frozenset(
    {
        *(270, 271, 272, 305, 306, 315, 316, 33432),  # what, with what, when, by whom
        *(18246, 18249),  # ratings
        *range(40091, 40096),  # title, comment, author, keywords and subject, as Windows has them
    }
)
# Of the Exif directory: maker note; colour space, sizes, interoperability, and gamma of the old
# file; where the subject lay in it.
_OF_THE_OLD_FILE = {0x927C, 0xA001, 0xA002, 0xA003, 0xA005, 0xA500, 0x9214, 0xA214}
# Notes of scientific software about the shape of its own file.
_SHAPE_NOTES = ("ImageJ=", '{"shape"', "<?xml", "<OME")

_LARGEST_XMP = 1 << 16
_XMP_OF_THE_OLD_FILE = re.compile(
    rb"Thumbnails|xmpGImg|hdrgm:|hdr-gain-map|Container:|GCamera:|GDepth:|GImage:|MotionPhoto"
)
_XMP_ORIENTATION = re.compile(rb"""(tiff:Orientation(?:\s*=\s*["']|\s*>\s*))\d+""")

# IPTC captions, keywords and credits, as JPEG and TIFF hold them. Left out is what shows or
# measures the old picture: previews, and the records 3 and above.
IPTC_TAG = 33723
"""Of TIFF."""

IPTC_OVERHEAD = 28
"""Bytes of a JPEG's segment around the records."""

_IPTC_RESOURCE = 0x0404  # of Photoshop's, in which a JPEG holds the records
_MARK = 0x1C  # every field begins with it
_ENVELOPE, _APPLICATION = 1, 2  # the records that are kept
_PREVIEWS = (200, 201, 202)  # fields of record 2
_LONG = 0x8000  # in a field's length: it is the count of the bytes of the length


@dataclass(frozen=True)
class Metadata:
    """Of one picture, as it goes into results.

    Attributes:
        dpi: pixels an inch, horizontal and vertical; None if the picture does not say.
        exif: a block as JPEG holds it, from `Exif\\0\\0` on.
        xmp: a packet.
        iptc: the fields of IIM, which JPEG and TIFF have room for.
    """

    dpi: tuple[float, float] | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None

    def turned(self) -> Metadata:
        """Of the picture on its side."""
        return self if self.dpi is None else replace(self, dpi=self.dpi[::-1])

    def exif_with_dpi(self) -> bytes | None:
        """EXIF that says the resolution, for formats without a field of their own for it."""
        if self.dpi is None:
            return self.exif
        exif = Image.Exif()
        exif.load(self.exif or b"")
        exif[X_RESOLUTION], exif[Y_RESOLUTION] = self.dpi
        exif[RESOLUTION_UNIT] = 2
        return exif.tobytes()


def check_keep(keep: str) -> None:
    """Refuse what is not one of `Keep`."""
    if keep not in get_args(Keep):
        raise BiRefNetError(f"metadata is {keep!r}; choose one of {', '.join(get_args(Keep))}")


def read_metadata(info: Mapping[Any, object], exif: Image.Exif) -> Metadata | None:
    """The metadata of a picture; None for nothing. Broken parts count as nothing.

    Args:
        info: as Pillow's images have it.
        exif: of the image, after it is loaded: some formats hold it behind the pixels.
    """
    dpi = _checked_dpi(info.get("dpi")) or _dpi_of(exif)
    xmp = _kept_xmp(info.get("xmp", exif.get(_XMP)))
    kept = Metadata(dpi, _kept_exif(exif), xmp, read_iptc(info, exif))
    return None if kept == Metadata() else kept


def _checked_dpi(dpi: Any) -> tuple[float, float] | None:
    try:
        x, y = (float(value) for value in dpi)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    # Pillow says 1 of a TIFF without a resolution.
    is_usable = all(math.isfinite(value) and 1 < value <= _MOST_DPI for value in (x, y))
    return (x, y) if is_usable else None


def _dpi_of(exif: Image.Exif) -> tuple[float, float] | None:
    factor = _PER_INCH.get(exif.get(RESOLUTION_UNIT, 2))
    dpi = _checked_dpi((exif.get(X_RESOLUTION), exif.get(Y_RESOLUTION)))
    return (dpi[0] * factor, dpi[1] * factor) if dpi and factor else None


def _kept_exif(exif: Image.Exif) -> bytes | None:
    kept = Image.Exif()
    try:
        for tag in DESCRIPTIONS & set(exif):
            value = exif[tag]
            if not (isinstance(value, str) and value.startswith(_SHAPE_NOTES)):
                kept[tag] = value
        for directory in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
            entries = exif.get_ifd(directory)
            entries = {tag: value for tag, value in entries.items() if tag not in _OF_THE_OLD_FILE}
            if entries:
                kept[directory] = entries
        return kept.tobytes() if len(kept) else None
    except Exception:  # Pillow raises nearly every type over broken entries
        return None


def _kept_xmp(packet: object) -> bytes | None:
    if isinstance(packet, str):
        packet = packet.encode()
    if isinstance(packet, tuple):
        packet = bytes(packet)
    if not isinstance(packet, bytes) or not 0 < len(packet) <= _LARGEST_XMP:
        return None
    if _XMP_OF_THE_OLD_FILE.search(packet):
        return None
    return _XMP_ORIENTATION.sub(rb"\g<1>1", packet)


def read_iptc(info: Mapping[object, object], exif: Image.Exif) -> bytes | None:
    """The fields that are kept of a picture; None for nothing, or broken ones.

    Args:
        info: as Pillow's images have it.
        exif: of the image; of a TIFF the directory of its page.
    """
    resources = info.get("photoshop")
    fields = resources.get(_IPTC_RESOURCE) if isinstance(resources, Mapping) else None
    if fields is None:
        fields = exif.get(IPTC_TAG)
    if isinstance(fields, tuple):  # Photoshop calls the bytes numbers of four
        try:
            fields = struct.pack(f"{exif.endian}{len(fields)}L", *fields)
        except struct.error:
            return None
    if not isinstance(fields, bytes):
        return None
    try:
        return b"".join(_kept_iptc(fields)) or None
    except (IndexError, struct.error):
        return None


def _kept_iptc(data: bytes) -> Iterator[bytes]:
    start = 0
    while start < len(data) and data[start] == _MARK:
        record, field, size = struct.unpack_from(">BBH", data, start + 1)
        end = start + 5
        if size & _LONG:
            count = size ^ _LONG
            size = int.from_bytes(data[end : end + count])
            end += count
        end += size
        if end > len(data):
            raise IndexError
        if record == _ENVELOPE or (record == _APPLICATION and field not in _PREVIEWS):
            yield data[start:end]
        start = end


def iptc_segment(fields: bytes) -> bytes:
    """The segment of a JPEG that holds these fields, of up to 65,000 bytes."""
    body = (
        b"Photoshop 3.0\0" + b"8BIM" + struct.pack(">HHL", _IPTC_RESOURCE, 0, len(fields)) + fields
    )
    body += b"\0" * (len(fields) % 2)
    return b"\xff\xed" + struct.pack(">H", len(body) + 2) + body


def fits(block: bytes | None, most: int, what: str) -> bytes | None:
    """The block, or None with a warning if a format cannot hold so much."""
    if block is not None and len(block) > most:
        warnings.warn(f"the {what} has {len(block):,} bytes and is left out", stacklevel=2)
        return None
    return block
