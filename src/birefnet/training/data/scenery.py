"""Backgrounds of composites: views of panoramas, scenes without their subject, plain grounds."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from birefnet.training.data.folders import DataError
from birefnet.training.data.sources import Changed, Pixels, Source, shrink

VIEWS = 12
"""Views of each panorama."""
_VIEW_SIDE = 640  # px
_LONGEST = 4096  # of a panorama, of which a view shows about a quarter [px]
_VISIBLE = 20  # grey value above which a pixel of a mask belongs to the subject
_MOST = 0.55  # of the width, that a subject may take to be removed
_MARGIN = 6  # px on each side of the subject


class PanoramaViews(Source):
    """`panorama:FOLDER`: perspective views of equirectangular panoramas, as backgrounds.

    Each panorama gives `VIEWS` views of 640 x 640, always the same ones.

    Args:
        source: the panoramas, twice as wide as high.
    """

    def __init__(self, source: Source) -> None:
        self.name, self.kind, self._source = f"panorama:{source.name}", "pictures", source

    def __len__(self) -> int:
        return VIEWS * len(self._source)

    def name_of(self, index: int) -> str:
        return f"{self._source.name_of(index // VIEWS)}#{index % VIEWS}"

    def read(self, index: int) -> Pixels:
        panorama = shrink(self._source.read(index // VIEWS)[..., :3], _LONGEST)
        return panorama_view(panorama, _VIEW_SIDE, np.random.default_rng(index))


def subjects_removed(source: Source) -> Source:
    """`subjects-removed:SET`: pictures whose subject is covered by what is beside it.

    Args:
        source: pictures with their masks.

    Raises:
        DataError: there are no masks.
    """
    if source.kind != "pairs":
        raise DataError(f"{source.name} has no masks, which tell what is to be removed")
    return Changed(source, _covered, f"subjects-removed:{source.name}", "pictures")


def _covered(pixels: Pixels, index: int) -> Pixels:
    scene = without_subject(pixels)
    if scene is None:  # too little is left of it: a plain ground of its border's colour
        border = np.concatenate([pixels[0, :, :3], pixels[-1, :, :3]]).mean(axis=0) / 255
        scene = to_pixels(plain(256, np.random.default_rng(index), near=border))
    return scene


def panorama_view(panorama: Pixels, size: int, rng: Generator) -> Pixels:
    """A perspective view, `size` x `size`, into an equirectangular panorama (H x W x 3)."""
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
    return np.asarray(view, np.uint8)


def without_subject(pixels: Pixels) -> Pixels | None:
    """The scene without its subject, whose columns are filled from both sides, mirrored.

    Args:
        pixels: H x W x 4, RGB and mask.

    Returns:
        H x W x 3, or `None` where the subject leaves too little of the scene.
    """
    columns = np.flatnonzero(pixels[..., 3].max(axis=0) > _VISIBLE)
    width = pixels.shape[1]
    if not columns.size:
        return np.ascontiguousarray(pixels[..., :3])
    first, last = max(0, columns[0] - _MARGIN), min(width, columns[-1] + _MARGIN + 1)
    if last - first > _MOST * width:
        return None
    reach = np.arange(first, last)
    # Each side covers as much as it has pixels to mirror.
    left_share = first / max(1, first + width - last)
    seam = first + round((last - first) * left_share)
    source = np.where(reach < seam, 2 * first - 1 - reach, 2 * last - reach)
    if source.min() < 0 or source.max() >= width:
        return None
    scene = np.array(pixels[..., :3])
    scene[:, first:last] = scene[:, source]
    low, high = max(0, seam - 8), min(width, seam + 8)
    if 0 < seam < width and high > low:
        scene[:, low:high] = cv2.blur(scene[:, low:high], (9, 3))
    return scene


def plain(
    size: int, rng: Generator, near: NDArray[np.floating] | None = None
) -> NDArray[np.float32]:
    """A plain ground, a gradient or soft noise, `size` x `size` x 3 in [0, 1].

    Args:
        near: its colour (3), about; any colour without.
    """
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
        noise = rng.standard_normal((cells, cells, 3)).astype(np.float32)
        if rng.random() < 0.6:
            noise[...] = noise[..., :1]
        noise = np.asarray(cv2.resize(noise, (size, size), interpolation=cv2.INTER_CUBIC))
        ground += noise * np.float32(rng.uniform(0.02, 0.2))
    return np.clip(ground, 0, 1)


def to_pixels(picture: NDArray[np.float32]) -> Pixels:
    """[0, 1] → 0 to 255."""
    return np.asarray(np.clip(picture * 255 + 0.5, 0, 255), np.uint8)
