"""TIFF: a strict look at the first directory, and a writer for 8 and 16 bits with alpha.

Pillow writes no RGB of 16 bits, OpenCV no ICC profile; the format itself is simple (TIFF 6.0;
Adobe Photoshop TIFF Technical Notes for deflate).
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from numpy.typing import NDArray

_WIDTH, _HEIGHT, _BITS, _PHOTOMETRIC, _ORIENTATION, _SAMPLES = 256, 257, 258, 262, 274, 277
_TILE_WIDTH, _TILE_HEIGHT, _EXTRA, _FORMAT, _PROFILE = 322, 323, 338, 339, 34675
_STRIP_BYTES = 1 << 20
_TYPE_CODES = {1: "B", 3: "H", 4: "I", 7: "B", 16: "Q"}
_READ_TAGS = {
    *(_WIDTH, _HEIGHT, _BITS, _PHOTOMETRIC, _ORIENTATION, _SAMPLES),
    *(_TILE_WIDTH, _TILE_HEIGHT, _EXTRA, _FORMAT, _PROFILE),
}


@dataclass(frozen=True)
class TiffHeader:
    """The first directory of a TIFF: size [px], sample layout and what goes with it.

    Attributes:
        bits: of each sample.
        photometric: 0 and 1 grey, 2 RGB, others elsewhere.
        is_premultiplied: colours are multiplied by alpha (ExtraSamples 1).
        has_more_pages: other directories follow.
    """

    height: int
    width: int
    bits: int
    photometric: int
    orientation: int
    is_premultiplied: bool
    icc_profile: bytes | None
    has_more_pages: bool

    @property
    def is_deep(self) -> bool:
        """Grey or RGB of more than 8 bits, which Pillow reduces or refuses."""
        return self.bits > 8 and self.photometric in (0, 1, 2)


def read_tiff_header(data: bytes) -> TiffHeader | None:
    """Parse the first directory of a classic or big TIFF; None if it is malformed."""
    try:
        tags, following = _read_tags(data)
        bits = tags.get(_BITS, (1,))
        return TiffHeader(
            height=tags[_HEIGHT][0],
            width=tags[_WIDTH][0],
            bits=max(bits),
            photometric=tags[_PHOTOMETRIC][0],
            orientation=tags.get(_ORIENTATION, (1,))[0],
            is_premultiplied=tags.get(_EXTRA, (0,))[0] == 1,
            icc_profile=bytes(tags[_PROFILE]) if _PROFILE in tags else None,
            has_more_pages=following != 0,
        )
    except (struct.error, KeyError, IndexError, ValueError):
        return None


def _read_tags(data: bytes) -> tuple[dict[int, tuple[int, ...]], int]:
    """Tags of the first directory and the place of the next, 0 for none."""
    order = "<" if data[:2] == b"II" else ">"
    (version,) = struct.unpack_from(order + "H", data, 2)
    # Offset, entry count and entry layout of classic (42) and big (43) TIFF.
    word, entries, width = ("I", "H", 4) if version == 42 else ("Q", "Q", 8)
    (directory,) = struct.unpack_from(order + word, data, 4 if version == 42 else 8)
    (count,) = struct.unpack_from(order + entries, data, directory)
    first = directory + struct.calcsize(order + entries)
    tags: dict[int, tuple[int, ...]] = {}
    if count > 4096:
        raise ValueError("too many tags")
    for index in range(count):
        start = first + index * (4 + 2 * width)
        tag, kind, length = struct.unpack_from(order + "HH" + word, data, start)
        if tag not in _READ_TAGS or kind not in _TYPE_CODES:
            continue
        if tag in tags:
            raise ValueError("a tag given twice may be read differently by the decoder")
        layout = f"{order}{length}{_TYPE_CODES[kind]}"
        if length > len(data):
            raise ValueError("longer than the file")
        place = start + 4 + width
        if struct.calcsize(layout) > width:
            (place,) = struct.unpack_from(order + word, data, place)
        tags[tag] = struct.unpack_from(layout, data, place)
    for side, tile in ((_WIDTH, _TILE_WIDTH), (_HEIGHT, _TILE_HEIGHT)):
        if tags.get(tile, (0,))[0] > max(4096, 2 * tags[side][0]):
            raise ValueError("tiles far larger than the picture")
    (following,) = struct.unpack_from(order + word, data, first + count * (4 + 2 * width))
    return tags, following


def write_tiff(samples: NDArray, icc_profile: bytes | None = None) -> bytes:
    """Encode H x W (grey), or H x W x 2, 3 or 4 (the last of 2 and 4 is alpha), uint8 or uint16.

    Lossless: horizontal differences, deflated in strips; little-endian.
    """
    samples = samples if samples.ndim == 3 else samples[..., None]
    height, width, channels = samples.shape
    rows = max(1, _STRIP_BYTES // (width * channels * samples.itemsize))
    strips = []
    for top in range(0, height, rows):
        strip = samples[top : top + rows].astype(samples.dtype.newbyteorder("<"))
        strip[:, 1:] -= samples[top : top + rows, :-1]  # wraps around, as the reader's sums do
        strips.append(zlib.compress(strip.tobytes(), 3))
    offsets, place = [], 8
    for strip_bytes in strips:
        offsets.append(place)
        place += len(strip_bytes)
    entries: list[tuple[int, str, tuple[int, ...] | bytes]] = [
        (_WIDTH, "I", (width,)),
        (_HEIGHT, "I", (height,)),
        (_BITS, "H", (8 * samples.itemsize,) * channels),
        (259, "H", (8,)),  # compression: deflate
        (_PHOTOMETRIC, "H", (1 if channels < 3 else 2,)),
        (273, "I", tuple(offsets)),
        (_SAMPLES, "H", (channels,)),
        (278, "I", (rows,)),
        (279, "I", tuple(len(strip_bytes) for strip_bytes in strips)),
        (317, "H", (2,)),  # predictor: horizontal differences
    ]
    if channels in (2, 4):
        entries.append((_EXTRA, "H", (2,)))  # alpha, colours not multiplied by it
    entries.append((_FORMAT, "H", (1,) * channels))
    if icc_profile:
        entries.append((_PROFILE, "B", icc_profile))
    place += place % 2
    directory, outside = [struct.pack("<H", len(entries))], b""
    outside_start = place + 2 + 12 * len(entries) + 4
    for tag, code, values in entries:
        packed = bytes(values) if code == "B" else struct.pack(f"<{len(values)}{code}", *values)
        kind = {"B": 7, "H": 3, "I": 4}[code]
        if len(packed) > 4:
            pointer = struct.pack("<I", outside_start + len(outside))
            outside += packed + b"\0" * (len(packed) % 2)
            packed = pointer
        directory.append(struct.pack("<HHI", tag, kind, len(values)) + packed.ljust(4, b"\0"))
    data = struct.pack("<2sHI", b"II", 42, place) + b"".join(strips)
    return data.ljust(place, b"\0") + b"".join(directory) + bytes(4) + outside
