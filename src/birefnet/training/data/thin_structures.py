"""Procedural thin structures as cut-outs: wheels, fences, wires, branches, hair."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from birefnet.training.data.folders import DataError
from birefnet.training.data.scenery import plain, to_pixels
from birefnet.training.data.sources import Pixels, Source

_SUPERSAMPLING = 3
_SIDE = 640  # of a cut-out [px]
Canvas = NDArray[np.uint8]
Alpha = NDArray[np.float32]


class ThinStructures(Source):
    """`thin:COUNT`: so many thin structures, RGBA of 640 x 640, always the same ones.

    Raises:
        DataError: the count is not a whole number above 0.
    """

    def __init__(self, text: str) -> None:
        count = text.removeprefix("thin:")
        if not count.isdecimal() or not int(count):
            raise DataError(f"{text} came; give how many thin structures, as in thin:500")
        self.name, self.kind, self._count = text, "cutouts", int(count)

    def __len__(self) -> int:
        return self._count

    def name_of(self, index: int) -> str:
        return f"thin{index}"

    def read(self, index: int) -> Pixels:
        rng = np.random.default_rng(index)
        alpha = to_pixels(thin_structure(_SIDE, rng))
        return np.asarray(cv2.merge([to_pixels(plain(_SIDE, rng)), alpha]), np.uint8)


def thin_structure(size: int, rng: Generator) -> Alpha:
    """Alpha, `size` x `size`, of a random thin structure."""
    side = size * _SUPERSAMPLING
    canvas = np.zeros((side, side), np.uint8)
    draw = _KINDS[int(rng.integers(len(_KINDS)))]
    draw(canvas, side, rng)
    alpha = cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA)
    return alpha.astype(np.float32) / np.float32(255)


def _line(canvas: Canvas, points: NDArray, thickness: float) -> None:
    fixed = np.round(points * 16).astype(np.int32)
    cv2.polylines(canvas, [fixed], False, 255, max(1, round(thickness)), cv2.LINE_AA, 4)


def _thickness(side: int, rng: Generator) -> float:
    """From a third of a final pixel to a hundredth of the picture."""
    return side * float(np.exp(rng.uniform(np.log(0.0015), np.log(0.014))))


def _wheel(canvas: Canvas, side: int, rng: Generator) -> None:
    for _ in range(int(rng.integers(1, 3))):
        centre = rng.uniform(0.3, 0.7, 2) * side
        radius, thick = rng.uniform(0.15, 0.32) * side, _thickness(side, rng)
        angles = np.linspace(0, 2 * np.pi, 120)
        squash = rng.uniform(0.5, 1)
        rim = np.stack([np.cos(angles) * squash, np.sin(angles)], 1)
        _line(canvas, centre + rim * radius, thick * rng.uniform(1.5, 4))
        for angle in np.linspace(0, 2 * np.pi, int(rng.integers(6, 32)), endpoint=False):
            tip = np.array([np.cos(angle) * squash, np.sin(angle)]) * radius
            _line(canvas, np.stack([centre, centre + tip]), thick)
        cv2.circle(canvas, (int(centre[0]), int(centre[1])), int(radius * 0.09), 255, -1)


def _fence(canvas: Canvas, side: int, rng: Generator) -> None:
    low, high = np.sort(rng.uniform(0.08, 0.92, (2, 2)), axis=0) * side
    high = np.maximum(high, low + 0.25 * side)
    thick, shear = _thickness(side, rng), rng.normal(0, 0.15) * side
    for x in np.linspace(low[0], high[0], int(rng.integers(4, 16))):
        _line(canvas, np.array([[x, low[1]], [x + shear, high[1]]]), thick)
    for share in np.linspace(0, 1, int(rng.integers(2, 9))):
        y, move = low[1] + share * (high[1] - low[1]), share * shear
        _line(canvas, np.array([[low[0] + move, y], [high[0] + move, y]]), thick)


def _curve(start: NDArray, end: NDArray, bend: NDArray) -> NDArray:
    t = np.linspace(0, 1, 24)[:, None]
    return (1 - t) ** 2 * start + 2 * t * (1 - t) * ((start + end) / 2 + bend) + t**2 * end


def _wires(canvas: Canvas, side: int, rng: Generator) -> None:
    anchor = rng.uniform(0.2, 0.8, 2) * side
    cv2.circle(
        canvas, (int(anchor[0]), int(anchor[1])), int(side * rng.uniform(0.04, 0.12)), 255, -1
    )
    for _ in range(int(rng.integers(2, 8))):
        end = rng.uniform(0.05, 0.95, 2) * side
        _line(canvas, _curve(anchor, end, rng.normal(0, 0.15, 2) * side), _thickness(side, rng))


def _branches(canvas: Canvas, side: int, rng: Generator) -> None:
    def grow(start: NDArray, angle: float, length: float, thick: float, depth: int) -> None:
        end = start + length * np.array([np.cos(angle), np.sin(angle)])
        _line(canvas, _curve(start, end, rng.normal(0, 0.1, 2) * length), thick)
        if depth == 0:
            if leaves:
                axes = (max(1, int(length * 0.25)), max(1, int(length * 0.1)))
                tip = (int(end[0]), int(end[1]))
                cv2.ellipse(canvas, tip, axes, np.rad2deg(angle), 0, 360, 255, -1, cv2.LINE_AA)
            return
        for turn in rng.normal(0, 0.5, int(rng.integers(2, 4))):
            grow(end, angle + turn, length * rng.uniform(0.6, 0.85), thick * 0.65, depth - 1)

    leaves = rng.random() < 0.6
    root = np.array([rng.uniform(0.35, 0.65), rng.uniform(0.8, 0.98)]) * side
    grow(root, -np.pi / 2 + rng.normal(0, 0.1), 0.24 * side, side * rng.uniform(0.006, 0.03), 5)


def _hair(canvas: Canvas, side: int, rng: Generator) -> None:
    centre = rng.uniform(0.38, 0.62, 2) * side
    axes = rng.uniform(0.12, 0.24, 2) * side
    cv2.ellipse(
        canvas,
        (int(centre[0]), int(centre[1])),
        (int(axes[0]), int(axes[1])),
        rng.uniform(0, 180),
        0,
        360,
        255,
        -1,
        cv2.LINE_AA,
    )
    comb = rng.normal(0, 0.06, 2) * side
    length = rng.uniform(0.04, 0.16)
    for angle in rng.uniform(0, 2 * np.pi, int(rng.integers(60, 260))):
        out = np.array([np.cos(angle), np.sin(angle)])
        start = centre + 0.9 * out * axes
        end = centre + out * (axes + side * length * rng.random()) + comb
        thick = _SUPERSAMPLING * rng.uniform(0.3, 1.1)
        _line(canvas, _curve(start, end, rng.normal(0, 0.03, 2) * side), thick)


_KINDS: tuple[Callable[[Canvas, int, Generator], None], ...] = (
    _wheel,
    _fence,
    _wires,
    _branches,
    _hair,
)
