"""Synthetic pictures of cracked walls with their masks, to try fine-tuning on: docs/finetune.md.

    python docs/cracks.py cracks 100
    python docs/cracks.py --weathered walls 60

writes cracks/im/0000.jpg … and cracks/gt/0000.png …: plaster with stains, pores and straight
joints, which are no cracks, and one to three branching cracks, which are. Weathered walls are
nearer to photographs: cracks are one to six pixels wide, jagged and faint, among masonry, grains,
runs of water, scratches and shadows. Each picture is a function of its number.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

HEIGHT, WIDTH = 384, 512


Generator = np.random.Generator
Mask = NDArray[np.uint8]
Pixels = NDArray[np.float64]


def write(
    folder: Path,
    numbers: range,
    draw: Callable[[Generator], Mask],
    paint: Callable[[Mask, Generator], Mask],
) -> None:
    """Write a mask of each number, and the picture of it."""
    for kind in ("im", "gt"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    for number in numbers:
        rng = np.random.default_rng(number)
        mask = draw(rng)
        cv2.imwrite(str(folder / "im" / f"{number:04}.jpg"), paint(mask, rng))
        cv2.imwrite(str(folder / "gt" / f"{number:04}.png"), mask)


def cracks(rng: Generator) -> Mask:
    """A mask of one to three cracks, white on black."""
    return several(walk, (4, 9), 3, rng)


def several(
    draw: Callable[..., None], widths: tuple[float, float], branches: int, rng: Generator
) -> Mask:
    """A mask of one to three lines that begin anywhere, `widths` wide, drawn by `draw`."""
    canvas = np.zeros((HEIGHT, WIDTH), np.uint8)
    for _ in range(rng.integers(1, 4)):
        start = rng.uniform((0, 0), (WIDTH, HEIGHT))
        draw(canvas, start, rng.uniform(0, 2 * np.pi), rng.uniform(*widths), rng, branches)
    return canvas


def walk(
    canvas: Mask, at: Pixels, direction: float, width: float, rng: Generator, branches: int
) -> None:
    """Draw a wandering line that gets thinner and sends out thinner ones."""
    while width > 1.2:
        direction += rng.normal(0, 0.35)
        step = rng.uniform(8, 20) * np.array([np.cos(direction), np.sin(direction)])
        line(canvas, at, at + step, 255, max(1, round(width)))
        at = at + step
        width -= rng.uniform(0, 0.3)
        if branches and rng.random() < 0.1:
            side = rng.choice([-1, 1]) * rng.uniform(0.5, 1.2)
            walk(canvas, at, direction + side, width * 0.6, rng, branches - 1)


def picture(mask: Mask, rng: Generator) -> Mask:
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


def noise(scale: int, rng: Generator) -> Pixels:
    """Smooth noise of variance about 1 whose lumps are `scale` pixels wide."""
    coarse = rng.normal(0, 1.3, (HEIGHT // scale + 2, WIDTH // scale + 2))
    return cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)


def fine_cracks(rng: Generator) -> Mask:
    """A mask of one to three cracks that are jagged, of changing width, and as thin as a pixel."""
    return several(crack, (1.2, 4), 2, rng)


def crack(
    canvas: Mask, at: Pixels, direction: float, widest: float, rng: Generator, branches: int
) -> None:
    """Draw a line that wanders about its direction, and those that branch off."""
    width, bend = widest, 0.0
    for _ in range(rng.integers(60, 260)):
        bend = 0.85 * bend + rng.normal(0, 0.18)
        angle = direction + 1.2 * bend + rng.normal(0, 0.5)
        end = at + rng.uniform(2.5, 6.5) * np.array([np.cos(angle), np.sin(angle)])
        width = float(np.clip(width * np.exp(rng.normal(0, 0.12)), 0.9, 1.3 * widest))
        line(canvas, at, end, 255, max(1, round(width)))
        at, widest = end, 0.996 * widest
        if branches and rng.random() < 0.012:
            side = rng.choice([-1, 1]) * rng.uniform(0.5, 1.2)
            crack(canvas, at, direction + side, 0.6 * widest, rng, branches - 1)


def line(canvas: NDArray, start: Pixels, end: Pixels, level: object, width: int) -> None:
    """A straight line with smooth edges, between points of parts of a pixel."""
    ends = [tuple(int(v * 16) for v in point) for point in (start, end)]
    cv2.line(canvas, *ends, level, width, cv2.LINE_AA, shift=4)


def weathered(mask: Mask, rng: Generator) -> Mask:
    """A wall with these cracks in it, and with much that looks like them."""
    wall = np.full((HEIGHT, WIDTH, 3), rng.uniform(90, 200), np.float64) + rng.normal(0, 7, 3)
    for scale, strength in ((2, rng.uniform(2, 9)), (6, rng.uniform(2, 9)), (24, 8), (120, 16)):
        wall += strength * noise(scale, rng)[..., None]
    for _ in range(rng.integers(0, 300)):  # grains
        at = rng.uniform((0, 0), (WIDTH, HEIGHT)).astype(int)
        level = wall[at[1], at[0]] * rng.uniform(0.6, 1.3)
        box = (at.tolist(), rng.uniform(1, 5, 2).tolist(), rng.uniform(0, 180))
        cv2.ellipse(wall, box, level.tolist(), -1, cv2.LINE_AA)
    if rng.random() < 0.35:
        masonry(wall, rng)
    for _ in range(rng.integers(0, 4)):
        wall *= 1 - rng.uniform(0.1, 0.5) * stain(rng)[..., None] * (1.1, 1, 0.8)
    for _ in range(rng.integers(0, 6)):  # scratches
        at, angle = rng.uniform((0, 0), (WIDTH, HEIGHT)), rng.uniform(0, 2 * np.pi)
        end = at + rng.uniform(20, 220) * np.array([np.cos(angle), np.sin(angle)])
        line(wall, at, end, (wall.mean(axis=(0, 1)) * rng.choice([0.75, 1.3])).tolist(), 1)
    depth = np.clip(rng.uniform(0.2, 0.65) + 0.18 * noise(15, rng), 0.06, 0.9)
    inside = cv2.GaussianBlur(mask, (0, 0), rng.uniform(0.5, 1.1)) / 255
    rim = np.clip(np.roll(inside, 1, axis=0) - inside, 0, 1)  # its lower edge is in the light
    wall *= ((1 - inside * depth) * (1 + 0.25 * rim))[..., None]
    for _ in range(rng.integers(0, 3)):
        wall *= 1 - rng.uniform(0.2, 0.6) * shadow(rng)[..., None]
    light = np.linspace(*rng.uniform(0.6, 1.25, 2), WIDTH)[None, :, None]
    grain = rng.normal(0, rng.uniform(1, 9), wall.shape)
    return np.clip(wall * light + grain, 0, 255).astype(np.uint8)


def masonry(wall: Pixels, rng: Generator) -> None:
    """Draw courses of bricks or slabs, with their joints."""
    high, wide, joint = (int(rng.integers(*ends)) for ends in ((40, 130), (70, 260), (2, 8)))
    level = (wall.mean(axis=(0, 1)) * rng.uniform(0.55, 1.25)).tolist()
    for row, y in enumerate(range(-int(rng.integers(high)), HEIGHT, high)):
        cv2.line(wall, (0, y), (WIDTH, y + int(rng.integers(-3, 4))), level, joint)
        for x in range(-(row % 2) * wide // 2, WIDTH, wide):
            cv2.line(wall, (x, y), (x + int(rng.integers(-3, 4)), y + high), level, joint)


def stain(rng: Generator) -> Pixels:
    """Where a wall is stained: a run of water, or blotches."""
    if rng.random() < 0.5:
        return np.clip(noise(50, rng) - 0.6, 0, 1)
    run = np.zeros((HEIGHT, WIDTH))
    start = rng.uniform((0, 0), (WIDTH, 0.6 * HEIGHT))
    end = start + np.array((rng.normal(0, 10), rng.uniform(60, HEIGHT)))
    line(run, start, end, 1.0, int(rng.integers(3, 30)))
    return cv2.GaussianBlur(run, (0, 0), rng.uniform(2, 9))


def shadow(rng: Generator) -> Pixels:
    """Of a house, of cables and branches, or of leaves."""
    kind, dark = rng.integers(3), np.zeros((HEIGHT, WIDTH))
    if kind == 0:
        corners = rng.uniform(-0.2, 1.2, (4, 2)) * (WIDTH, HEIGHT)
        cv2.fillConvexPoly(dark, cv2.convexHull(corners.astype(np.int32)), 1.0)
    elif kind == 1:
        for _ in range(rng.integers(1, 5)):
            start, towards = rng.uniform((0, 0), (WIDTH, HEIGHT), (2, 2))
            line(dark, start, start + 3 * (towards - start), 1.0, int(rng.integers(3, 16)))
    else:
        dark[noise(40, rng) > 0.7] = 1
    return cv2.GaussianBlur(dark, (0, 0), rng.uniform(1, 8))


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the pictures that the command asks for."""
    parser = argparse.ArgumentParser(description="Draw pictures of cracked walls and their masks.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("count", type=int)
    parser.add_argument("first", type=int, nargs="?", default=0, help="number of the first picture")
    parser.add_argument("--weathered", action="store_true", help="nearer to photographs")
    options = parser.parse_args(arguments)
    drawing = (fine_cracks, weathered) if options.weathered else (cracks, picture)
    write(options.folder, range(options.first, options.first + options.count), *drawing)


if __name__ == "__main__":
    main()
