"""Means over a data set in constant memory, merged exactly whatever the order."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from birefnet.errors import BiRefNetError
from birefnet.evaluation.columns import Measurement, Thresholds

_SHIFT = 1126  # brings the smallest subnormal, 2^-1074 with a 53-bit significand, to an integer


class ExactSum:
    """The exact sum of float64 arrays of one shape, held as integers.

    Floating-point sums depend on their order; these do not, so that any split over workers or
    ranks gives the same last bit. Every finite float64 is a whole multiple of 2^-1126.
    """

    def __init__(self) -> None:
        self._total: NDArray[np.object_] | int = 0  # Python integers of any size

    def add(self, values: ArrayLike) -> None:
        """Add finite numbers; all calls need the same shape."""
        significand, exponent = np.frexp(np.asarray(values, dtype=np.float64))
        # Through lists, because NumPy would keep its 64-bit integers in an object array.
        whole = np.array(np.ldexp(significand, 53).astype(np.int64).tolist(), dtype=object)
        shift = np.array((exponent + (_SHIFT - 53)).tolist(), dtype=object)
        self._total = self._total + (whole << shift)

    def merge(self, other: ExactSum) -> None:
        """Add another sum."""
        self._total = self._total + other._total

    def mean(self, count: int) -> NDArray[np.float64]:
        """The sum divided by ``count``, rounded once."""
        return np.asarray(self._total / (count << _SHIFT), dtype=np.float64)


class Accumulator:
    """Streams measurements of pairs into the means of a data set.

    Values are averaged over pairs. Curves are averaged first, and the maximum is that of the mean
    curve: the best threshold for the whole data set, as in the paper (section 4.2).
    """

    def __init__(self) -> None:
        self.count = 0
        self._values: dict[str, ExactSum] = {}
        self._curves: dict[str, ExactSum] = {}

    def add(self, measurement: Measurement) -> None:
        """Add one pair; every pair must measure the same."""
        if self.count == 0:
            self._values = {name: ExactSum() for name in measurement.values}
            self._curves = {name: ExactSum() for name in measurement.curves}
        self._check(measurement.values, measurement.curves)
        for name, value in measurement.values.items():
            self._values[name].add(value)
        for name, curve in measurement.curves.items():
            self._curves[name].add(curve)
        self.count += 1

    def merge(self, other: Accumulator) -> None:
        """Add what another accumulator saw; the result does not depend on the order."""
        if other.count == 0:
            return
        if self.count == 0:
            self._values = {name: ExactSum() for name in other._values}
            self._curves = {name: ExactSum() for name in other._curves}
        self._check(other._values, other._curves)
        for name, total in other._values.items():
            self._values[name].merge(total)
        for name, total in other._curves.items():
            self._curves[name].merge(total)
        self.count += other.count

    def _check(self, values: Iterable[str], curves: Iterable[str]) -> None:
        ours, theirs = {*self._values, *self._curves}, {*values, *curves}
        if ours != theirs:
            raise BiRefNetError(
                f"measurements of {sorted(theirs)} came after measurements of {sorted(ours)}; "
                "accumulate the same metrics for every pair"
            )

    def mean(self) -> Measurement:
        """The data set's mean values and mean curves.

        Raises:
            BiRefNetError: if no pair was added.
        """
        if self.count == 0:
            raise BiRefNetError("no pair was evaluated, so there is no mean; add pairs first")
        return Measurement(
            {name: float(total.mean(self.count)) for name, total in self._values.items()},
            {name: total.mean(self.count) for name, total in self._curves.items()},
        )

    def result(
        self, names: Iterable[str], thresholds: Thresholds | None = None
    ) -> dict[str, float]:
        """The data set's numbers by column name."""
        return self.mean().columns(names, thresholds)
