"""Is one method better than another? Paired bootstrap over the pictures of a data set."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from birefnet.errors import BiRefNetError
from birefnet.evaluation.columns import COLUMNS
from birefnet.evaluation.dataset import SetResult

_BATCH = 100  # resamples at a time, to bound memory


@dataclass(frozen=True)
class Difference:
    """How much a method's number exceeds another's on the same pictures.

    Attributes:
        column: name of the column.
        value: first minus second, on the data set itself.
        low, high: the interval that holds the difference with this ``confidence``.
    """

    column: str
    value: float
    low: float
    high: float
    confidence: float

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves out 0."""
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

    Both methods are resampled alike (Efron and Tibshirani, 1993, chapter 13). The maximum of a
    curve is taken anew in every resample, which needs ``keep_curves`` in ``evaluate_folder``.

    Raises:
        BiRefNetError: if the two were not evaluated on the same pictures and columns.
    """
    names = [[image.files.name for image in result.images] for result in (first, second)]
    if names[0] != names[1]:
        raise BiRefNetError(
            f"'{first.method}' and '{second.method}' were evaluated on different pictures; "
            "compare them on the same truths"
        )
    one, other = _statistic_source(first, column), _statistic_source(second, column)
    count = len(names[0])
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
    return Difference(
        column, first.values[column] - second.values[column], float(low), float(high), confidence
    )


def _statistic_source(result: SetResult, column: str) -> NDArray[np.float64]:
    """What is averaged over pictures: values (N x 1), or curves (N x 256) for a maximum."""
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
