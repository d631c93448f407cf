"""TIFFs of every layout, written by tifffile; compressions that it cannot write, by Pillow."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import tifffile
from PIL import Image, TiffImagePlugin

PACKED = {"lzw": (5, "tiff_lzw"), "packbits": (32773, "packbits"), "lzma": (34925, "lzma")}
"""Compressions of bytes that Pillow writes: code and Pillow's name."""


_PRIVATE = 65001


def packed(data: bytes, name: str) -> bytes:
    """Bytes as libtiff compresses them."""
    buffer = io.BytesIO()
    Image.frombytes("L", (len(data), 1), data).save(buffer, "TIFF", compression=name)
    image = TiffImagePlugin.TiffImageFile(io.BytesIO(buffer.getvalue()))
    ((start,), (size,)) = image.tag_v2[273], image.tag_v2[279]
    return buffer.getvalue()[start : start + size]


def written(samples: np.ndarray, *, compression: str = "none", **options: Any) -> bytes:
    """One page of H x W (x S) samples, or S x H x W where planes are apart; deflated, `none`, or
    one of `PACKED`. `predictor` is 1, 2 or 3."""
    predictor = options.pop("predictor", 1)
    order = options.pop("byteorder", "<")
    if predictor == 3:  # tifffile does not write it: a private tag, which is renamed below
        options["extratags"] = [(_PRIVATE, 3, 1, 3, True)]
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer, byteorder=order) as file:
        file.write(
            samples,
            compression=None if compression == "none" else "zlib",
            predictor=predictor == 2,
            metadata=None,
            **options,
        )
    data = buffer.getvalue()
    if predictor == 3:
        data = repacked(data, lambda part: zlib.compress(apart(zlib.decompress(part), data)), 8)
        data = data.replace(
            struct.pack(f"{order}HH", _PRIVATE, 3), struct.pack(f"{order}HH", 317, 3)
        )
    if compression in PACKED:
        code, name = PACKED[compression]
        data = repacked(data, lambda part: packed(zlib.decompress(part), name), code)
    return data


def repacked(data: bytes, change: Callable[[bytes], bytes], compression: int) -> bytes:
    """The same with every strip or tile changed, and another compression named."""
    buffer = io.BytesIO(data)
    with tifffile.TiffFile(buffer, mode="r+b") as file:
        page = file.pages[0]
        starts, sizes = [], []
        for start, size in zip(page.dataoffsets, page.databytecounts, strict=True):
            part = change(data[start : start + size])
            starts.append(buffer.seek(0, io.SEEK_END))
            sizes.append(len(part))
            buffer.write(part)
        for tag, values in ((273, starts), (324, starts), (279, sizes), (325, sizes)):
            if tag in page.tags:
                page.tags[tag].overwrite(values if len(values) > 1 else values[0], dtype="I")
        page.tags[259].overwrite(compression)
    return buffer.getvalue()


def apart(part: bytes, data: bytes) -> bytes:
    """Floats as predictor 3 stores them: bytes apart, the most significant first, differences."""
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages[0]
        width = page.tilewidth if page.is_tiled else page.imagewidth
        samples = 1 if page.planarconfig == 2 else page.samplesperpixel
        values = np.frombuffer(part, page.dtype.newbyteorder(file.byteorder))
        size = page.dtype.itemsize
    rows = values.astype(page.dtype.newbyteorder(">")).reshape(-1, width * samples, 1)
    stored = rows.view(np.uint8).reshape(len(rows), -1, size).transpose(0, 2, 1)
    stored = stored.reshape(len(rows), -1, samples)
    return np.diff(stored, axis=1, prepend=np.zeros_like(stored[:, :1])).tobytes()
