"""The pixel aspect in the header of a finished film.

H.264 carries it in its own stream. VP9 and ProRes do not, and PyAV cannot make FFmpeg write it for
them.
"""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

TITLE = "pixelaspect"
"""Name of the video track of a WebM file whose place the display size will take."""

_NAME = b"\x53\x6e\x8b" + TITLE.encode()  # Matroska's element Name: 14 bytes
_DISPLAY_WIDTH, _DISPLAY_HEIGHT = b"\x54\xb0\x84", b"\x54\xba\x84"  # each with four bytes to come
_VIDEO, _PIXEL_WIDTH, _PIXEL_HEIGHT = 0xE0, 0xB0, 0xBA
_ENTRY_BYTES = 86  # of a VisualSampleEntry before its boxes (ISO/IEC 14496-12, 12.1.3)


def write_pixel_aspect(path: Path, format: str, aspect: Fraction) -> None:
    """Say in the header of a film how wide a pixel is by its height.

    Args:
        path: a finished file; a WebM whose track is named `TITLE`, or a MOV with its index last.
        format: `webm` or `mov`; any other is left as it is.
        aspect: width of a pixel by its height.
    """
    if format == "webm":
        _write_webm(path, aspect)
    elif format == "mov":
        _write_mov(path, aspect)


def display_size(width: int, height: int, aspect: Fraction) -> tuple[int, int]:
    """Size in square pixels: exact if one side can be, else rounded; the other stays.

    >>> display_size(720, 576, Fraction(16, 15)), display_size(160, 120, Fraction(4, 3))
    ((768, 576), (160, 90))
    """
    if (width * aspect).denominator != 1 and (height / aspect).denominator == 1:
        return width, int(height / aspect)
    return max(1, round(width * aspect)), height


def _write_webm(path: Path, aspect: Fraction) -> None:
    """The track's name makes room for its display size, so that nothing behind it moves."""
    with path.open("rb+") as file:
        head = file.read(65536)
        begin = head.index(_NAME)
        offset = begin + len(_NAME)
        while head[offset] != _VIDEO:
            offset = sum(_element(head, offset))
        inside, size = _element(head, offset)
        video = head[inside : inside + size]
        width, height = (_unsigned(video, element) for element in (_PIXEL_WIDTH, _PIXEL_HEIGHT))
        shown = display_size(width, height, aspect)
        video += _DISPLAY_WIDTH + struct.pack(">I", shown[0])
        video += _DISPLAY_HEIGHT + struct.pack(">I", shown[1])
        assert len(video) < 127, "the size no longer fits into one byte"
        file.seek(begin)
        file.write(head[begin + len(_NAME) : offset] + bytes([_VIDEO, 0x80 | len(video)]) + video)


def _element(data: bytes, offset: int) -> tuple[int, int]:
    """Where the contents of an EBML element begin, and their size (RFC 8794, 4 to 6)."""
    offset += 9 - data[offset].bit_length()
    length = 9 - data[offset].bit_length()
    value = int.from_bytes(data[offset : offset + length], "big") & ~(1 << 7 * length)
    return offset + length, value


def _unsigned(data: bytes, element: int) -> int:
    """The value of a child with a name of one byte."""
    offset = 0
    while data[offset] != element:
        offset = sum(_element(data, offset))
    inside, size = _element(data, offset)
    return int.from_bytes(data[inside : inside + size], "big")


def _write_mov(path: Path, aspect: Fraction) -> None:
    """A `pasp` box in the sample description of the first track; the index is last in the file."""
    with path.open("rb+") as file:
        offset = 0
        while True:
            file.seek(offset)
            size, kind, large = struct.unpack(">I4sQ", file.read(16))
            if kind == b"moov":
                break
            offset += large if size == 1 else size
        file.seek(offset)
        index = bytearray(file.read())
        boxes = [0]  # where each begins that has the sample description inside it
        for kind in (b"trak", b"mdia", b"minf", b"stbl", b"stsd"):
            boxes.append(_child(index, boxes[-1], kind))
        boxes.append(boxes[-1] + 16)  # the first entry
        box = struct.pack(">I4sII", 16, b"pasp", aspect.numerator, aspect.denominator)
        inside = boxes[-1] + _ENTRY_BYTES
        index[inside:inside] = box
        for begin in boxes:
            size = struct.unpack_from(">I", index, begin)[0] + len(box)
            struct.pack_into(">I", index, begin, size)
        file.seek(offset)
        file.write(index)


def _child(index: bytearray, parent: int, kind: bytes) -> int:
    offset = parent + 8
    while index[offset + 4 : offset + 8] != kind:
        offset += int(struct.unpack_from(">I", index, offset)[0])
    return offset
