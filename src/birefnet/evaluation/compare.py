"""Is one method better than another? Paired bootstrap over the pictures of a data set."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from birefnet.errors import BiRefNetError
from birefnet.evaluation.columns import COLUMNS
from birefnet.evaluation.dataset import SetResult

FEWEST = 10
"""The fewest pictures for an interval."""

_BATCH = 100  # resamples at a time, to bound memory


@dataclass(frozen=True)
class Difference:
    """Difference of the scores of two methods on the same pictures.

    Attributes:
        column: name of the column.
        value: first minus second, on the pictures that both have scores for.
        low, high: the interval of the difference with this ``confidence``; NaN for fewer than
            ``FEWEST`` pictures.
        count: number of compared pictures.
    """

    column: str
    value: float
    low: float
    high: float
    confidence: float
    count: int

    @property
    def is_clear(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low > 0 or self.high < 0


def bootstrap(
    first: SetResult,
    second: SetResult,
    column: str,
    *,
    resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Difference:
    """Percentile interval of the difference of two methods under resampling of the pictures.

    Pictures that could not be scored for one of the two are left out. Both methods are resampled
    alike (Efron and Tibshirani, 1993, chapter 13). The maximum of a curve is computed again in
    every resample, which needs ``keep_curves`` in ``evaluate_folder``.

    Raises:
        BiRefNetError: if the two were not evaluated on the same ground truths and columns.
    """
    scored = [{image.files.name for image in result.images} for result in (first, second)]
    if scored[0] | set(first.failed) != scored[1] | set(second.failed):
        raise BiRefNetError(
            f"'{first.method}' and '{second.method}' were evaluated on different pictures; "
            "compare them on the same ground truths"
        )
    shared = scored[0] & scored[1]
    one, other = (
        _statistic_source(result, column)[[image.files.name in shared for image in result.images]]
        for result in (first, second)
    )
    count = len(shared)
    if not shared:
        return Difference(column, np.nan, np.nan, np.nan, confidence, 0)
    value = float(
        _summarise(one.mean(axis=0, keepdims=True), first, column)[0]
        - _summarise(other.mean(axis=0, keepdims=True), second, column)[0]
    )
    if count < FEWEST:
        return Difference(column, value, np.nan, np.nan, confidence, count)
    generator = np.random.default_rng(seed)
    differences = []
    for start in range(0, resamples, _BATCH):
        size = min(_BATCH, resamples - start)
        weights = generator.multinomial(count, np.full(count, 1 / count), size=size) / count
        differences.append(
            _summarise(weights @ one, first, column) - _summarise(weights @ other, second, column)
        )
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.concatenate(differences), [tail, 1 - tail])
    return Difference(column, value, float(low), float(high), confidence, count)


def _statistic_source(result: SetResult, column: str) -> NDArray[np.float64]:
    """The numbers to average over pictures: values (N x 1), or curves (N x 256) for a maximum."""
    if COLUMNS[column].statistic != "max":
        return np.array([[image.values[column]] for image in result.images])
    source = COLUMNS[column].source
    if source not in result.image_curves:
        raise BiRefNetError(
            f"the maximum of {source} needs each picture's curve; evaluate with keep_curves=True"
        )
    return result.image_curves[source]


def _summarise(means: NDArray[np.float64], result: SetResult, column: str) -> NDArray[np.float64]:
    if COLUMNS[column].statistic != "max":
        return means[:, 0]
    return means[:, list(result.thresholds.levels)].max(axis=1)
