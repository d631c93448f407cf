"""Metrics of mattes against soft ground truth, everywhere or within a trimap's unknown region.

Definitions: Rhemann et al., "A perceptually motivated online benchmark for image matting", CVPR
2009. Levels are divided by 255 and never stretched. A trimap without unknown pixels gives 0.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from birefnet.evaluation.pair import Pair, metric

UNKNOWN = 128
"""The level of a trimap's unknown region."""

_THOUSAND = 1000.0  # sums are given in thousands, as is the custom
_GRADIENT_SIGMA = 1.4
_GRADIENT_TAIL = 1e-2  # the Gaussian is cut where its density falls below this
_CONNECTIVITY_STEPS = 10  # of 0.1
_CONNECTIVITY_SLACK = 0.15


def _unknown(pair: Pair) -> NDArray[np.uint8] | None:
    return None if pair.trimap is None else (pair.trimap == UNKNOWN).view(np.uint8)


def _looked_at(pair: Pair) -> int:
    unknown = _unknown(pair)
    return pair.size if unknown is None else cv2.countNonZero(unknown)


@metric("SAD", higher_is_better=False)
def sad(pair: Pair) -> float:
    """Sum of absolute differences of the mattes in [0, 1], in thousands of pixels."""
    return cv2.norm(pair.prediction, pair.truth, cv2.NORM_L1, _unknown(pair)) / 255 / _THOUSAND


@metric("MAE (matte)", higher_is_better=False)
def matte_mae(pair: Pair) -> float:
    """Mean absolute difference of the mattes, in [0, 1]."""
    return sad.of(pair) * _THOUSAND / max(_looked_at(pair), 1)


@metric("MSE (matte)", higher_is_better=False)
def matte_mse(pair: Pair) -> float:
    """Mean squared difference of the mattes, in [0, 1]."""
    squares = cv2.norm(pair.prediction, pair.truth, cv2.NORM_L2SQR, _unknown(pair))
    return squares / 255**2 / max(_looked_at(pair), 1)


@metric("Grad", higher_is_better=False)
def gradient_error(pair: Pair) -> float:
    """Sum of squared differences of the mattes' gradient magnitudes, in thousands.

    Gradients are taken with first derivatives of a Gaussian of sigma 1.4, the picture's edge
    repeated.
    """
    smooth, slope = _gaussian_profiles(_GRADIENT_SIGMA)
    difference = _gradient(pair.prediction, smooth, slope)
    difference -= _gradient(pair.truth, smooth, slope)
    unknown = _unknown(pair)
    if unknown is not None:
        difference *= unknown
    return cv2.norm(difference, cv2.NORM_L2SQR) / _THOUSAND


def _gaussian_profiles(sigma: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A Gaussian and its derivative, scaled so that their outer product has norm 1."""
    density = math.sqrt(2 * math.pi) * sigma
    reach = math.ceil(sigma * math.sqrt(-2 * math.log(density * _GRADIENT_TAIL)))
    position = np.arange(-reach, reach + 1)
    smooth = np.exp(-(position**2) / (2 * sigma**2)) / density
    slope = -position * smooth / sigma**2
    return smooth / np.linalg.norm(smooth), slope / np.linalg.norm(slope)


def _gradient(
    matte: NDArray[np.uint8], smooth: NDArray[np.float64], slope: NDArray[np.float64]
) -> NDArray[np.float32]:
    values = matte.astype(np.float32) / np.float32(255)
    edge = cv2.BORDER_REPLICATE
    across = cv2.sepFilter2D(values, cv2.CV_32F, slope, smooth, borderType=edge)
    down = cv2.sepFilter2D(values, cv2.CV_32F, smooth, slope, borderType=edge)
    return np.asarray(cv2.magnitude(across, down), dtype=np.float32)


@metric("Conn", higher_is_better=False)
def connectivity_error(pair: Pair) -> float:
    """Sum of the differences in connectedness of the mattes, in thousands (step 0.1).

    The source region at level t is the largest 4-connected region where both mattes are at least
    t. A pixel connected up to level l with opacity a has degree 1 - (a - l), or 1 where a - l is
    below 0.15. Thresholds are compared exactly, in steps of 25.5 grey levels.
    """
    both = np.minimum(pair.prediction, pair.truth)
    # How many steps in a row each pixel lies in the source region.
    connected = np.zeros(both.shape, dtype=np.uint8)
    source = np.ones(both.shape, dtype=bool)
    inside = source.copy()
    for step in range(1, _CONNECTIVITY_STEPS + 1):
        level = math.ceil(step * 255 / _CONNECTIVITY_STEPS)
        source = _largest_region((both >= level).view(np.uint8), _brightest(both, source))
        inside &= source
        connected += inside
    differs = pair.prediction != pair.truth
    if pair.trimap is not None:
        differs &= pair.trimap == UNKNOWN
    # Both mattes have 256 levels and the map 11, so a table of degrees replaces the arithmetic.
    levels, steps = np.arange(256)[:, None] / 255, np.arange(_CONNECTIVITY_STEPS + 1)
    opacity = levels - steps / _CONNECTIVITY_STEPS
    degrees = 1 - np.where(opacity >= _CONNECTIVITY_SLACK, opacity, 0)
    reached = connected[differs]
    difference = degrees[pair.prediction[differs], reached] - degrees[pair.truth[differs], reached]
    return float(np.abs(difference).sum()) / _THOUSAND


def _brightest(image: NDArray[np.uint8], where: NDArray[np.bool_]) -> tuple[int, int]:
    """Column and row of a brightest pixel within ``where``, or anywhere if that is empty."""
    mask = where.view(np.uint8) if where.any() else None
    column, row = cv2.minMaxLoc(image, mask)[3]
    return int(column), int(row)


def _largest_region(mask: NDArray[np.uint8], guess: tuple[int, int]) -> NDArray[np.bool_]:
    """The largest 4-connected region of a mask (0 and 1), empty if there is none.

    Args:
        guess: column and row of a pixel that may lie in it; if its region has more than half of
            the pixels, no other can be larger, and the labelling is spared.
    """
    total = cv2.countNonZero(mask)
    if total == 0:
        return mask.view(bool)
    if mask[guess[1], guess[0]]:
        filled = mask.copy()
        if 2 * cv2.floodFill(filled, None, guess, 2, flags=4)[0] > total:
            return filled == 2
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
    return labels == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
