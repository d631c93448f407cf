"""Backgrounds of composites: scenes without a subject, views of panoramas, and plain grounds."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from birefnet.training.augment import Picture


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
