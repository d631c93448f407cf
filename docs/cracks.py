"""Synthetic pictures of cracked walls with their masks, to try fine-tuning on: docs/finetune.md.

    python docs/cracks.py cracks 100

writes cracks/im/0000.jpg … and cracks/gt/0000.png …: plaster with stains, pores and straight
joints, which are no cracks, and one to three branching cracks, which are. Each picture is a
function of its number.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

HEIGHT, WIDTH = 384, 512


def main(folder: Path, count: int, first: int = 0) -> None:
    """Write pictures number `first` and following."""
    for kind in ("im", "gt"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    for number in range(first, first + count):
        rng = np.random.default_rng(number)
        mask = cracks(rng)
        cv2.imwrite(str(folder / "im" / f"{number:04}.jpg"), picture(mask, rng))
        cv2.imwrite(str(folder / "gt" / f"{number:04}.png"), mask)


def cracks(rng: np.random.Generator) -> NDArray[np.uint8]:
    """A mask of one to three cracks, white on black."""
    canvas = np.zeros((HEIGHT, WIDTH), np.uint8)
    for _ in range(rng.integers(1, 4)):
        start = rng.uniform((0, 0), (WIDTH, HEIGHT))
        walk(canvas, start, rng.uniform(0, 2 * np.pi), rng.uniform(4, 9), rng, branches=3)
    return canvas


def walk(
    canvas: NDArray[np.uint8],
    at: NDArray[np.float64],
    direction: float,
    width: float,
    rng: np.random.Generator,
    branches: int,
) -> None:
    """Draw a wandering line that gets thinner and sends out thinner ones."""
    while width > 1.2:
        direction += rng.normal(0, 0.35)
        step = rng.uniform(8, 20) * np.array([np.cos(direction), np.sin(direction)])
        points = [tuple(int(v * 16) for v in p) for p in (at, at + step)]
        cv2.line(canvas, *points, 255, max(1, round(width)), cv2.LINE_AA, shift=4)
        at = at + step
        width -= rng.uniform(0, 0.3)
        if branches and rng.random() < 0.1:
            side = rng.choice([-1, 1]) * rng.uniform(0.5, 1.2)
            walk(canvas, at, direction + side, width * 0.6, rng, branches - 1)


def picture(mask: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """A wall with these cracks in it."""
    wall = np.full((HEIGHT, WIDTH, 3), rng.uniform(120, 210), np.float64) + rng.normal(0, 12, 3)
    for scale, strength in ((4, 5), (24, 8), (120, 14)):
        wall += strength * noise(scale, rng)[..., None]
    for _ in range(rng.integers(0, 3)):  # stains
        wall *= 1 - 0.3 * np.clip(noise(60, rng) - 1, 0, 1)[..., None]
    for _ in range(rng.integers(0, 3)):  # joints: straight, from edge to edge
        at = int(rng.uniform(0.1, 0.9) * (HEIGHT if rng.random() < 0.5 else WIDTH))
        ends = ((0, at), (WIDTH, at)) if rng.random() < 0.5 else ((at, 0), (at, HEIGHT))
        cv2.line(wall, *ends, (wall.mean() * 0.6,) * 3, int(rng.integers(2, 6)))
    for _ in range(rng.integers(0, 40)):  # pores
        at = rng.uniform((0, 0), (WIDTH, HEIGHT)).astype(int).tolist()
        cv2.circle(wall, at, int(rng.integers(1, 4)), (wall.mean() * 0.5,) * 3, -1, cv2.LINE_AA)
    depth = rng.uniform(0.35, 0.75) + 0.15 * noise(20, rng)
    inside = cv2.GaussianBlur(mask, (0, 0), 0.8)[..., None] / 255
    wall *= 1 - inside * np.clip(depth, 0.2, 0.9)[..., None]
    light = np.linspace(*rng.uniform(0.7, 1.2, 2), WIDTH)[None, :, None]
    grain = rng.normal(0, rng.uniform(1, 6), wall.shape)
    return np.clip(wall * light + grain, 0, 255).astype(np.uint8)


def noise(scale: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Smooth noise of variance about 1 whose lumps are `scale` pixels wide."""
    coarse = rng.normal(0, 1.3, (HEIGHT // scale + 2, WIDTH // scale + 2))
    return cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), *map(int, sys.argv[3:4]))
