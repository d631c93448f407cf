"""Metrics that follow from counts alone: errors, F-, E- and S-measure, overlaps.

A prediction has 256 grey levels, so the counts by truth, quadrant and level hold all that these
metrics ask for; after one pass over the pixels each costs microseconds.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from birefnet.evaluation.pair import EPSILON, Pair, metric

BETA_SQUARED = 0.3
"""Weight of precision against recall in the F-measure (Achanta et al., CVPR 2009)."""

Curve = NDArray[np.float64]


@metric("MAE", higher_is_better=False)
def mae(pair: Pair) -> float:
    """Mean absolute error in [0, 1] between the stretched prediction and the binary ground truth.

    mean |P - G| (Perazzi et al., CVPR 2012). See ``matting.matte_mae`` for soft ground truth.
    """
    return float(pair.histogram[0] @ pair.levels + pair.histogram[1] @ (1 - pair.levels)) / (
        pair.size
    )


@metric("MSE", higher_is_better=False)
def mse(pair: Pair) -> float:
    """Mean squared error in [0, 1] between the stretched prediction and the binary ground truth."""
    squares = pair.histogram[0] @ pair.levels**2 + pair.histogram[1] @ (1 - pair.levels) ** 2
    return float(squares) / pair.size


@metric("precision, recall", higher_is_better=True)
def precision_recall(pair: Pair) -> tuple[Curve, Curve]:
    """Precision and recall at each threshold 0..255 (P >= threshold), two curves of 256.

    No positive pixel gives precision 0; an empty ground truth gives recall 0.
    """
    outside, inside = pair.positives
    return inside / np.maximum(outside + inside, 1), inside / max(pair.object_pixels, 1)


@metric("F curve", higher_is_better=True)
def f_measure_curve(pair: Pair) -> Curve:
    """F-measure at each threshold 0..255.

    (1 + b) P R / (b P + R) with b = beta squared = 0.3 (Achanta et al., CVPR 2009); 0 where P R
    is 0.
    """
    precision, recall = precision_recall.of(pair)
    numerator = (1 + BETA_SQUARED) * precision * recall
    return numerator / np.where(numerator == 0, 1, BETA_SQUARED * precision + recall)


@metric("Fa", higher_is_better=True)
def f_measure_adaptive(pair: Pair) -> float:
    """F-measure at the adaptive threshold, twice the mean of the prediction, at most 1."""
    outside, inside = pair.adaptive_positives
    if inside == 0:
        return 0.0
    precision, recall = inside / (outside + inside), inside / pair.object_pixels
    return (1 + BETA_SQUARED) * precision * recall / (BETA_SQUARED * precision + recall)


def _enhanced_alignment(outside: Curve, inside: Curve, pair: Pair) -> Curve:
    """E-measure of binary maps that have these many positives outside and inside the object."""
    predicted = outside + inside
    if pair.object_pixels == 0:
        total = pair.size - predicted
    elif pair.object_pixels == pair.size:
        total = predicted
    else:
        mean_prediction = predicted / pair.size
        mean_truth = pair.object_pixels / pair.size
        missed = pair.object_pixels - inside
        total = np.zeros_like(predicted)
        for count, p, g in (
            (inside, 1, 1),
            (outside, 1, 0),
            (missed, 0, 1),
            (pair.size - predicted - missed, 0, 0),
        ):
            a, b = p - mean_prediction, g - mean_truth
            alignment = 2 * a * b / (a * a + b * b + EPSILON)
            total = total + count * (alignment + 1) ** 2 / 4
    # The original divides by N - 1, so that a perfect map scores slightly above 1.
    return total / max(pair.size - 1, 1)


@metric("E curve", higher_is_better=True)
def e_measure_curve(pair: Pair) -> Curve:
    """Enhanced-alignment measure at each threshold 0..255 (Fan et al., IJCAI 2018).

    sum((f + 1)^2 / 4) / (N - 1), f = 2ab / (a^2 + b^2) of the two maps without their means.
    For an empty (full) truth, the share of pixels predicted empty (full).
    """
    outside, inside = pair.positives.astype(np.float64)
    return _enhanced_alignment(outside, inside, pair)


@metric("Ea", higher_is_better=True)
def e_measure_adaptive(pair: Pair) -> float:
    """E-measure at the adaptive threshold, twice the mean of the prediction, at most 1."""
    outside, inside = np.array(pair.adaptive_positives, dtype=np.float64)[:, None]
    return float(_enhanced_alignment(outside, inside, pair)[0])


@metric("S", higher_is_better=True)
def s_measure(pair: Pair) -> float:
    """Structure measure, (object-aware + region-aware) / 2 (Fan et al., ICCV 2017), in [0, 1].

    An empty ground truth gives 1 - mean(P), a full one mean(P). Where the published program has no
    number (an object or a quadrant of a single pixel, an empty quadrant) the value is 0, as there.
    """
    if pair.object_pixels in (0, pair.size):
        mean = float(pair.histogram.sum(axis=0) @ pair.levels) / pair.size
        return mean if pair.object_pixels else 1 - mean
    share = pair.object_pixels / pair.size
    object_part = share * _object_similarity(pair.histogram[1], pair.levels) + (
        1 - share
    ) * _object_similarity(pair.histogram[0], 1 - pair.levels)
    weights = pair.quadrant_counts.sum(axis=(1, 2)) / pair.size
    region_part = sum(
        weight * _similarity(counts, pair.levels)
        for weight, counts in zip(weights, pair.quadrant_counts, strict=True)
    )
    value = 0.5 * object_part + 0.5 * region_part
    return max(0.0, float(value)) if math.isfinite(value) else 0.0


def _object_similarity(counts: NDArray[np.int64], values: Curve) -> float:
    """2x / (x^2 + 1 + s) of the mean x and sample deviation s of the values; Eq. 6."""
    number = int(counts.sum())
    if number < 2:
        return math.nan
    mean = float(counts @ values) / number
    deviation = math.sqrt(float(counts @ (values - mean) ** 2) / (number - 1))
    return 2 * mean / (mean * mean + 1 + deviation + EPSILON)


def _similarity(counts: NDArray[np.int64], values: Curve) -> float:
    """Structural similarity of prediction and truth in one quadrant (2 x 256 counts)."""
    number = int(counts.sum())
    if number < 2:
        return math.nan
    by_level = counts.sum(axis=0)
    x = float(by_level @ values) / number
    y = int(counts[1].sum()) / number
    if np.count_nonzero(by_level) == 1:
        # Exactly constant: the mean must not carry a rounding error into the variance.
        x = float(values[np.argmax(by_level)])
    variance_x = float(by_level @ (values - x) ** 2) / (number - 1)
    variance_y = (int(counts[0].sum()) * y * y + int(counts[1].sum()) * (1 - y) ** 2) / (number - 1)
    covariance = float(counts[0] @ (values - x) * -y + counts[1] @ (values - x) * (1 - y)) / (
        number - 1
    )
    alpha = 4 * x * y * covariance
    beta = (x * x + y * y) * (variance_x + variance_y)
    if alpha != 0:
        return alpha / (beta + EPSILON)
    return 1.0 if beta == 0 else 0.0


@metric("IoU", higher_is_better=True)
def iou(pair: Pair) -> float:
    """Intersection over union of prediction > 128 and truth > 128; 1 if both are empty."""
    true_positives, false_positives, false_negatives, _ = pair.confusion
    union = true_positives + false_positives + false_negatives
    return true_positives / union if union else 1.0


@metric("Dice", higher_is_better=True)
def dice(pair: Pair) -> float:
    """Dice coefficient 2 TP / (2 TP + FP + FN) at 128; 1 if prediction and truth are empty."""
    true_positives, false_positives, false_negatives, _ = pair.confusion
    total = 2 * true_positives + false_positives + false_negatives
    return 2 * true_positives / total if total else 1.0


@metric("BER", higher_is_better=False)
def ber(pair: Pair) -> float:
    """Balanced error rate in [0, 1] at 128: the mean of the error rates of the two classes.

    1 - (TP / (TP + FN) + TN / (TN + FP)) / 2 (Vicente et al., ECCV 2016, there in percent). A
    class that the ground truth does not have is left out.
    """
    true_positives, false_positives, false_negatives, true_negatives = pair.confusion
    rates = [
        wrong / (right + wrong)
        for right, wrong in ((true_positives, false_negatives), (true_negatives, false_positives))
        if right + wrong
    ]
    return sum(rates) / len(rates)
