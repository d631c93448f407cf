"""Samples and their masks as a run sees them, side by side in one picture."""

from __future__ import annotations

import cv2
import numpy as np

from birefnet.training.data.dataset import TrainingDataset
from birefnet.training.data.sources import Pixels

_PAPER = 250
_GAP = 6  # px


def preview(data: TrainingDataset, count: int, columns: int = 8) -> Pixels:
    """The first samples in rows, each with its mask below, and its guidance if there is any; RGB.

    Samples come through `to_device_batch`, as training gets them, on the CPU.
    """
    size = data.size_at(0)
    given = data.preprocess
    mean, std = (np.array(values).reshape(3, 1, 1) for values in (given.mean, given.std))
    cells = []
    for start in range(0, count, columns):
        numbers = range(start, min(start + columns, count))
        image, mask, _ = data.to_device_batch(data.batch(size, numbers), "cpu", start)
        for rgb, levels in zip(image.numpy(), mask.numpy(), strict=True):
            shown = [levels, *(0.5 + 0.5 * rgb[3:])[:, None]]
            cells.append(_cell(rgb[:3] * std + mean, *shown))
    empty = np.full_like(cells[0], _PAPER)
    cells += [empty] * (-len(cells) % columns)
    rows = [np.hstack(cells[i : i + columns]) for i in range(0, len(cells), columns)]
    return np.vstack(rows)


def _cell(rgb: np.ndarray, *planes: np.ndarray) -> Pixels:
    grey = (np.repeat(plane, 3, axis=0) for plane in planes)
    both = np.concatenate([rgb, *grey], axis=1).transpose(1, 2, 0)
    pixels = np.clip(np.rint(both * 255), 0, 255).astype(np.uint8)
    framed = cv2.copyMakeBorder(pixels, 0, _GAP, 0, _GAP, cv2.BORDER_CONSTANT, value=(_PAPER,) * 3)
    return np.asarray(framed, np.uint8)
