"""Maps and features as pictures: uint8 H x W x 3."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from birefnet.explain.observe import Map

Pixels = NDArray[np.uint8]
Dots = tuple[NDArray[np.float32], NDArray[np.float32], tuple[int, int, int]]

_RANGE = (1, 99)  # percentiles that become black and white in feature pictures
KERNELS = ((240, 200, 40), (60, 190, 255), (255, 90, 120), (120, 220, 110))
"""Colours of the dots of a stage's kernels, the smallest kernel first."""


def features(x: Map) -> Pixels:
    """C x h x w → its three strongest principal components as red, green and blue.

    Each component is stretched separately, so colours show where features are similar, not how
    strong they are. Constant features are black.
    """
    channels, height, width = x.shape
    rows = x.reshape(channels, -1).astype(np.float64)
    rows = rows - rows.mean(axis=1, keepdims=True)
    _, vectors = np.linalg.eigh(rows @ rows.T)
    strongest = vectors[:, ::-1][:, :3].T
    # The sign of a component is free; fix it, so that equal features give equal colours.
    largest = np.abs(strongest).argmax(axis=1)
    strongest = strongest * np.sign(strongest[np.arange(len(strongest)), largest])[:, None]
    planes = np.zeros((3, height * width))
    planes[: len(strongest)] = strongest @ rows
    low, high = np.percentile(planes, _RANGE, axis=1)
    span = np.where(high - low > 1e-9, high - low, np.inf)
    levels = np.clip((planes - low[:, None]) / span[:, None], 0, 1)
    return np.rint(255 * levels.T).astype(np.uint8).reshape(height, width, 3)


def strength(x: Map) -> Pixels:
    """C x h x w → the norm over its channels, stretched to its own range, as heat."""
    norm = np.linalg.norm(x, axis=0)
    low, high = np.percentile(norm, _RANGE)
    return heat((norm - low) / max(float(high - low), 1e-9))


def grey(x: Map) -> Pixels:
    """h x w in [0, 1] → black to white, never stretched."""
    levels = np.rint(255 * np.clip(x, 0, 1)).astype(np.uint8)
    return np.repeat(levels[..., None], 3, axis=2)


def heat(x: Map) -> Pixels:
    """h x w in [0, 1] → dark blue, through green, to yellow (viridis), never stretched."""
    levels = np.rint(255 * np.clip(x, 0, 1)).astype(np.uint8)
    return np.ascontiguousarray(cv2.applyColorMap(levels, cv2.COLORMAP_VIRIDIS)[..., ::-1])


def tiles(pixels: Pixels, grid: tuple[int, int]) -> Pixels:
    """The picture cut into rows and columns of tiles with white joints, as the decoder cuts it.

    With more than 8 tiles in a row, the joints are one pixel wide.
    """
    height, width = pixels.shape[:2]
    out = pixels.copy()
    line = max(1, round(0.01 * min(height, width) * min(1, 8 / max(grid))))
    for i in range(1, grid[0]):
        top = round(i * height / grid[0]) - line // 2
        out[top : top + line] = 255
    for i in range(1, grid[1]):
        left = round(i * width / grid[1]) - line // 2
        out[:, left : left + line] = 255
    return out


def influence(pixels: Pixels, field: Map, at: tuple[int, int]) -> Pixels:
    """The picture, lit by the square root of the influence, so that weak influence shows too.

    Args:
        pixels: the picture as it will be shown.
        field: influence of the same part of the picture, of any size.
        at: row and column of the pixel in `pixels`.
    """
    smooth = cv2.GaussianBlur(field, (0, 0), max(field.shape) / 320)
    light = np.sqrt(smooth / max(float(np.percentile(smooth, 99.9)), 1e-12))
    light = cv2.resize(np.clip(light, 0, 1), pixels.shape[1::-1])[..., None]
    shown = heat(light[..., 0]) * 0.75 + pixels * 0.25
    out = np.rint(light * shown + (1 - light) * 0.35 * pixels).astype(np.uint8)
    return mark(out, at)


def samples(pixels: Pixels, found: Sequence[Dots], at: tuple[int, int]) -> Pixels:
    """The picture, darkened, with a dot at each sampling position of deformable kernels.

    Args:
        pixels: the picture as it will be shown.
        found: for each kernel rows and columns in `pixels`, weights from 0 to 2 that set the size
            of the dots, and the colour.
        at: row and column of the output pixel.
    """
    out = np.rint(0.55 * pixels).astype(np.uint8)
    unit = max(out.shape) / 240
    for positions, weights, colour in found:
        for (row, column), weight in zip(positions, weights, strict=True):
            radius = max(1, round(unit * (0.8 + 1.2 * float(weight))))
            centre = (round(float(column)), round(float(row)))
            cv2.circle(out, centre, radius, colour, -1, cv2.LINE_AA)
    return mark(out, at)


def mark(pixels: Pixels, at: tuple[int, int]) -> Pixels:
    """A white cross with a dark rim at row and column."""
    out = pixels.copy()
    unit = max(5, round(max(out.shape) / 30))
    for colour, thickness in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        width = max(1, round(thickness * max(out.shape) / 480))
        cv2.drawMarker(out, at[::-1], colour, cv2.MARKER_CROSS, unit, width, cv2.LINE_AA)
    return out
