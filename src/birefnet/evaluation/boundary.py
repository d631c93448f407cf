"""How well the boundary is met: mean boundary accuracy and boundary IoU."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from birefnet.evaluation import bits
from birefnet.evaluation.pair import Pair, count_levels, counts_above, metric

_BANDS = 5
_LARGEST_PACKED_RADIUS = 63
DILATION_RATIO = 0.02
"""Width of the boundary band of boundary IoU, as a share of the picture's diagonal."""


@metric("mBA", higher_is_better=True)
def mean_boundary_accuracy(pair: Pair) -> float:
    """Mean boundary accuracy in [0, 1] (Cheng et al., CascadePSP, CVPR 2020).

    The share of correct pixels (both thresholded at 128) within a band about the ground truth's
    boundary, averaged over five widths up to (H + W) / 300. Where the ground truth has no boundary
    (empty or full) the published program divides by zero; here the band is then the whole picture.
    """
    if pair.object_pixels in (0, pair.size):
        true_positives, _, _, true_negatives = pair.confusion
        return (true_positives + true_negatives) / pair.size
    largest = (pair.width + pair.height) / 300
    radii = [1 + int((largest - 1) / _BANDS * step) for step in range(_BANDS)]
    inside = bits.valid(pair.height, pair.width)
    mask = bits.pack(pair.mask)
    right = ~(mask ^ bits.pack(pair.decision)) & inside
    unique = sorted({radius for radius in radii if radius <= _LARGEST_PACKED_RADIUS})
    near_object = bits.dilate_ellipses(mask, inside, unique)
    near_ground = bits.dilate_ellipses(~mask & inside, inside, unique)
    accuracy = {}
    for radius, a, b in zip(unique, near_object, near_ground, strict=True):
        band = a & b
        accuracy[radius] = _count(band & right) / _count(band)
    for radius in set(radii) - set(unique):
        accuracy[radius] = _accuracy_by_kernel(pair, radius)
    return sum(accuracy[radius] for radius in radii) / _BANDS


def _count(words: bits.Words) -> int:
    return cv2.countNonZero(bits.unpack(words, words.shape[1] * 64))


def _accuracy_by_kernel(pair: Pair, radius: int) -> float:
    """One band by OpenCV's own morphology: for pictures beyond 9,000 pixels a side."""
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    band = np.asarray(cv2.morphologyEx(pair.mask, cv2.MORPH_GRADIENT, kernel), dtype=np.uint8)
    wrong = cv2.countNonZero(band & (pair.mask ^ pair.decision))
    return 1 - wrong / cv2.countNonZero(band)


@metric("BIoU curve", higher_is_better=True)
def boundary_iou_curve(pair: Pair) -> NDArray[np.float64]:
    """Boundary IoU at each threshold 0..255 (Cheng et al., CVPR 2021), as BiRefNet counts it.

    The band of the ground truth is what an erosion of 2 % of the diagonal takes away. The band of
    the grey prediction is P minus its grey erosion, and that difference is thresholded; the paper
    thresholds P first.
    """
    distance = max(1, round(DILATION_RATIO * math.hypot(pair.height, pair.width)))
    truth_band = _inner_band(pair.mask, distance)
    stretched = np.asarray(cv2.LUT(pair.prediction, pair.quantised), dtype=np.uint8)
    prediction_band = _inner_band(stretched, distance)
    outside, inside = counts_above(count_levels(prediction_band, truth_band))
    return inside / (max(cv2.countNonZero(truth_band), 1) + outside)


def _inner_band(image: NDArray[np.uint8], distance: int) -> NDArray[np.uint8]:
    """Subtract from an image its erosion by a square of 2 x distance + 1; outside counts as 0."""
    length = 2 * distance + 1
    minimum = _running_minimum(np.pad(image, distance), length)
    return image - _running_minimum(minimum.T, length).T


def _running_minimum(image: NDArray[np.uint8], length: int) -> NDArray[np.uint8]:
    """Minimum over ``length`` rows at each row where the window fits, by doubling the window."""
    covered = 1
    while covered < length:
        step = min(covered, length - covered)
        image = np.minimum(image[:-step], image[step:])
        covered += step
    return image
