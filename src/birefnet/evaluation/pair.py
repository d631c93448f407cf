"""One prediction and its ground truth, and a metric: a pure function on such a pair.

Values that several metrics need are computed once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from birefnet.errors import ImageError

Value = TypeVar("Value")

EPSILON = float(np.spacing(1))
"""2.2e-16, the guard that the original MATLAB programs add to denominators."""

THRESHOLD = 128
"""A pixel belongs to the object where its level is above this one."""

_LARGEST_EXACT_COUNT = 1 << 24  # cv2.calcHist returns float32, exact for integers up to here


class Pair:
    """A prediction and a ground truth of the same size; every derived value is computed on first
    use.

    Args:
        prediction: uint8, H x W, 0 (background) to 255 (object).
        truth: uint8, H x W; binary metrics take levels above 128 as the object.
        trimap: uint8, H x W, 128 = unknown region of the matting metrics. None: everywhere.

    Raises:
        ImageError: for another type, a colour picture, different sizes or an empty picture.
    """

    def __init__(
        self,
        prediction: NDArray[np.uint8],
        truth: NDArray[np.uint8],
        trimap: NDArray[np.uint8] | None = None,
    ) -> None:
        named = {"prediction": prediction, "truth": truth, "trimap": trimap}
        for name, array in named.items():
            if array is None:
                continue
            if array.dtype != np.uint8 or array.ndim != 2:
                raise ImageError(
                    f"the {name} is {array.dtype} with shape {array.shape}; pass uint8 H x W "
                    "levels from 0 to 255"
                )
            if array.shape != truth.shape:
                raise ImageError(
                    f"the {name} is {array.shape[1]} x {array.shape[0]}, but the ground truth is "
                    f"{truth.shape[1]} x {truth.shape[0]}; resize the {name} first"
                )
        if prediction.size == 0:
            raise ImageError("the pair has no pixels; pass pictures of at least 1 x 1")
        self.prediction = np.ascontiguousarray(prediction)
        self.truth = np.ascontiguousarray(truth)
        self.trimap = trimap
        self.height, self.width = prediction.shape
        self.size = prediction.size

    @cached_property
    def mask(self) -> NDArray[np.uint8]:
        """The ground truth as 0 and 1."""
        return binarise(self.truth)

    @cached_property
    def decision(self) -> NDArray[np.uint8]:
        """The prediction thresholded at 128, as 0 and 1, without the stretch of ``levels``."""
        return binarise(self.prediction)

    @cached_property
    def object_pixels(self) -> int:
        """Pixels of the object in the ground truth."""
        return int(cv2.countNonZero(self.mask))

    @cached_property
    def levels(self) -> NDArray[np.float64]:
        """The value in [0, 1] that each of the 256 grey levels stands for.

        As in the MATLAB programs (``mapminmax``), the prediction is stretched to its own minimum
        and maximum; a constant prediction keeps its value.
        """
        used = np.flatnonzero(self.histogram.sum(axis=0))
        values = np.arange(256) / 255
        low, high = values[used[0]], values[used[-1]]
        if low != high:
            values = (values - low) / (high - low)
        return np.clip(values, 0.0, 1.0)

    @cached_property
    def quantised(self) -> NDArray[np.uint8]:
        """``levels`` cut down to 0..255 again, which the threshold curves are counted on."""
        return (self.levels * 255).astype(np.uint8)

    @cached_property
    def centroid(self) -> tuple[int, int]:
        """Row and column that split the picture at the object's centre, each at least 1.

        One past the rounded mean position, as MATLAB's ``1:X`` includes X.
        """
        if self.object_pixels == 0:
            return round(self.height / 2) + 1, round(self.width / 2) + 1
        rows = cv2.reduce(self.mask, 1, cv2.REDUCE_SUM, dtype=cv2.CV_32S).ravel().astype(np.int64)
        columns = cv2.reduce(self.mask, 0, cv2.REDUCE_SUM, dtype=cv2.CV_32S).ravel()
        row = int(rows @ np.arange(self.height)) / self.object_pixels
        column = int(columns.astype(np.int64) @ np.arange(self.width)) / self.object_pixels
        return round(row) + 1, round(column) + 1

    @cached_property
    def quadrant_counts(self) -> NDArray[np.int64]:
        """Pixels by quadrant about the centroid, truth (0, 1) and grey level: 4 x 2 x 256.

        Quadrants in the order top left, top right, bottom left, bottom right.
        """
        row, column = self.centroid
        counts = np.zeros((4, 2, 256), dtype=np.int64)
        for index, (rows, columns) in enumerate(
            (r, c)
            for r in (slice(0, row), slice(row, None))
            for c in (slice(0, column), slice(column, None))
        ):
            prediction, mask = self.prediction[rows, columns], self.mask[rows, columns]
            if prediction.size:
                counts[index] = count_levels(prediction, mask)
        return counts

    @cached_property
    def histogram(self) -> NDArray[np.int64]:
        """Pixels by truth (0, 1) and grey level of the prediction: 2 x 256."""
        return self.quadrant_counts.sum(axis=0)

    @cached_property
    def positives(self) -> NDArray[np.int64]:
        """Pixels at or above each threshold 0..255 of ``quantised``, by truth (0, 1): 2 x 256."""
        return counts_above(
            np.stack(
                [np.bincount(self.quantised, weights=row, minlength=256) for row in self.histogram]
            ).astype(np.int64)
        )

    @cached_property
    def adaptive_positives(self) -> tuple[int, int]:
        """Pixels at or above min(2 x mean, 1): those outside and those inside the object."""
        mean = float(self.histogram.sum(axis=0) @ self.levels) / self.size
        chosen = self.levels >= min(2 * mean, 1.0)
        outside, inside = self.histogram[:, chosen].sum(axis=1)
        return int(outside), int(inside)

    @cached_property
    def confusion(self) -> tuple[int, int, int, int]:
        """True positives, false positives, false negatives, true negatives at level 128."""
        above = self.histogram[:, THRESHOLD + 1 :].sum(axis=1)
        true_positives, false_positives = int(above[1]), int(above[0])
        false_negatives = self.object_pixels - true_positives
        true_negatives = self.size - true_positives - false_positives - false_negatives
        return true_positives, false_positives, false_negatives, true_negatives


@dataclass(frozen=True)
class Metric(Generic[Value]):
    """A pure function on a prediction and a ground truth (uint8, H x W, same size).

    Call it with the arrays, or with a ``Pair`` through ``of`` to share work with others. The trimap
    (128 = unknown) narrows matting metrics and is ignored by the rest.

    Attributes:
        symbol: the short column title, such as ``S``.
        higher_is_better: the direction.
        of: the function on a ``Pair``; its docstring has formula and source.
    """

    symbol: str
    higher_is_better: bool
    of: Callable[[Pair], Value]

    def __call__(
        self,
        prediction: NDArray[np.uint8],
        truth: NDArray[np.uint8],
        trimap: NDArray[np.uint8] | None = None,
    ) -> Value:
        return self.of(Pair(prediction, truth, trimap))


def metric(
    symbol: str, *, higher_is_better: bool
) -> Callable[[Callable[[Pair], Value]], Metric[Value]]:
    """Make a ``Metric`` from a function on a ``Pair``."""
    return lambda function: Metric(symbol, higher_is_better, function)


def binarise(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Cut an image at 128: 1 where a level is above it, else 0."""
    return np.asarray(cv2.threshold(image, THRESHOLD, 1, cv2.THRESH_BINARY)[1], dtype=np.uint8)


def count_levels(image: NDArray[np.uint8], mask: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Count the grey levels of ``image`` outside and inside ``mask`` (0 and 1): 2 x 256."""
    everything = np.zeros(256, dtype=np.int64)
    inside = np.zeros(256, dtype=np.int64)
    step = max(1, _LARGEST_EXACT_COUNT // image.shape[1])
    for top in range(0, image.shape[0], step):
        rows, where = image[top : top + step], mask[top : top + step]
        everything += cv2.calcHist([rows], [0], None, [256], [0, 256]).ravel().astype(np.int64)
        inside += cv2.calcHist([rows], [0], where, [256], [0, 256]).ravel().astype(np.int64)
    return np.stack([everything - inside, inside])


def counts_above(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Turn counts by level (..., 256) into counts at or above each level."""
    return counts[..., ::-1].cumsum(axis=-1)[..., ::-1]
