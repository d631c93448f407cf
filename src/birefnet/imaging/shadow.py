"""Shadows under a subject: drawn on the ground or behind it, or kept from the photograph.

A shadow is the opacity of black between the background and the subject, float32 H x W in [0, 1].
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from birefnet.errors import BiRefNetError
from birefnet.imaging.box import Box
from birefnet.imaging.framing import Frame
from birefnet.imaging.picture import Alpha, Pixels, to_float
from birefnet.imaging.values import SHADOW_RANGES, ShadowKind

_STRENGTH: dict[str, float] = {"ground": 0.5, "drop": 0.4, "keep": 1.0}

# Of a shadow on the ground, in shares of the subject's height or width.
_FLAT = 0.35  # how much the ground, seen at a slant, is shortened
_FOOT_REACH = 0.2  # feet stand in the lowest part of the subject
_SOLE = 0.03  # of the height: what is joined to something lower so near its end does not stand
_FOOT_APART = 0.06  # of the width: the lowest point within this to either side is a foot
_FOOT_ROUND = 0.015  # of the height: so much higher still touches the ground
_FADE = 0.06  # of the height: above a border that cuts the subject off
_STEPS = 4  # of the penumbra, which widens with the distance from the ground

_MOST_ROOM = 4  # times the picture's pixels that a shadow with its surroundings is drawn on
_ROOM_ANYWAY = 500_000  # pixels that it is drawn on, however small the picture is
_NARROW = 16  # times as long as wide

# Of a shadow that is kept.
_WORK_SIDE = 512  # [px]; ground and shadow are smooth
_PLAIN = 0.06  # brightness that an even ground may differ from its fit, of 1
_LEAST = 0.02  # darkening below this is no shadow


@dataclass(frozen=True)
class Shadow:
    """The style of a shadow.

    Attributes:
        kind: `ground`: on the floor that the subject stands on; `drop`: on a wall behind it;
            `keep`: the one that the photograph shows on a plain ground.
        strength: opacity at its darkest, 0 to 1 (of `keep`: share of what is seen); `None` for the
            usual one.
        blur: softness, 1 is usual, 0 hard.
        angle: where it falls [degrees]: 0 away from the viewer (of `drop`: up), 90 to the right,
            180 towards the viewer, -90 to the left.
        length: of what is cast, in heights of the subject.
    """

    kind: str = "ground"
    strength: float | None = None
    blur: float = 1.0
    angle: float = 60.0
    length: float = 0.5

    def __post_init__(self) -> None:
        if self.kind not in get_args(ShadowKind):
            raise BiRefNetError(
                f"there is no shadow {self.kind!r}; choose {', '.join(get_args(ShadowKind))}"
            )
        for name, allowed in SHADOW_RANGES.items():
            value = getattr(self, name)
            if value is not None and value not in allowed:
                raise BiRefNetError(f"the shadow's {name} is {value}; give {allowed}")

    def of(self, pixels: Pixels, alpha: Alpha) -> Alpha:
        """The shadow of a subject, opacity of black, H x W; zeros where there is no subject.

        Args:
            pixels: H x W x 3, the picture.
            alpha: H x W.

        Raises:
            BiRefNetError: `keep`, and the ground is not plain.
        """
        frame, shadow = self.around(pixels, alpha)
        return Frame(-frame.top, -frame.left, *alpha.shape).cut(shadow)

    def around(self, pixels: Pixels, alpha: Alpha) -> tuple[Frame, Alpha]:
        """All of the shadow, and where it lies: a drawn one may reach beyond the picture.

        The frame holds the whole picture. Arguments and errors as for `of`.
        """
        strength = _STRENGTH[self.kind] if self.strength is None else self.strength
        frame = Frame(0, 0, *alpha.shape)
        if self.kind == "keep":
            return frame, strength * shadow_in(pixels, alpha)
        box = Box.around(alpha)
        if box is None:
            return frame, np.zeros_like(alpha)
        frame = _reach(box, alpha.shape, self)
        wide = frame.cut(alpha)
        subject = Box(box.top - frame.top, box.left - frame.left, box.height, box.width)
        if self.kind == "ground":
            shadow = _on_ground(wide, subject, self, is_cut_off=box.bottom == alpha.shape[0])
        else:
            shadow = _behind(wide, subject, self)
        return frame, np.clip(strength * shadow, 0, 1, out=shadow)


def _reach(box: Box, shape: tuple[int, ...], style: Shadow) -> Frame:
    """The picture and all that a drawn shadow may darken."""
    side = max(box.height, box.width)
    if style.kind == "ground":
        right, up = _fall(style)
        x, top, bottom = right * box.height, box.bottom - up * box.height, float(box.bottom)
        soft = style.blur * max(0.045 * box.height, 0.02 * box.width)
    else:
        turn = np.deg2rad(style.angle)
        far = 0.12 * style.length * side
        x, y = far * np.sin(turn), -far * np.cos(turn)
        top, bottom = box.top + y, box.bottom + y
        soft = style.blur * 0.02 * side
    edge = 4 + 4 * soft  # beyond four deviations nothing is left of a blur
    rows, columns = (top, bottom), (box.left, box.right, box.left + x, box.right + x)
    height, width = shape[:2]
    first = [min(0, math.floor(min(ends) - edge)) for ends in (rows, columns)]
    last = [
        max(length, math.ceil(max(ends) + edge))
        for length, ends in ((height, rows), (width, columns))
    ]
    # The shadow of a narrow subject may be a thousand times as large as the picture: then less of
    # what lies beyond the picture is drawn.
    most = max(_MOST_ROOM * height * width, _ROOM_ANYWAY)
    while (last[0] - first[0]) * (last[1] - first[1]) > most:
        first = [int(start / 2) for start in first]
        last = [end + (start - end) // 2 for end, start in zip(shape[:2], last, strict=True)]
        if first == [0, 0] and last == [height, width]:
            break
    top, left = first
    return Frame(top, left, last[0] - top, last[1] - left)


def _fall(style: Shadow) -> tuple[float, float]:
    """How far right and up in the picture the top of a subject falls, in its heights."""
    turn = np.deg2rad(style.angle)
    right = style.length * np.sin(turn)
    # Even light from the side throws a shadow of some depth, for the subject has one.
    up = style.length * _FLAT * np.cos(turn)
    return right, np.copysign(max(abs(up), 0.08 * style.length), up)


def _behind(alpha: Alpha, box: Box, style: Shadow) -> Alpha:
    """The silhouette, moved and softened."""
    turn = np.deg2rad(style.angle)
    far = 0.12 * style.length * max(box.height, box.width)
    move = np.array([[1, 0, far * np.sin(turn)], [0, 1, -far * np.cos(turn)]])
    moved = cv2.warpAffine(alpha, move, alpha.shape[::-1], flags=cv2.INTER_LINEAR)
    return _blurred(moved, 0.02 * style.blur * max(box.height, box.width))


def _on_ground(alpha: Alpha, box: Box, style: Shadow, *, is_cut_off: bool) -> Alpha:
    """Dark where the subject touches the ground, and its silhouette laid down beside it.

    A point at height h above the ground falls to h * length in the angle's direction; upwards in
    the picture the ground is shortened. Where the picture's lower border cuts the subject off, no
    foot is seen, and nothing touches the ground.
    """
    right, up = _fall(style)
    base = box.bottom
    cast = np.zeros_like(alpha)
    for step in range(_STEPS):
        # The silhouette in slices, the higher the softer and the fainter.
        low, high = step / _STEPS, (step + 1) / _STEPS
        part = np.zeros_like(alpha)
        rows = slice(round(base - high * box.height), round(base - low * box.height))
        part[rows] = alpha[rows]
        # (x, y) -> (x + right * (base - y), base - up * (base - y))
        move = np.array([[1, -right, right * base], [0, up, base - up * base]], np.float64)
        laid = cv2.warpAffine(part, move, alpha.shape[::-1], flags=cv2.INTER_AREA)
        soft = _blurred(laid, style.blur * box.height * (0.008 + 0.035 * (low + high) / 2))
        np.maximum(cast, (1 - 0.5 * (low + high) / 2) * soft, out=cast)
    if is_cut_off:
        if up > 0:  # it lies in the picture, and fades out towards the border
            above = base - 1 - np.arange(len(alpha), dtype=np.float32)[:, None]
            cast *= np.clip(above / (_FADE * box.height), 0, 1)
        return 0.6 * cast
    return np.maximum(0.6 * cast, _contact(alpha, box, style))


def _contact(alpha: Alpha, box: Box, style: Shadow) -> Alpha:
    """Darkness under what stands: the lowest points of the subject, each in its surroundings, but
    for hems and the like, from which something lower goes on."""
    solid = box.cut(alpha) >= 0.5
    lowest = np.where(solid.any(axis=0), box.height - 1 - solid[::-1].argmax(axis=0), -1)
    lowest = lowest.astype(np.float32)
    apart = 2 * max(1, round(_FOOT_APART * box.width)) + 1
    around = _highest_within(lowest, apart // 2)
    tolerance = max(1.0, _FOOT_ROUND * box.height)
    feet = (lowest >= around - tolerance) & (lowest >= (1 - _FOOT_REACH) * box.height)
    feet &= _stands(solid, lowest, feet, tolerance, max(1, round(_SOLE * box.height)))
    spot = np.zeros_like(alpha)
    thick = max(1, round(0.012 * box.height))
    for column in np.flatnonzero(feet):
        row = box.top + int(lowest[column]) + 1
        spot[max(0, row - thick) : row + thick, box.left + column] = 1
    wide = style.blur * 0.02 * box.width
    near = _blurred(spot, max(0.5, 0.3 * wide), max(0.5, 0.006 * style.blur * box.height))
    far = _blurred(spot, max(0.5, wide), max(0.5, 0.018 * style.blur * box.height))
    return np.clip(np.maximum(0.9 * near, 1.2 * far), 0, 1)


def _highest_within(line: NDArray[np.float32], reach: int) -> NDArray[np.float32]:
    """The largest value within `reach` values of each, in time for the line alone."""
    out = np.pad(line, reach, mode="edge")
    size, span = 2 * reach + 1, 1
    while span < size:
        step = min(span, size - span)
        out = np.maximum(out[:-step], out[step:])
        span += step
    return out


def _stands(
    solid: NDArray[np.bool_],
    lowest: NDArray[np.float32],
    candidates: NDArray[np.bool_],
    tolerance: float,
    sole: int,
) -> NDArray[np.bool_]:
    """Which columns' lowest points hold the subject up.

    Below a line just above a foot, the foot is a piece by itself; below one just above a hem, the
    hem is joined to the legs, which reach lower.

    Args:
        solid: h x w, the subject.
        lowest: w, its lowest row in each column.
        candidates: w, the columns that are asked for.
        tolerance: [rows] by which a piece may reach lower; lines are as far apart.
        sole: [rows] from the line to the lowest points.
    """
    if len(solid) > _NARROW * len(lowest):
        return candidates  # so narrow a subject has no hem
    stands = np.zeros_like(candidates)
    lines = (lowest / tolerance).astype(int)
    for line in np.unique(lines[candidates]):
        columns = np.flatnonzero(candidates & (lines == line))
        first = max(0, int(line * tolerance) - sole)
        _, pieces, stats, _ = cv2.connectedComponentsWithStats(
            solid[first:].astype(np.uint8), connectivity=8
        )
        ends = stats[:, cv2.CC_STAT_TOP] + stats[:, cv2.CC_STAT_HEIGHT] - 1 + first
        rows = lowest[columns].astype(int)
        own = pieces[rows - first, columns]
        stands[columns] = ends[own] <= rows + 2 * tolerance
    return stands


def _blurred(values: Pixels, sigma: float, sigma_down: float | None = None) -> Alpha:
    down = sigma if sigma_down is None else sigma_down
    if max(sigma, down) < 0.3:
        return np.asarray(values, np.float32)
    # A wide blur leaves nothing that a smaller picture cannot hold.
    factors = [max(1, int(min(sigma, down) / 4))] * 2
    if max(sigma, down) > _NARROW * min(sigma, down):
        factors = [max(1, int(length / 4)) for length in (sigma, down)]
    height, width = values.shape
    size = max(1, width // factors[0]), max(1, height // factors[1])
    is_whole = size == (width, height)
    small = values if is_whole else cv2.resize(values, size, interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(
        small,
        (0, 0),
        sigma / factors[0],
        sigmaY=down / factors[1],
        borderType=cv2.BORDER_REPLICATE,
    )
    return np.asarray(small if is_whole else cv2.resize(small, (width, height)), np.float32)


def shadow_in(pixels: Pixels, alpha: Alpha) -> Alpha:
    """The shadow that a photograph shows beside its subject on a plain ground.

    The ground's brightness is a smooth surface (a quadratic in x and y, fitted to what is not
    subject, and little to what is darker than the rest); shadow is what is darker than that, has
    the ground's hue, and begins at the subject. Under the subject it is continued smoothly.

    Args:
        pixels: H x W x 3, uint8, uint16 or float in [0, 1].
        alpha: H x W.

    Returns:
        Opacity of black, H x W.

    Raises:
        BiRefNetError: the ground is not plain, or is hardly seen.
    """
    height, width = alpha.shape
    scale = min(1.0, _WORK_SIDE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = to_float(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA))
    matte = cv2.resize(alpha, size, interpolation=cv2.INTER_AREA)
    if matte.max() < 0.5:
        return np.zeros_like(alpha)
    # Two pixels away from the subject nothing of it is mixed in.
    is_ground = cv2.dilate((matte > 0.02).astype(np.uint8), np.ones((5, 5))) == 0
    if is_ground.mean() < 0.05:
        raise BiRefNetError(
            "hardly any ground is seen beside the subject, so its shadow cannot be kept; draw one "
            "(ground)"
        )
    small = to_float(cv2.GaussianBlur(small, (0, 0), 1.0))
    lit = _lit_ground(small, is_ground)
    ratio = small / np.maximum(lit, 1e-3)
    darkening = 1 - ratio.mean(axis=2)
    has_ground_hue = np.ptp(ratio, axis=2) < 0.08 + 0.25 * np.maximum(darkening, 0)
    dark = is_ground & (darkening > _LEAST) & has_ground_hue
    shadow = _touching(dark, ~is_ground)
    level: Alpha = np.where(shadow, darkening, 0).astype(np.float32)
    # From the least darkening on it fades in, so that no step is seen.
    level *= np.clip((level - _LEAST) / _LEAST, 0, 1)
    weight = is_ground.astype(np.float32)
    level = np.where(is_ground, level, _continued(level, weight))
    soft = cv2.GaussianBlur(np.clip(level, 0, 1), (0, 0), 0.8)
    whole = cv2.resize(soft, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(whole, np.float32)


def _lit_ground(small: NDArray[np.float32], is_ground: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The ground without its shadow, h x w x 3."""
    height, width = is_ground.shape
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1)
    seen, positions = small[is_ground], terms[is_ground]
    brightness = seen.mean(axis=1)
    # The subject's surroundings are where shadow is; begin with what is far and bright.
    far = cv2.distanceTransform(is_ground.astype(np.uint8), cv2.DIST_L2, 3)[is_ground]
    weights = np.minimum(1, far / (0.15 * max(height, width))) + 1e-3
    for _ in range(12):
        scaled = positions * weights[:, None]
        factors = np.linalg.solve(scaled.T @ positions + 1e-3 * np.eye(6), scaled.T @ seen)
        rest = brightness - (positions @ factors).mean(axis=1)
        sure = rest[weights > 0.5]
        spread = max(0.008, 1.5 * float(np.median(np.abs(sure)))) if sure.size else 0.02
        far_off = (rest / spread) ** 2
        weights = np.where(rest < 0, np.exp(-far_off), 1 / (1 + far_off))
    bright = rest > -spread
    if not bright.any() or np.mean(np.abs(rest[bright]) > _PLAIN) > 0.1 or bright.mean() < 0.3:
        raise BiRefNetError(
            "the ground is not plain enough to tell a shadow from it; draw one (ground) instead"
        )
    return np.clip(terms @ factors, 0, None).astype(np.float32)


def _touching(mask: NDArray[np.bool_], subject: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The parts of a mask that begin at the subject."""
    count, pieces = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    beside = cv2.dilate(subject.astype(np.uint8), np.ones((3, 3))) > 0
    kept = np.zeros(count, bool)
    kept[np.unique(pieces[beside & mask])] = True
    kept[0] = False
    return kept[pieces]


def _continued(values: NDArray[np.float32], weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """Values carried on from where their weight is 1: means over wider and wider surroundings."""
    out = np.zeros_like(values)
    missing = np.ones_like(weight, dtype=bool)
    sigma = 2.0
    while missing.any() and sigma < 2 * max(values.shape):
        total = cv2.GaussianBlur(weight, (0, 0), sigma)
        mean = cv2.GaussianBlur(values * weight, (0, 0), sigma) / np.maximum(total, 1e-6)
        filled = missing & (total > 0.05)
        out[filled] = mean[filled]
        missing &= ~filled
        sigma *= 2
    return out
