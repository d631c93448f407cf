"""Choose the best checkpoint by one metric over several data sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from birefnet.errors import BiRefNetError, UsageError
from birefnet.evaluation.columns import COLUMNS
from birefnet.evaluation.tables import Row


@dataclass(frozen=True)
class Ranked:
    """A method with its numbers by data set and their mean."""

    method: str
    mean: float
    by_set: dict[str, float]


def rank(rows: Sequence[Row], column: str, datasets: Sequence[str] = ()) -> list[Ranked]:
    """Rank methods by the mean of one column over data sets, the best first.

    Args:
        datasets: names; all by default.

    Raises:
        BiRefNetError: if a method lacks a data set or the column, or has a data set twice.
    """
    if column not in COLUMNS:
        raise UsageError(f"there is no metric '{column}'; take one of {', '.join(COLUMNS)}")
    wanted = list(datasets) or list(dict.fromkeys(row.dataset for row in rows))
    numbers: dict[str, dict[str, float]] = {}
    for row in rows:
        if row.dataset not in wanted:
            continue
        by_set = numbers.setdefault(row.method, {})
        if row.dataset in by_set:
            raise BiRefNetError(
                f"'{row.method}' came twice for {row.dataset}; give each result once"
            )
        if column not in row.values:
            raise BiRefNetError(
                f"'{row.method}' was not measured by {column} on {row.dataset}; evaluate it with "
                f"--metrics {column}"
            )
        by_set[row.dataset] = row.values[column]
    if not numbers:
        raise UsageError(f"no result is for {', '.join(wanted) or 'any data set'}; give others")
    for method, by_set in numbers.items():
        lacking = [name for name in wanted if name not in by_set]
        if lacking:
            raise BiRefNetError(
                f"'{method}' was not evaluated on {', '.join(lacking)}; evaluate it there too, or "
                "choose data sets that all have (--set)"
            )
    ranked = [
        Ranked(method, fmean(by_set[name] for name in wanted), {n: by_set[n] for n in wanted})
        for method, by_set in numbers.items()
    ]
    return sorted(ranked, key=lambda one: one.mean, reverse=COLUMNS[column].higher_is_better)
