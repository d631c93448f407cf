"""The metrics by name, and their columns in tables: a value, or the mean or maximum of a curve."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from birefnet.errors import UsageError
from birefnet.evaluation import boundary, correction, matting, region, weighted
from birefnet.evaluation.pair import Metric, Pair

Curve = NDArray[np.float64]
Statistic = Literal["value", "mean", "max"]

VALUES: dict[str, Metric[float]] = {
    "s_measure": region.s_measure,
    "e_measure_adaptive": region.e_measure_adaptive,
    "f_measure_adaptive": region.f_measure_adaptive,
    "weighted_f_measure": weighted.weighted_f_measure,
    "mae": region.mae,
    "mse": region.mse,
    "mean_boundary_accuracy": boundary.mean_boundary_accuracy,
    "hce": correction.hce,
    "iou": region.iou,
    "dice": region.dice,
    "ber": region.ber,
    "sad": matting.sad,
    "matte_mae": matting.matte_mae,
    "matte_mse": matting.matte_mse,
    "gradient": matting.gradient_error,
    "connectivity": matting.connectivity_error,
}

CURVES: dict[str, Metric[Curve]] = {
    "e_measure": region.e_measure_curve,
    "f_measure": region.f_measure_curve,
    "boundary_iou": boundary.boundary_iou_curve,
}


@dataclass(frozen=True)
class Column:
    """One number of the results.

    Attributes:
        name: the key in results.
        title: the head of the column in tables.
        source: the key in ``VALUES`` or ``CURVES``.
        statistic: the value itself, or the mean or maximum of the curve.
        higher_is_better: the direction.
        digits: decimals to print.
    """

    name: str
    title: str
    source: str
    statistic: Statistic
    higher_is_better: bool
    digits: int = 3


def _columns() -> dict[str, Column]:
    columns = [
        Column(name, made.symbol, name, "value", made.higher_is_better)
        for name, made in VALUES.items()
    ]
    symbols = {"e_measure": "E", "f_measure": "F", "boundary_iou": "BIoU"}
    statistics: tuple[tuple[Statistic, str], ...] = (("mean", "m"), ("max", "x"))
    columns += [
        Column(f"{name}_{statistic}", symbols[name] + mark, name, statistic, made.higher_is_better)
        for name, made in CURVES.items()
        for statistic, mark in statistics
    ]
    digits = {"hce": 0, "sad": 2, "gradient": 2, "connectivity": 2, "matte_mse": 5, "matte_mae": 4}
    return {
        column.name: replace(column, digits=digits.get(column.name, column.digits))
        for column in columns
    }


COLUMNS: dict[str, Column] = _columns()

MATTING = ("sad", "matte_mae", "matte_mse", "gradient", "connectivity")
SEGMENTATION = (
    "s_measure",
    "e_measure_mean",
    "e_measure_max",
    "e_measure_adaptive",
    "f_measure_mean",
    "f_measure_max",
    "f_measure_adaptive",
    "weighted_f_measure",
    "mae",
    "mse",
    "mean_boundary_accuracy",
    "boundary_iou_mean",
    "boundary_iou_max",
    "iou",
    "dice",
    "ber",
    "hce",
)

GROUPS: dict[str, tuple[str, ...]] = {
    "segmentation": SEGMENTATION,
    "matting": MATTING,
    "all": SEGMENTATION + MATTING,
    # The order of the columns in the paper's Tables 4, 5 and 6, and of the portrait model's card.
    "dis": (
        "f_measure_max",
        "weighted_f_measure",
        "mae",
        "s_measure",
        "e_measure_mean",
        "hce",
    ),
    "hrsod": ("s_measure", "f_measure_max", "e_measure_mean", "mae"),
    "cod": (
        "s_measure",
        "weighted_f_measure",
        "f_measure_mean",
        "e_measure_mean",
        "e_measure_max",
        "mae",
    ),
    "portrait": (
        "s_measure",
        "f_measure_max",
        "e_measure_mean",
        "mae",
        "e_measure_max",
        "f_measure_mean",
        "weighted_f_measure",
        *MATTING,
    ),
}


def resolve(names: str | Iterable[str]) -> tuple[str, ...]:
    """Turn names of columns and groups into names of columns, in order, each once.

    Raises:
        BiRefNetError: for an unknown name; the message lists those that exist.
    """
    requested = [names] if isinstance(names, str) else list(names)
    resolved: dict[str, None] = {}
    for name in requested:
        if name in GROUPS:
            resolved.update(dict.fromkeys(GROUPS[name]))
        elif name in COLUMNS:
            resolved[name] = None
        else:
            raise UsageError(
                f"there is no metric '{name}'; take groups ({', '.join(GROUPS)}) or names "
                f"({', '.join(COLUMNS)})"
            )
    return tuple(resolved)


@dataclass(frozen=True)
class Thresholds:
    """The thresholds (grey levels) over which the mean and maximum of a curve are taken.

    Raises:
        BiRefNetError: for none, or any outside 0..255.
    """

    levels: tuple[int, ...] = tuple(range(256))

    def __post_init__(self) -> None:
        if not self.levels or min(self.levels) < 0 or max(self.levels) > 255:
            raise UsageError(
                f"thresholds came as {list(self.levels)}; give at least one from 0 to 255"
            )

    @classmethod
    def parse(cls, text: str) -> Thresholds:
        """Read ``all`` (0..255, the papers' set), ``tenths`` (0.1 .. 0.9) or ``0.3,0.5,0.7``.

        A pixel counts as object where its level is at least 255 times the threshold.
        """
        if text == "all":
            return cls()
        try:
            numbers = ".1,.2,.3,.4,.5,.6,.7,.8,.9" if text == "tenths" else text
            values = [float(part) for part in numbers.split(",")]
            if not all(0 <= value <= 1 for value in values):
                raise ValueError
        except ValueError as error:
            raise UsageError(
                f"the threshold set came as '{text}'; give all, tenths, or numbers from 0 to 1 "
                "separated by commas"
            ) from error
        return cls(tuple(int(np.ceil(value * 255 - 1e-9)) for value in values))

    def summarise(self, curve: Curve, statistic: Statistic) -> float:
        """Return the mean or maximum of a curve (256) over these thresholds."""
        chosen = curve[list(self.levels)]
        return float(chosen.mean() if statistic == "mean" else chosen.max())


@dataclass
class Measurement:
    """The measurements of one pair: values, and curves of 256 thresholds."""

    values: dict[str, float] = field(default_factory=dict)
    curves: dict[str, Curve] = field(default_factory=dict)

    def column(self, name: str, thresholds: Thresholds) -> float:
        """The number for a column of the results."""
        column = COLUMNS[name]
        if column.statistic == "value":
            return self.values[column.source]
        return thresholds.summarise(self.curves[column.source], column.statistic)

    def columns(
        self, names: Iterable[str], thresholds: Thresholds | None = None
    ) -> dict[str, float]:
        """The numbers for several columns, by name."""
        return {name: self.column(name, thresholds or Thresholds()) for name in names}


def measure(pair: Pair, names: Iterable[str], *, precision_recall: bool = False) -> Measurement:
    """Measure what the named columns need, each source once."""
    result = Measurement()
    for source in dict.fromkeys(COLUMNS[name].source for name in names):
        if source in VALUES:
            result.values[source] = VALUES[source].of(pair)
        else:
            result.curves[source] = CURVES[source].of(pair)
    if precision_recall:
        result.curves["precision"], result.curves["recall"] = region.precision_recall.of(pair)
    return result
