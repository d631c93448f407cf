"""Backgrounds of composites: scenes without a subject, views of panoramas, and plain grounds."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Picture = NDArray[Any]
"""float32, H x W x C, in [0, 1]."""


def panorama_view(panorama: NDArray[Any], size: int, rng: Generator) -> Picture:
    """A perspective view, `size` x `size`, into an equirectangular panorama."""
    height, width = panorama.shape[:2]
    half = np.tan(np.deg2rad(rng.uniform(50, 95)) / 2)
    line = np.linspace(-half, half, size, dtype=np.float32)
    x, y = np.meshgrid(line, line)
    pitch, yaw = np.deg2rad(rng.uniform(-25, 20)), rng.uniform(-np.pi, np.pi)
    depth = np.cos(pitch) - y * np.sin(pitch)
    down = y * np.cos(pitch) + np.sin(pitch)
    longitude = np.arctan2(x, depth) + yaw
    latitude = np.arctan2(down, np.hypot(x, depth))
    column = (longitude / (2 * np.pi) + 0.5) % 1 * width
    row = (latitude / np.pi + 0.5) * height
    view = cv2.remap(
        panorama,
        column.astype(np.float32),
        row.astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_WRAP,
    )
    return view.astype(np.float32) / 255


def plain(size: int, rng: Generator, near: Picture | None = None) -> Picture:
    """A plain ground, a gradient or soft noise; with `near` (3), about that colour."""
    base = rng.random(3) if near is None else np.clip(near + rng.normal(0, 0.06, 3), 0, 1)
    ground = np.broadcast_to(base.astype(np.float32), (size, size, 3)).copy()
    kind = rng.random()
    if kind < 0.45:
        other = np.clip(base + rng.normal(0, 0.25, 3), 0, 1).astype(np.float32)
        angle = rng.uniform(0, 2 * np.pi)
        line = np.linspace(-0.5, 0.5, size, dtype=np.float32)
        ramp = np.cos(angle) * line[None] + np.sin(angle) * line[:, None] + 0.5
        if rng.random() < 0.4:  # a vignette
            ramp = np.hypot(line[None] - rng.uniform(-0.3, 0.3), line[:, None]) * 1.2
        ground += np.clip(ramp, 0, 1)[..., None] * (other - ground)
    elif kind < 0.75:
        cells = int(rng.integers(2, 40))
        noise: Picture = rng.standard_normal((cells, cells, 3)).astype(np.float32)
        if rng.random() < 0.6:
            noise[...] = noise[..., :1]
        noise = cv2.resize(noise, (size, size), interpolation=cv2.INTER_CUBIC)
        ground += noise * np.float32(rng.uniform(0.02, 0.2))
    return np.clip(ground, 0, 1)


def flat(picture: Picture, rng: Generator) -> Picture:
    """A part of `picture` as a flat patch in perspective: a sign, a poster, a painted wall.

    Returns:
        H x W x 4, colour premultiplied with alpha.
    """
    size = picture.shape[0]
    extent = rng.uniform(0.08, 0.4, 2) * size
    centre = rng.uniform(0, size, 2)
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)
    target = centre + (corners - 0.5) * extent + rng.normal(0, 0.12, (4, 2)) * extent.min()
    left, top = rng.uniform(0, 0.5, 2)
    source = (np.array([left, top]) + corners * 0.5) * (size - 1)
    matrix = cv2.getPerspectiveTransform(source.astype(np.float32), target.astype(np.float32))
    colour = cv2.warpPerspective(picture, matrix, (size, size), borderMode=cv2.BORDER_REFLECT_101)
    alpha = np.zeros((size, size), np.uint8)
    if rng.random() < 0.25:  # a round sign
        cv2.ellipse(
            alpha,
            (int(centre[0]), int(centre[1])),
            (int(extent[0] / 2), int(extent[1] / 2)),
            0,
            0,
            360,
            255,
            -1,
            cv2.LINE_AA,
        )
    else:
        cv2.fillConvexPoly(alpha, np.round(target * 16).astype(np.int32), 255, cv2.LINE_AA, 4)
    share = alpha.astype(np.float32)[..., None] / 255
    return np.concatenate([colour * share, share], axis=2)
