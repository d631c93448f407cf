"""Strokes of a brush that erases alpha or restores it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from birefnet.errors import BiRefNetError
from birefnet.imaging.box import Box

MOST_STROKES = 500
MOST_POINTS = 50_000  # of all strokes together
MOST_WINDOWS = 32
CONTEXT = 0.25  # of a window's sides, seen around it
_SEAM = 0.08  # of a window's shorter side, over which it passes into the rest


Window: TypeAlias = tuple[float, float, float, float]
"""Left, top, right and bottom of a part, as shares of the picture's width and height."""


@dataclass(frozen=True)
class Stroke:
    """One stroke.

    Attributes:
        erase: whether alpha becomes 0 under the brush; it becomes 1 otherwise.
        size: diameter of the brush, as a share of the picture's longer side, 0 to 1.
        softness: share of the radius over which its effect fades out, 0 to 1.
        points: the path as (x, y), each a share of width or height, 0 to 1.
    """

    erase: bool
    size: float
    softness: float
    points: tuple[tuple[float, float], ...]


def retouch(alpha: NDArray[np.float32], strokes: Sequence[Stroke]) -> NDArray[np.float32]:
    """Alpha with the strokes applied, one after the other.

    Args:
        alpha: H x W, 0 to 1; it stays as it is.
        strokes: the earliest first.

    Returns:
        H x W, 0 to 1.
    """
    alpha = alpha.copy()
    height, width = alpha.shape
    for stroke in strokes:
        radius = max(0.5, stroke.size * max(height, width) / 2)
        corners = (stroke.points[0], *stroke.points)  # a line needs two
        points = np.asarray(corners, np.float64) * (width, height) - 0.5
        low = np.maximum(np.floor(points.min(axis=0) - radius), 0).astype(int)
        high = np.minimum(np.ceil(points.max(axis=0) + radius) + 1, (width, height)).astype(int)
        path = (np.clip(np.round(points), low, high - 1) - low).astype(np.int32)[:, None]
        away = np.ones((high - low)[::-1], np.uint8)
        cv2.polylines(away, [path], isClosed=False, color=0)
        distance = cv2.distanceTransform(away, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        fade = max(1.0, stroke.softness * radius)
        strength = np.clip((radius + 0.5 - distance) / fade, 0, 1)
        part = alpha[low[1] : high[1], low[0] : high[0]]
        part += strength * ((0 if stroke.erase else 1) - part)
    return alpha


def window_boxes(window: Window, height: int, width: int) -> tuple[Box, Box]:
    """The window in pixels of a picture of `height` x `width`, and the part that is seen for it."""
    left, top = int(window[0] * width), int(window[1] * height)
    right, bottom = max(left + 1, round(window[2] * width)), max(top + 1, round(window[3] * height))
    box = Box(min(top, height - 1), min(left, width - 1), bottom - top, right - left)
    return box, box.grow(round(CONTEXT * max(box.height, box.width)), height, width)


def merge_window(
    alpha: NDArray[np.float32], part: NDArray[np.float32], box: Box, seen: Box
) -> NDArray[np.float32]:
    """Alpha with a window done anew, which passes softly into the rest.

    Args:
        alpha: H x W, of the whole picture; it stays as it is.
        part: of what was seen for the window.
        box: the window.
        seen: where `part` lies.
    """
    height, width = alpha.shape
    seam = max(1.0, _SEAM * min(box.height, box.width))
    # At the border of the picture there is nothing to pass into.
    rows = _ramp(box.height, seam, starts=box.top > 0, ends=box.bottom < height)
    columns = _ramp(box.width, seam, starts=box.left > 0, ends=box.right < width)
    alpha = alpha.copy()
    inside = alpha[box.slices]
    top, left = box.top - seen.top, box.left - seen.left
    anew = part[top : top + box.height, left : left + box.width]
    inside += np.minimum(rows[:, None], columns) * (anew - inside)
    return alpha


def _ramp(length: int, seam: float, *, starts: bool, ends: bool) -> NDArray[np.float32]:
    """0 to 1 over the seam, at the ends where there is one."""
    position = np.arange(length, dtype=np.float32) + 0.5
    weight = np.ones(length, np.float32)
    if starts:
        weight = np.minimum(weight, position / np.float32(seam))
    return np.minimum(weight, position[::-1] / np.float32(seam)) if ends else weight


def read_windows(sent: object) -> tuple[Window, ...]:
    """Windows as the stage sends them.

    Raises:
        BiRefNetError: they cannot be understood, or are too many.
    """
    windows: list[Window] = []
    try:
        for left, top, right, bottom in sent if isinstance(sent, list) else []:
            windows.append((_share(left), _share(top), _share(right), _share(bottom)))
            if left >= right or top >= bottom:
                raise ValueError("it is empty")
    except (TypeError, ValueError) as error:
        raise BiRefNetError("a window cannot be understood; drag it once more") from error
    if len(windows) > MOST_WINDOWS:
        raise BiRefNetError(f"there are more than {MOST_WINDOWS} windows; undo some")
    return tuple(windows)


def read_strokes(sent: object) -> tuple[Stroke, ...]:
    """Strokes as the stage sends them.

    Raises:
        BiRefNetError: they cannot be understood, or are too many.
    """
    try:
        strokes = tuple(
            Stroke(
                bool(one["erase"]),
                _share(one["size"]),
                _share(one["softness"]),
                tuple((_share(x), _share(y)) for x, y in one["points"]),
            )
            for one in (sent if isinstance(sent, list) else [])
        )
        if not all(stroke.points for stroke in strokes):
            raise ValueError("a stroke has no points")
    except (KeyError, TypeError, ValueError) as error:
        raise BiRefNetError("a brush stroke cannot be understood; paint it once more") from error
    if len(strokes) > MOST_STROKES or sum(len(one.points) for one in strokes) > MOST_POINTS:
        raise BiRefNetError(
            f"there are more than {MOST_STROKES} strokes or {MOST_POINTS:,} points; undo some"
        )
    return strokes


def _share(value: float) -> float:
    if not 0 <= float(value) <= 1:
        raise ValueError(f"{value} is not a share")
    return float(value)
