"""Exact and fast evaluation of masks and mattes: numpy and OpenCV only, no torch.

>>> import numpy as np
>>> truth = np.zeros((64, 64), np.uint8)
>>> truth[16:48, 16:48] = 255
>>> evaluate_pair(truth, truth)["mae"]
0.0
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from birefnet.evaluation.accumulate import Accumulator, ExactSum
from birefnet.evaluation.boundary import boundary_iou_curve, mean_boundary_accuracy
from birefnet.evaluation.columns import (
    COLUMNS,
    GROUPS,
    Measurement,
    Thresholds,
    measure,
    resolve,
)
from birefnet.evaluation.correction import HceParts, hce, hce_parts
from birefnet.evaluation.matting import (
    connectivity_error,
    gradient_error,
    matte_mae,
    matte_mse,
    sad,
)
from birefnet.evaluation.pair import Pair
from birefnet.evaluation.region import (
    ber,
    dice,
    e_measure_adaptive,
    e_measure_curve,
    f_measure_adaptive,
    f_measure_curve,
    iou,
    mae,
    mse,
    precision_recall,
    s_measure,
)
from birefnet.evaluation.skeleton import skeletonize
from birefnet.evaluation.weighted import weighted_f_measure

__all__ = [
    "COLUMNS",
    "GROUPS",
    "Accumulator",
    "ExactSum",
    "HceParts",
    "Measurement",
    "Pair",
    "Thresholds",
    "ber",
    "boundary_iou_curve",
    "connectivity_error",
    "dice",
    "e_measure_adaptive",
    "e_measure_curve",
    "evaluate_pair",
    "f_measure_adaptive",
    "f_measure_curve",
    "gradient_error",
    "hce",
    "hce_parts",
    "iou",
    "mae",
    "matte_mae",
    "matte_mse",
    "mean_boundary_accuracy",
    "measure",
    "mse",
    "precision_recall",
    "resolve",
    "s_measure",
    "sad",
    "skeletonize",
    "weighted_f_measure",
]

_HCE_PARTS = "hce_parts_fp_points_fp_regions_fn_points_fn_regions"


def evaluate_pair(
    prediction: NDArray[np.uint8],
    truth: NDArray[np.uint8],
    *,
    metrics: str | Iterable[str] = "all",
    trimap: NDArray[np.uint8] | None = None,
    thresholds: Thresholds | None = None,
) -> dict[str, float | list[float]]:
    """Evaluate one prediction (uint8, H x W) against its ground truth (uint8, H x W).

    Args:
        metrics: names of columns and groups: ``all``, ``segmentation``, ``matting`` …
        trimap: uint8, 128 = unknown: narrows the matting metrics.
        thresholds: over which the mean and maximum of curves are taken; all 256 if None.

    Returns:
        Every number by name; with ``hce`` also its four counts as a list.

    Raises:
        ImageError: for arrays that are not uint8 H x W of the same size.
    """
    names = resolve(metrics)
    pair = Pair(prediction, truth, trimap)
    parts = hce_parts.of(pair) if "hce" in names else None
    measured = measure(pair, [name for name in names if name != "hce"])
    if parts is not None:
        measured.values["hce"] = float(sum(parts))
    result: dict[str, float | list[float]] = {**measured.columns(names, thresholds)}
    if parts is not None:
        result[_HCE_PARTS] = list(parts)
    return result
