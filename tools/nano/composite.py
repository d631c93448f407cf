"""Cut-outs pasted into scenes, with shadow, matched colour and soft edges."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from tools.nano import augment
from tools.nano.augment import Picture


def place(
    cutout: NDArray[Any], size: int, rng: Generator, *, traced: bool, extent: float
) -> Picture:
    """A cut-out, turned, scaled and put somewhere on an empty canvas.

    Args:
        cutout: h x w x 4, RGB and alpha.
        size: of the canvas [px].
        traced: its alpha is a hand-drawn mask of a photo: shrink it a little and soften the edge.
        extent: longest side of the object as a share of the canvas.

    Returns:
        size x size x 4, colour premultiplied with alpha.
    """
    rows, columns = (np.flatnonzero(cutout[..., 3].max(axis=axis) > 8) for axis in (1, 0))
    if not rows.size:
        return np.zeros((size, size, 4), np.float32)
    cutout = cutout[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = extent * size / max(cutout.shape[:2])
    if scale < 0.7:
        factor = 1.2 * scale  # antialiased to a little above the size, then warped
        if min(cutout.shape[:2]) * factor >= 1:
            cutout = cv2.resize(cutout, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
            scale = extent * size / max(cutout.shape[:2])
    layer: Picture = cutout.astype(np.float32) / 255
    if traced:
        soft = cv2.GaussianBlur(layer[..., 3], (0, 0), rng.uniform(0.7, 1.6))
        layer[..., 3] = np.clip((soft - 0.3) / 0.6, 0, 1)
    layer[..., :3] = augment.colour(layer[..., :3], rng, 0.8)
    layer[..., :3] *= layer[..., 3:]
    height, width = layer.shape[:2]
    angle = np.deg2rad(rng.normal(0, 9) if rng.random() < 0.85 else rng.uniform(-180, 180))
    stretch = np.exp(rng.normal(0, 0.1))
    mirror = -1.0 if rng.random() < 0.5 else 1.0
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = turn @ np.diag([scale * mirror * stretch, scale / stretch])
    spread = 0.5 - min(0.42, extent / 2.6)
    target = size * (0.5 + rng.uniform(-spread, spread, 2) + (0, 0.04))
    move = target - matrix @ np.array([(width - 1) / 2, (height - 1) / 2])
    layer = cv2.warpAffine(layer, np.column_stack([matrix, move]), (size, size))
    if rng.random() < 0.25:
        layer = cv2.GaussianBlur(layer, (0, 0), rng.uniform(0.4, 1.0))
    return layer


def to_border(layer: Picture, rng: Generator) -> Picture:
    """Move a `layer` (H x W x 4) so that the nearest side of the picture cuts it."""
    alpha = layer[..., 3]
    size = alpha.shape[0]
    rows, columns = (np.flatnonzero(alpha.max(axis=axis) > 0.03) for axis in (1, 0))
    if not rows.size:
        return layer
    cut = rng.uniform(0.25, 0.7)  # share of the object that is lost
    moves = {
        (-1, 0): columns[0] + cut * np.ptp(columns),
        (1, 0): size - 1 - columns[-1] + cut * np.ptp(columns),
        (0, 1): size - 1 - rows[-1] + cut * np.ptp(rows),
    }
    (x, y), distance = min(moves.items(), key=lambda move: move[1])
    shift = np.array([[1, 0, x * distance], [0, 1, y * distance]], np.float64)
    return cv2.warpAffine(layer, shift, (size, size))


def shadow(scene: Picture, alpha: Picture, rng: Generator) -> Picture:
    """A soft shadow of `alpha` (H x W) on `scene`, to a side and below."""
    size = alpha.shape[0]
    move = np.array([[1, 0, rng.normal(0, 0.05) * size], [0, 1, rng.uniform(0, 0.06) * size]])
    small = cv2.resize(cv2.warpAffine(alpha, move, (size, size)), (size // 2, size // 2))
    small = cv2.GaussianBlur(small, (0, 0), rng.uniform(0.006, 0.04) * size)
    dark = cv2.resize(small, (size, size)) * np.float32(rng.uniform(0.15, 0.65))
    return scene * (1 - dark[..., None])


def match(layer: Picture, scene: Picture, amount: float) -> Picture:
    """Move the mean colour of a premultiplied `layer` towards that of `scene` by `amount`."""
    alpha = layer[..., 3]
    total = float(alpha.sum())
    if total < 1:
        return layer
    mean = layer[..., :3].reshape(-1, 3).sum(axis=0) / total
    delta = np.float32(amount) * (scene.reshape(-1, 3).mean(axis=0) - mean)
    layer = layer.copy()
    layer[..., :3] = np.clip(layer[..., :3] + delta * alpha[..., None], 0, alpha[..., None])
    return layer


def over(layer: Picture, scene: Picture, truth: Picture) -> tuple[Picture, Picture]:
    """A premultiplied `layer` over `scene`, and the truth with its alpha joined."""
    alpha = layer[..., 3]
    return layer[..., :3] + scene * (1 - alpha[..., None]), alpha + truth * (1 - alpha)
