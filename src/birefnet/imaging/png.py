"""A fast PNG writer (W3C PNG, third edition): 8 or 16 bits, grey or RGB, alpha, ICC, animation.

Every row is filtered by the one above it and deflated with run lengths only. On photographs and
cut-outs that gives the size of the usual level 6 to within a tenth at a quarter to a fifth of its
time: matches of distant byte strings, where deflate spends its search, are chance there. Strips are
deflated on several threads (zlib lets go of the interpreter's lock).

For readers there is `without_text`, which removes what some of them stumble over.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from birefnet.imaging.metadata import Metadata

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # by channels
_STRIP_BYTES = 1 << 20
_PIXELS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}
_TEXTS = {b"tEXt", b"zTXt", b"iTXt"}
_PROFILE_LIMIT = 1 << 20  # bytes, Pillow's
_XMP = b"XML:com.adobe.xmp"  # keyword of its text; not compressed where a zero follows
_XMP_LIMIT = 1 << 17  # bytes
_METRES_AN_INCH = 0.0254
_UP = 2  # filter: difference to the pixel above


def write_png(
    samples: NDArray, icc_profile: bytes | None = None, metadata: Metadata | None = None
) -> bytes:
    """Encode H x W (grey), or H x W x 2, 3 or 4 (the last of 2 and 4 is alpha), uint8 or uint16."""
    chunks = [_SIGNATURE, _header(samples)]
    if icc_profile:
        chunks.append(_chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(icc_profile)))
    chunks += _describe(metadata)
    chunks += [_chunk(b"IDAT", part) for part in _deflate(samples)]
    return b"".join([*chunks, _chunk(b"IEND", b"")])


def write_apng(
    frames: Iterable[tuple[NDArray, int]], plays: int = 0, metadata: Metadata | None = None
) -> bytes:
    """Encode an animation of (samples as for `write_png`, duration [ms]) of one shape and type.

    Frames are drawn and deflated one at a time; each replaces the one before it. `plays` 0
    is for ever.
    """
    header, parts, count, sequence = b"", [], 0, 0
    for samples, duration in frames:
        header = header or _header(samples)
        height, width = samples.shape[:2]
        control = struct.pack(">5I2H2B", sequence, width, height, 0, 0, duration, 1000, 0, 0)
        parts.append(_chunk(b"fcTL", control))
        sequence += 1
        for part in _deflate(samples):
            if count == 0:
                parts.append(_chunk(b"IDAT", part))
            else:
                parts.append(_chunk(b"fdAT", struct.pack(">I", sequence) + part))
                sequence += 1
        count += 1
    control = _chunk(b"acTL", struct.pack(">II", count, plays))
    described = _describe(metadata)
    return b"".join([_SIGNATURE, header, control, *described, *parts, _chunk(b"IEND", b"")])


def _describe(metadata: Metadata | None) -> list[bytes]:
    """Chunks of resolution, EXIF and XMP."""
    chunks = []
    if metadata is not None and metadata.dpi is not None:
        x, y = (max(1, round(dpi / _METRES_AN_INCH)) for dpi in metadata.dpi)
        chunks.append(_chunk(b"pHYs", struct.pack(">IIB", x, y, 1)))
    if metadata is not None and metadata.exif is not None:
        chunks.append(_chunk(b"eXIf", metadata.exif.removeprefix(b"Exif\0\0")))
    if metadata is not None and metadata.xmp is not None:
        chunks.append(_chunk(b"iTXt", _XMP + bytes(5) + metadata.xmp))
    return chunks


def bare(data: bytes) -> bytes:
    """A sound PNG with nothing but its pixels, palette and transparency."""
    parts, offset = [data[: len(_SIGNATURE)]], len(_SIGNATURE)
    while offset + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, offset)
        end = offset + 12 + length
        if name in _PIXELS:
            parts.append(data[offset:end])
        offset = end
    return b"".join(parts)


def without_text(data: bytes) -> bytes:
    """A PNG without its texts but XMP, and without a colour profile larger than any honest one.

    Pillow refuses a whole picture over a text that expands beyond a megabyte. Damaged files come
    back as far as they are sound, with the rest as it was.
    """
    parts, kept, offset = [], 0, len(_SIGNATURE)
    while offset + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, offset)
        end = offset + 12 + length
        is_bulky = name == b"iCCP" and _expands_beyond(data[offset + 8 : end - 4], _PROFILE_LIMIT)
        is_xmp = data.startswith(_XMP + b"\0\0", offset + 8) and length <= _XMP_LIMIT
        if (name in _TEXTS and not is_xmp) or is_bulky:
            parts.append(data[kept:offset])
            kept = end
        offset = end
    return b"".join([*parts, data[kept:]]) if parts else data


def _expands_beyond(profile: bytes, limit: int) -> bool:
    """Whether the body of an iCCP chunk inflates to more than `limit` bytes."""
    inflater = zlib.decompressobj()
    try:
        inflater.decompress(profile[profile.index(b"\0") + 2 :], limit)
    except (ValueError, zlib.error):
        return False  # broken, which the reader finds out and survives
    return bool(inflater.unconsumed_tail)


def _header(samples: NDArray) -> bytes:
    assert samples.dtype in (np.uint8, np.uint16)
    height, width = samples.shape[:2]
    colour_type = _COLOUR_TYPES[samples.shape[2] if samples.ndim == 3 else 1]
    depth = 8 * samples.itemsize
    return _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0))


def _deflate(samples: NDArray) -> list[bytes]:
    """The filtered rows as one zlib stream, in parts of about a strip each."""
    samples = samples if samples.ndim == 3 else samples[..., None]
    height, width, channels = samples.shape
    row_bytes = width * channels * samples.itemsize
    rows = max(1, _STRIP_BYTES // row_bytes)

    def deflate(top: int) -> tuple[NDArray[np.uint8], bytes]:
        """Filtered rows of a strip, and what they deflate to."""
        above = max(0, top - 1)
        part = np.ascontiguousarray(samples[above : top + rows])
        if part.dtype == np.uint16:
            part = part.astype(">u2")
        values = part.view(np.uint8).reshape(len(part), row_bytes)
        filtered = np.empty((len(part) - (top - above), 1 + row_bytes), np.uint8)
        filtered[:, 0] = _UP
        if top:
            np.subtract(values[1:], values[:-1], out=filtered[:, 1:])
        else:
            filtered[0, 1:] = values[0]
            np.subtract(values[1:], values[:-1], out=filtered[1:, 1:])
        deflater = zlib.compressobj(1, zlib.DEFLATED, -15, 9, zlib.Z_RLE)
        body = deflater.compress(filtered.data)
        is_last = top + rows >= height
        return filtered, body + deflater.flush(zlib.Z_FINISH if is_last else zlib.Z_SYNC_FLUSH)

    tops = range(0, height, rows)
    checksum, parts = 1, []
    with ThreadPoolExecutor(min(len(tops), os.cpu_count() or 1)) as pool:
        for filtered, part in pool.map(deflate, tops):
            checksum = zlib.adler32(filtered.data, checksum)
            parts.append(part)
    parts[0] = b"\x78\x01" + parts[0]
    parts[-1] += struct.pack(">I", checksum)
    return parts


def _chunk(name: bytes, data: bytes) -> bytes:
    checksum = zlib.crc32(data, zlib.crc32(name))
    return b"".join([struct.pack(">I", len(data)), name, data, struct.pack(">I", checksum)])
