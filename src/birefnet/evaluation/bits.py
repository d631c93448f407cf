"""Binary pictures packed 64 pixels to a word: morphology at memory speed, in plain numpy.

A 2048 x 2048 mask is 512 KiB when packed, so that a dilation is a few word-wide shifts and ORs.
Pixel x of a row is bit ``x % 64`` of word ``x // 64``; bits beyond the width are always zero.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]

_WORD = 64


def pack(mask: NDArray[np.bool_] | NDArray[np.uint8]) -> Words:
    """Pack a mask (H x W, non-zero = set) into words, H x ceil(W / 64)."""
    height, width = mask.shape
    words = -(-width // _WORD)
    octets = np.zeros((height, words * 8), dtype=np.uint8)
    packed = np.packbits(mask, axis=1, bitorder="little")
    octets[:, : packed.shape[1]] = packed
    return octets.view("<u8").astype(np.uint64, copy=False)


def unpack(words: Words, width: int) -> NDArray[np.uint8]:
    """Return the mask (H x width, uint8 0 or 1) that ``pack`` packed."""
    octets = np.ascontiguousarray(words.astype("<u8", copy=False)).view(np.uint8)
    return np.unpackbits(octets, axis=1, count=width, bitorder="little")


def valid(height: int, width: int) -> Words:
    """Return words with every pixel of an H x W picture set and the padding clear."""
    row = pack(np.ones((1, width), dtype=np.uint8))
    return np.repeat(row, height, axis=0)


def _towards_right(words: Words, pixels: int) -> Words:
    """Move every pixel ``pixels`` (1..63) to the right; may set padding bits."""
    moved = words << np.uint64(pixels)
    moved[:, 1:] |= words[:, :-1] >> np.uint64(_WORD - pixels)
    return moved


def _towards_left(words: Words, pixels: int) -> Words:
    moved = words >> np.uint64(pixels)
    moved[:, :-1] |= words[:, 1:] << np.uint64(_WORD - pixels)
    return moved


def _add_rows(target: Words, source: Words, rows: int) -> None:
    """OR into ``target`` the rows of ``source`` moved up and down by ``rows``."""
    if rows == 0:
        target |= source
    elif rows < len(source):
        target[rows:] |= source[:-rows]
        target[:-rows] |= source[rows:]


def dilate_cross(words: Words, inside: Words) -> Words:
    """Dilate by the 3 x 3 cross (the disk of radius 1), kept within ``inside``."""
    grown = words | _towards_right(words, 1)
    grown |= _towards_left(words, 1)
    _add_rows(grown, words, 1)
    grown &= inside
    return grown


def erode_cross(words: Words, inside: Words, iterations: int) -> Words:
    """Erode by the 3 x 3 cross; what lies outside the picture does not erode it."""
    background = ~words & inside
    for _ in range(iterations):
        background = dilate_cross(background, inside)
    return ~background & inside


def ellipse_half_widths(radius: int) -> list[int]:
    """Half widths of the rows 0..radius of OpenCV's MORPH_ELLIPSE kernel of this radius."""
    return [int(np.rint(np.sqrt(radius * radius - row * row))) for row in range(radius + 1)]


def dilate_ellipses(words: Words, inside: Words, radii: list[int]) -> list[Words]:
    """Dilate by OpenCV's elliptic kernels of several radii (each below 64) at once.

    Each kernel is a union of horizontal runs, one a row, so that the horizontal dilations are
    made once and serve all radii.
    """
    results = [np.zeros_like(words) for _ in radii]
    rows_of_width: dict[int, list[tuple[int, int]]] = {}
    for index, radius in enumerate(radii):
        for row, half_width in enumerate(ellipse_half_widths(radius)):
            rows_of_width.setdefault(half_width, []).append((index, row))
    run = words.copy()
    for half_width in range(max(radii) + 1):
        if half_width:
            run |= _towards_right(words, half_width)
            run |= _towards_left(words, half_width)
        for index, row in rows_of_width.get(half_width, []):
            _add_rows(results[index], run, row)
    for result in results:
        result &= inside
    return results
