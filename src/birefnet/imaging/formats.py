"""Which files are pictures: suffixes, and formats by their first bytes. Imports nothing heavy."""

from __future__ import annotations

import os
from pathlib import PurePath

SUFFIXES: dict[str, str] = {
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".jpe": "jpeg",
    ".jfif": "jpeg",
    ".png": "png",
    ".apng": "png",
    ".webp": "webp",
    ".tif": "tiff",
    ".tiff": "tiff",
    ".bmp": "bmp",
    ".dib": "bmp",
    ".gif": "gif",
    ".avif": "avif",
    ".heic": "heif",
    ".heif": "heif",
    ".hif": "heif",
}
"""Suffixes that `decode` reads, in lower case, and their formats."""

READABLE = "JPEG, PNG, WebP, TIFF, BMP, GIF, AVIF or HEIC"

RAW_SUFFIXES = frozenset(
    {
        *(".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".fff", ".iiq", ".kdc"),
        *(".mef", ".mos", ".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".rw2", ".rwl", ".sr2"),
        *(".srf", ".srw", ".x3f"),
    }
)
"""Suffixes of raw camera files, in lower case, which are refused by name."""

RAW_CURE = (
    "develop it first, with the camera's or any raw program, or in Python with "
    "rawpy.imread(path).postprocess()"
)

_RAW_SIGNATURES = (
    *(b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"FOVb", b"\0MRM"),
    b"II\x1a\0\0\0HEAPCCDR",
)
_SIGNATURES = (
    (b"\xff\xd8\xff", "jpeg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"II+\0", "tiff"),
    (b"MM\0+", "tiff"),
    (b"BM", "bmp"),
)
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}


def is_picture(path: str | os.PathLike[str]) -> bool:
    """Whether the suffix is one that `decode` reads; the file is not opened."""
    return PurePath(path).suffix.lower() in SUFFIXES


def is_raw(name: str) -> bool:
    """Whether the suffix is one of raw camera files."""
    return PurePath(name).suffix.lower() in RAW_SUFFIXES


def sniff(data: bytes) -> str | None:
    """Format of an encoded picture by its first bytes, whatever its name; None if unknown.

    `raw` is a camera's raw file in a format of its own; those that are TIFFs inside are `tiff`.
    """
    if data.startswith(_RAW_SIGNATURES) or data[8:11] == b"CR\x02" or data[4:12] == b"ftypcrx ":
        return "raw"
    for signature, name in _SIGNATURES:
        if data.startswith(signature):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    if data[4:8] == b"ftyp":
        size = min(int.from_bytes(data[:4], "big"), 256)
        brands = {data[start : start + 4] for start in (8, *range(16, size, 4))}
        if brands & {b"avif", b"avis"}:
            return "avif"
        if brands & _HEIF_BRANDS or b"mif1" in brands or b"msf1" in brands:
            return "heif"
    return None


def end_of_picture(data: bytes) -> int:
    """Where the first of several encoded pictures ends; the end of all for kinds that do not say,
    and for JPEG files that list pictures of their own (MPF)."""
    kind = sniff(data)
    end = len(data)
    if kind == "png":
        start = data.find(b"IEND")
        end = start + 8 if start >= 0 else end
    elif kind == "webp":
        end = 8 + int.from_bytes(data[4:8], "little")
    elif kind == "bmp":
        end = int.from_bytes(data[2:6], "little")
    elif kind == "jpeg" and b"MPF\0" not in data[:65_536]:
        end = _end_of_jpeg(data)
    return min(max(end, 1), len(data))


def _end_of_jpeg(data: bytes) -> int:
    """After the marker EOI that belongs to the first SOI (ITU-T T.81, annex B)."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xD9:
            return at + 2
        if marker == 0xFF or marker == 0x01 or 0xD0 <= marker <= 0xD7:  # fill byte, no length
            at += 1 if marker == 0xFF else 2
            continue
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == 0xDA:  # coded data: 0xFF is followed by 0 or a restart marker
            while (at := data.find(b"\xff", at)) >= 0 and at + 1 < len(data):
                if data[at + 1] != 0 and not 0xD0 <= data[at + 1] <= 0xD7:
                    break
                at += 2
            if at < 0:
                return len(data)
    return at + 2 if data[at : at + 2] == b"\xff\xd9" else len(data)
