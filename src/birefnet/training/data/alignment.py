"""Find masks that are mirrored or belong to another picture: their outline misses its edges.

An outline fits where the picture changes across it. Edges of a picture are a structure tensor
(Förstner and Gülch, 1987) over what surrounds them, the outline's normals are another, and the mean
of their products along the outline says how well both fit; a matrix product gives it for every
picture with every mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

_WORKING_SIDE = 96  # picture and mask are compared at this size, stretched to a square [px]
_SIDE = 24  # of the tensors that are kept
_SURROUNDINGS = 5.0  # standard deviation of what an edge is compared with [px]
_FAINT = 2.0  # change of colour that counts little [units of L*a*b* a pixel, Sobel]
_SHORT = 1.0  # outline below which a mask has none [px at the working size, Sobel]

MIRRORED = 1.06
"""A mirrored mask fits so much better than the mask as it is."""
FOREIGN = 1.05
"""A mask fits another picture so much better than its own, and than that picture's own mask."""
# The following are standard deviations of how the other masks of the set fit a picture.
UNRELATED = 1.2
"""A mask of the picture's own fits better than this."""
_SUSPECT = 3.2  # one that fits better than this is the picture's own for certain
_CLEAR = 3.0  # another explanation has to fit at least so well
_TYPICAL = 4.5  # the median of a set that can be judged: drawn or very soft masks have less
_SMALLEST = 4  # pairs of a set that is judged at all
_FEWEST = 10  # pairs of a set in which a mask that fits no picture is reported
_COMPARED = 64  # masks that a picture is compared with

_FLIPS = {
    "left to right": (slice(None), slice(None, None, -1)),
    "upside down": (slice(None, None, -1), slice(None)),
    "both ways": (slice(None, None, -1), slice(None, None, -1)),
}

Tensor = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Edges:
    """Edges of a picture and of its mask, float16 24 x 24 x 3 each: xx, xy and yy."""

    picture: NDArray[np.float16]
    mask: NDArray[np.float16]


@dataclass(frozen=True)
class Misfit:
    """A mask that does not fit its picture.

    Attributes:
        index: of the pair.
        flip: how it fits when mirrored; empty where that is not the reason.
        other: the pair whose mask fits this picture; None if it is mirrored, or unknown.
    """

    index: int
    flip: str = ""
    other: int | None = None


