"""Small ICC profiles, written byte by byte, to test colour management with."""

from __future__ import annotations

import struct

import numpy as np

# Columns of linear RGB to XYZ (D50) of known colour spaces.
ADOBE_RGB = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))
DISPLAY_P3 = ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.784))
SRGB = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.7141))

SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)


def profile(space: bytes, connection: bytes, tags: dict[bytes, bytes], kind: bytes) -> bytes:
    body, table = b"", b""
    start = 128 + 4 + 12 * len(tags)
    for name, data in tags.items():
        data += bytes(-len(data) % 4)
        table += struct.pack(">4sII", name, start + len(body), len(data))
        body += data
    header = struct.pack(
        ">I4sI4s4s4s12s4s4sIII8sI12s4s44x",
        start + len(body), b"none", 0x02400000, kind, space, connection, bytes(12), b"acsp",
        b"none", 0, 0, 0, bytes(8), 0, struct.pack(">3I", 0xF6D6, 0x10000, 0xD32D), b"none",
    )  # fmt: skip
    return header + struct.pack(">I", len(tags)) + table + body


def xyz(values: tuple[float, float, float]) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(65536 * value) for value in values))


def gamma(value: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(256 * value))


def table(values: np.ndarray) -> bytes:
    levels = np.round(np.asarray(values) * 65535).astype(">u2")
    return b"curv\0\0\0\0" + struct.pack(">I", len(levels)) + levels.tobytes()


def parametric(kind: int, *values: float) -> bytes:
    numbers = struct.pack(f">{len(values)}i", *(round(65536 * value) for value in values))
    return b"para\0\0\0\0" + struct.pack(">HH", kind, 0) + numbers


def text(tag: bytes = b"test") -> bytes:
    return b"desc\0\0\0\0" + struct.pack(">I", len(tag) + 1) + tag + bytes(79)


def rgb(columns: tuple = ADOBE_RGB, curve: bytes | None = None) -> bytes:
    curve = curve or gamma(563 / 256)
    tags = {b"desc": text(), b"wtpt": xyz((0.9642, 1, 0.8249))}
    for name, column in zip((b"r", b"g", b"b"), columns, strict=True):
        tags[name + b"XYZ"] = xyz(column)
        tags[name + b"TRC"] = curve
    return profile(b"RGB ", b"XYZ ", tags, b"mntr")


def grey(curve: bytes | None = None) -> bytes:
    tags = {b"desc": text(), b"wtpt": xyz((0.9642, 1, 0.8249)), b"kTRC": curve or gamma(1.0)}
    return profile(b"GRAY", b"XYZ ", tags, b"mntr")


def cmyk() -> bytes:
    """A press whose paper is a faint yellow and whose inks are as plain as can be, by a table."""
    corners = []
    for index in range(16):
        c, m, y, k = ((index >> shift) & 1 for shift in (3, 2, 1, 0))
        lightness = 0.95 * (1 - 0.3 * c - 0.3 * m - 0.1 * y) * (1 - 0.9 * k)
        corners += [lightness, 0.5 + 0.25 * (m - c) * (1 - k), 0.55 + 0.25 * (y - c) * (1 - k)]
    clut = np.round(np.clip(corners, 0, 1) * 255).astype(np.uint8).tobytes()
    ramp = bytes(range(256))
    lut = b"mft1\0\0\0\0" + bytes((4, 3, 2, 0))
    lut += struct.pack(">9i", *(65536 * (row == column) for row in range(3) for column in range(3)))
    lut += ramp * 4 + clut + ramp * 3
    tags = {b"desc": text(), b"wtpt": xyz((0.9642, 1, 0.8249)), b"A2B0": lut}
    return profile(b"CMYK", b"Lab ", tags, b"prtr")
