"""IPTC captions, keywords and credits (IIM 4.2), as JPEG and TIFF hold them.

Left out is what shows or measures the old picture: previews, and the records 3 and above.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Any

from PIL import Image

TAG = 33723
"""Of TIFF."""

OVERHEAD = 28
"""Bytes of a JPEG's segment around the records."""

_RESOURCE = 0x0404  # of Photoshop's, in which a JPEG holds the records
_MARK = 0x1C  # every field begins with it
_ENVELOPE, _APPLICATION = 1, 2  # the records that are kept
_PREVIEWS = (200, 201, 202)  # fields of record 2
_LONG = 0x8000  # in a field's length: it is the count of the bytes of the length


def read_iptc(info: Mapping[Any, Any], exif: Image.Exif) -> bytes | None:
    """The fields that are kept of a picture; None for nothing, or broken ones.

    Args:
        info: as Pillow's images have it.
        exif: of the image; of a TIFF the directory of its page.
    """
    resources = info.get("photoshop")
    fields = resources.get(_RESOURCE) if isinstance(resources, Mapping) else None
    if fields is None:
        fields = exif.get(TAG)
    if isinstance(fields, tuple):  # Photoshop calls the bytes numbers of four
        try:
            fields = struct.pack(f"{exif.endian}{len(fields)}L", *fields)
        except struct.error:
            return None
    if not isinstance(fields, bytes):
        return None
    try:
        return b"".join(_kept(fields)) or None
    except (IndexError, struct.error):
        return None


def _kept(data: bytes) -> Iterator[bytes]:
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


def segment(fields: bytes) -> bytes:
    """The segment of a JPEG that holds these fields, of up to 65,000 bytes."""
    body = b"Photoshop 3.0\0" + b"8BIM" + struct.pack(">HHL", _RESOURCE, 0, len(fields)) + fields
    body += b"\0" * (len(fields) % 2)
    return b"\xff\xed" + struct.pack(">H", len(body) + 2) + body
