"""Random changes of pictures that keep or move their truth.

Pictures are float32 H x W x C in [0, 1]; the randomness comes from the generator passed in alone.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Picture = NDArray[Any]
"""float32, H x W or H x W x C, in [0, 1]."""


def crop(picture: NDArray, size: int, rng: Generator, *, least: float, upright: bool) -> Picture:
    """A random part of `picture`, stretched to `size` x `size`, flipped half of the time.

    Args:
        picture: H x W x C, uint8.
        least: smallest share of each side that is kept.
        upright: do not rotate; else up to 12 degrees in one of three, the border reflected.
    """
    height, width = picture.shape[:2]
    part_w, part_h = width, height
    if rng.random() < 0.75:
        part_w, part_h = width * rng.uniform(least, 1), height * rng.uniform(least, 1)
    if rng.random() < 0.5:  # nearly square, else the stretched whole, as inference sees it
        side = max(part_w, part_h)
        part_w, part_h = min(side, width), min(side, height)
    left, top = rng.uniform(0, width - part_w + 1e-6), rng.uniform(0, height - part_h + 1e-6)
    angle = 0.0 if upright or rng.random() > 0.35 else np.deg2rad(rng.uniform(-12, 12))
    mirror = -1.0 if rng.random() < 0.5 else 1.0
    shrink = max(part_w, part_h) / size
    if shrink > 1.5:  # antialias before the bilinear warp
        factor = 1.25 / shrink
        picture = cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        scale_x, scale_y = picture.shape[1] / width, picture.shape[0] / height
        left, part_w = left * scale_x, part_w * scale_x
        top, part_h = top * scale_y, part_h * scale_y
    # From output to source pixels: centre, scale, rotate, move.
    cos, sin = np.cos(angle), np.sin(angle)
    step_x, step_y = mirror * part_w / size, part_h / size
    matrix = np.array([[cos * step_x, -sin * step_y, 0], [sin * step_x, cos * step_y, 0]])
    centre = np.array([left + part_w / 2 - 0.5, top + part_h / 2 - 0.5])
    matrix[:, 2] = centre - matrix[:, :2] @ np.array([(size - 1) / 2, (size - 1) / 2])
    warped = cv2.warpAffine(
        picture,
        matrix,
        (size, size),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    return warped.astype(np.float32) / 255


def colour(rgb: Picture, rng: Generator, strength: float = 1.0) -> Picture:
    """Random white balance, brightness, contrast, gamma and saturation; sometimes grey."""
    gain = 1 + strength * (rng.normal(0, 0.05, 3) + rng.normal(0, 0.12))
    rgb = rgb * gain.astype(np.float32)
    grey = rgb @ np.array([0.299, 0.587, 0.114], np.float32)
    saturation = 0.0 if rng.random() < 0.06 * strength else 1 + strength * rng.normal(0, 0.22)
    rgb = grey[..., None] + np.float32(saturation) * (rgb - grey[..., None])
    contrast = np.float32(np.exp(strength * rng.normal(0, 0.15)))
    mean = np.float32(grey.mean())
    rgb = np.clip(mean + contrast * (rgb - mean), 0, 1)
    if rng.random() < 0.4:
        rgb = cv2.pow(rgb, float(np.exp(strength * rng.normal(0, 0.25))))
    return rgb


def degrade(rgb: Picture, rng: Generator) -> Picture:
    """What cameras and files do: blur, noise, JPEG, each now and then."""
    if rng.random() < 0.2:
        rgb = cv2.GaussianBlur(rgb, (0, 0), rng.uniform(0.4, 1.4))
    if rng.random() < 0.3:
        noise = rng.standard_normal(rgb.shape, dtype=np.float32)
        rgb = rgb + noise * np.float32(rng.uniform(0.005, 0.05))
    if rng.random() < 0.35:
        quality = int(rng.integers(35, 92))
        pixels = np.clip(rgb * 255 + 0.5, 0, 255).astype(np.uint8)
        data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        rgb = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.float32) / 255
    return np.clip(rgb, 0, 1)


def fill_subject(picture: NDArray[Any]) -> NDArray[Any] | None:
    """The scene without its subject: its box is filled from both sides, mirrored.

    Args:
        picture: H x W x 4, RGB and truth.

    Returns:
        H x W x 3, or `None` where the subject leaves too little of the scene.
    """
    columns = np.flatnonzero(picture[..., 3].max(axis=0) > 20)
    width = picture.shape[1]
    if not columns.size:
        return np.ascontiguousarray(picture[..., :3])
    first, last = max(0, columns[0] - 6), min(width, columns[-1] + 7)
    if last - first > 0.55 * width:
        return None
    reach = np.arange(first, last)
    # Share what is there: each side covers as much as it has pixels.
    left_share = first / max(1, first + width - last)
    seam = first + round((last - first) * left_share)
    source = np.where(reach < seam, 2 * first - 1 - reach, 2 * last - reach)
    if source.min() < 0 or source.max() >= width:
        return None
    scene = np.array(picture[..., :3])
    scene[:, first:last] = scene[:, source]
    low, high = max(0, seam - 8), min(width, seam + 8)
    if 0 < seam < width and high > low:
        scene[:, low:high] = cv2.blur(scene[:, low:high], (9, 3))
    return scene
