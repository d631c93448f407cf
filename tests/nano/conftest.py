"""A few pictures in the layout of nano's data."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from discs import disc


@pytest.fixture
def nano_data(tmp_path: Path) -> Path:
    """Photos of discs, cut-outs, backgrounds and panoramas."""
    root, rng = tmp_path / "data", np.random.default_rng(0)
    for part in ("photos/cats/im", "photos/cats/gt", "cutouts/renders", "backgrounds", "panoramas"):
        (root / part).mkdir(parents=True)
    for number in range(24):
        pixels = disc(number)
        cv2.imwrite(str(root / f"photos/cats/im/p{number}.png"), pixels[..., 2::-1])
        cv2.imwrite(str(root / f"photos/cats/gt/p{number}.png"), pixels[..., 3])
        cv2.imwrite(str(root / f"cutouts/renders/r{number}.png"), pixels[..., (2, 1, 0, 3)])
        ground = cv2.resize(rng.integers(0, 255, (4, 6, 3), np.uint8), (64, 64))
        cv2.imwrite(str(root / f"backgrounds/b{number}.png"), ground)
    for number in range(2):
        cv2.imwrite(str(root / f"panoramas/s{number}.png"), cv2.resize(disc(number), (64, 32)))
    return root
