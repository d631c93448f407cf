"""Stand-ins that tests share: an engine whose mattes can be told from the picture alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from birefnet.imaging.geometry import Preprocess

PLAIN = Preprocess(64, 64, mean=(0, 0, 0), std=(1, 1, 1))
"""Leaves pixels in [0, 1], so that `BrightEngine` sees their brightness."""


class BrightEngine:
    """Holds what is bright for the subject: probability 0.5 at half grey, 1 in the end at white.

    It remembers the shapes of its batches.
    """

    name = "bright"
    batch_size = 1
    steepness = 40.0

    def __init__(self) -> None:
        self.batches: list[tuple[int, ...]] = []

    def infer(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        self.batches.append(batch.shape)
        return self.steepness * (batch.mean(axis=1, keepdims=True) - np.float32(0.5))


def disc(height: int = 48, width: int = 64, *, ground: int = 20, subject: int = 235) -> NDArray:
    """A bright disc in the middle of a dark picture, uint8 H x W x 3."""
    y, x = np.mgrid[:height, :width]
    inside = (x - width / 2) ** 2 + (y - height / 2) ** 2 < (min(height, width) / 3) ** 2
    return np.where(inside[..., None], subject, ground).repeat(3, axis=2).astype(np.uint8)


def write_disc(path: Path, **size: int) -> Path:
    """`disc` as a file of the format that its suffix says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(disc(**size)).save(path)
    return path


def write_animation(path: Path, frames: int = 3) -> Path:
    """A disc that grows darker, 80 ms a frame, as GIF, WebP or APNG."""
    pictures = [Image.fromarray(disc(subject=235 - 20 * i, ground=20 + i)) for i in range(frames)]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=80, loop=0)
    return path