def edges_of(rgb: NDArray[np.uint8], levels: NDArray[np.uint8]) -> Edges | None:
    """Edges of a picture (H x W x 3) and its mask (any size of that shape); None without any."""
    side = (_WORKING_SIDE, _WORKING_SIDE)
    small = cv2.resize(rgb, side, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    lab = cv2.GaussianBlur(cv2.cvtColor(small, cv2.COLOR_RGB2LAB), (0, 0), 1.0)
    tensor = _structure(np.asarray(lab, np.float32))
    strength = np.sqrt(tensor[..., 0] + tensor[..., 2])
    around = np.sqrt(cv2.GaussianBlur(strength**2, (0, 0), _SURROUNDINGS))
    tensor /= ((strength + 1e-3) * (around + _FAINT))[..., None]

    mask = cv2.resize(levels, side, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    outline = _structure(np.asarray(cv2.GaussianBlur(mask, (0, 0), 1.0), np.float32))
    length = np.sqrt(outline[..., 0] + outline[..., 2])
    outline /= length[..., None] + 1e-6
    total = float(length.sum())
    if total < _SHORT:
        return None
    # So that the product is the mean along the outline.
    outline *= (_WORKING_SIDE / _SIDE) ** 2 / total
    outline[..., 1] *= 2
    return Edges(_shrunk(tensor), _shrunk(outline))


def _structure(values: Tensor) -> Tensor:
    """Products of the derivatives, summed over the channels: H x W x (xx, xy, yy)."""
    tensor = np.zeros((*values.shape[:2], 3), np.float32)
    for channel in cv2.split(values):
        x = cv2.Sobel(channel, cv2.CV_32F, 1, 0, borderType=cv2.BORDER_REPLICATE)
        y = cv2.Sobel(channel, cv2.CV_32F, 0, 1, borderType=cv2.BORDER_REPLICATE)
        tensor += cv2.merge([x * x, x * y, y * y])
    return tensor


def _shrunk(tensor: Tensor) -> NDArray[np.float16]:
    return cv2.resize(tensor, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float16)


def misfits(pairs: Sequence[Edges | None]) -> list[Misfit]:
    """The pairs of a set whose mask fits better mirrored, fits another picture, or none.

    Four pairs are needed, and ten to report a mask that fits no picture of the set. Nothing is
    said of a set whose masks mostly fit nothing, not even mirrored or beside another picture.
    """
    indices = [index for index, edges in enumerate(pairs) if edges is not None]
    readable = [edges for edges in pairs if edges is not None]
    count = len(readable)
    if count < _SMALLEST:
        return []
    pictures = np.stack([edges.picture for edges in readable]).reshape(count, -1)
    masks = np.stack([edges.mask for edges in readable])
    mean, deviation = _fit_of_others(pictures, masks)

    def standardised(fit: NDArray[np.float32]) -> NDArray[np.float32]:
        return (fit - mean) / deviation

    own = _fit_each(pictures, masks)
    flips = {name: _fit_each(pictures, _flipped(masks, how)) for name, how in _FLIPS.items()}
    flipped = np.max(list(flips.values()), axis=0)
    is_suspect = (standardised(own) < _SUSPECT) | (count < _FEWEST)
    suspects = np.flatnonzero(is_suspect)
    others, foreign = _fit_of_foreign(pictures, masks, own, suspects)
    best = np.maximum(np.maximum(own, flipped), foreign)
    if float(np.median(standardised(best))) < _TYPICAL:
        return []
    is_clear = standardised(best) > _CLEAR
    found = []
    for i in range(count):
        if is_clear[i] and foreign[i] > flipped[i]:
            found.append(Misfit(indices[i], other=indices[others[i]]))
        elif is_clear[i] and flipped[i] > MIRRORED * own[i]:
            name = max(flips, key=lambda name, i=i: float(flips[name][i]))  # type: ignore[misc]
            found.append(Misfit(indices[i], name))
        elif count >= _FEWEST and standardised(own)[i] < UNRELATED:
            found.append(Misfit(indices[i]))
    return found


def _fit_each(pictures: NDArray, masks: NDArray) -> NDArray[np.float32]:
    """How well each picture's own mask fits it."""
    return np.array(
        [
            np.dot(picture.astype(np.float32), mask.ravel().astype(np.float32))
            for picture, mask in zip(pictures, masks, strict=True)
        ],
        np.float32,
    )


def _flipped(masks: NDArray, how: tuple[slice, slice]) -> NDArray:
    flipped = masks[:, how[0], how[1]].copy()
    if how[0] != how[1]:
        flipped[..., 1] *= -1  # one axis turned: xy changes its sign
    return flipped


def _fit_of_others(
    pictures: NDArray, masks: NDArray
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and standard deviation of how other masks of the set, flipped too, fit each picture."""
    count = len(masks)
    chosen = np.unique(np.linspace(0, count - 1, min(count, _COMPARED)).round().astype(int))
    whole = (slice(None), slice(None))
    variants = [_flipped(masks[chosen], how) for how in (whole, *_FLIPS.values())]
    compared = np.stack(variants, axis=1).reshape(len(chosen), len(variants), -1)
    compared = compared.astype(np.float32)
    mean, deviation = np.empty(count, np.float32), np.empty(count, np.float32)
    for i, picture in enumerate(pictures):
        fits = np.sort((compared @ picture.astype(np.float32))[chosen != i], axis=None)
        fits = fits[:-1]  # the best may be the picture's own mask in another's place
        mean[i], deviation[i] = fits.mean(), max(float(fits.std()), 1e-6)
    return mean, deviation


def _fit_of_foreign(
    pictures: NDArray, masks: NDArray, own: NDArray[np.float32], suspects: NDArray[np.intp]
) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """The pair whose mask belongs to each picture, and how well it fits; 0 where there is none."""
    others, foreign = np.zeros(len(own), np.intp), np.zeros(len(own), np.float32)
    theirs = masks.reshape(len(masks), -1)[suspects].astype(np.float32)
    for row, i in enumerate(suspects):
        fits = theirs @ pictures[i].astype(np.float32)
        gain = fits / np.maximum(np.maximum(own[suspects], own[i]), 1e-6)
        gain[row] = 0
        best = int(gain.argmax())
        if gain[best] > FOREIGN:
            others[i], foreign[i] = suspects[best], fits[best]
    return others, foreign
