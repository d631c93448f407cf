"""Small generated data sets for the tests of training data."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image


def photo(seed: int, height: int = 60, width: int = 90) -> tuple[NDArray, NDArray]:
    """A dim, smooth picture with a bright disc, and the disc as truth with soft edges."""
    rng = np.random.default_rng(seed)
    rough = rng.integers(10, 110, (4, 5, 3), dtype=np.uint8)
    rgb = cv2.resize(rough, (width, height), interpolation=cv2.INTER_CUBIC)
    truth = np.zeros((height, width), np.uint8)
    centre = (int(rng.integers(30, width - 30)), int(rng.integers(22, height - 22)))
    cv2.circle(truth, centre, 14, 255, -1, cv2.LINE_AA)
    share = truth[..., None] / 255
    return np.rint(rgb * (1 - share) + (235, 220, 200) * share).astype(np.uint8), truth


def cutout(seed: int, height: int = 50, width: int = 40) -> NDArray:
    """An ellipse of one colour, RGBA; what is transparent is pure green."""
    rng = np.random.default_rng(seed)
    rgba = np.zeros((height, width, 4), np.uint8)
    rgba[..., :3] = (0, 255, 0)
    alpha = np.zeros((height, width), np.uint8)
    axes = (width // 2 - 5, height // 2 - 5)
    cv2.ellipse(alpha, (width // 2, height // 2), axes, 0, 0, 360, 255, -1, cv2.LINE_AA)
    rgba[alpha > 0, :3] = (200, int(rng.integers(20, 80)), int(rng.integers(20, 200)))
    rgba[..., 3] = alpha
    return rgba


def save(path: Path, pixels: NDArray, **options: object) -> Path:
    """Write a picture in the format of its suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)  # type: ignore[arg-type]
    return path


def make_pairs(root: Path, count: int, *, images: str = "im", truths: str = "gt") -> Path:
    """`root/im/pN.png` and `root/gt/pN.png`."""
    for i in range(count):
        rgb, truth = photo(i)
        save(root / images / f"p{i}.png", rgb)
        save(root / truths / f"p{i}.png", truth)
    return root


def make_cutouts(root: Path, count: int) -> Path:
    for i in range(count):
        save(root / f"c{i}.png", cutout(i))
    return root


def make_backgrounds(root: Path, count: int) -> Path:
    """Blue pictures without a subject."""
    for i in range(count):
        rgb = photo(100 + i, 70, 70)[0] // 2
        rgb[..., 2] = 180
        save(root / f"b{i}.jpg", rgb)
    return root
