"""Whether a file is animated or has several pages, from its headers: nothing is decoded."""

from __future__ import annotations

import io
from pathlib import Path
from typing import BinaryIO

from birefnet.imaging.formats import sniff


def animation_format(source: Path | bytes) -> str | None:
    """The format for a result of several frames or pages (gif, webp, apng, tiff); `None` for still
    or unreadable files."""
    try:
        with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file:
            return _probe(file)
    except OSError:
        return None  # whoever decodes it will say what is wrong


def _probe(file: BinaryIO) -> str | None:
    head = file.read(64)
    if head.startswith(b"GIF8"):
        return "gif" if _gif_is_animated(file) else None
    if head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X":
        return "webp" if head[20] & 2 else None  # the flag for animation
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "apng" if _png_is_animated(file) else None
    if sniff(head) == "tiff":
        file.seek(0)
        return "tiff" if _has_pages(file.read()) else None
    if head[4:12] == b"ftypavis":  # an AVIF sequence: webp is what all browsers play
        return "webp"
    return None


def _has_pages(data: bytes) -> bool:
    from birefnet.imaging.tiff import read_pages

    try:
        return len(read_pages(data, "it", 2)) > 1
    except Exception:  # whoever decodes it will say what is wrong
        return False


def _gif_is_animated(file: BinaryIO) -> bool:
    from PIL.GifImagePlugin import GifImageFile

    file.seek(0)
    try:
        return bool(GifImageFile(file).is_animated)
    except (SyntaxError, ValueError, IndexError):
        return False


def _png_is_animated(file: BinaryIO) -> bool:
    """Whether a chunk acTL stands before the pixels."""
    file.seek(8)
    while len(head := file.read(8)) == 8:
        if head[4:] in (b"acTL", b"IDAT"):
            return head[4:] == b"acTL"
        file.seek(int.from_bytes(head[:4], "big") + 4, io.SEEK_CUR)
    return False
