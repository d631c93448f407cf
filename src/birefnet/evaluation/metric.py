"""A metric: a pure function on a pair, with its name, symbol and direction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from birefnet.evaluation.pair import Pair

Value = TypeVar("Value")


@dataclass(frozen=True)
class Metric(Generic[Value]):
    """A pure function on a prediction and a ground truth (uint8, H x W, same size).

    Call it with the arrays, or with a ``Pair`` through ``of`` to share work with others. The trimap
    (128 = unknown) narrows matting metrics and is ignored by the rest.

    Attributes:
        name: the key in results, such as ``s_measure``.
        symbol: the short column title, such as ``S``.
        higher_is_better: the direction.
        of: the function on a ``Pair``.
        doc: formula and source.
    """

    name: str
    symbol: str
    higher_is_better: bool
    of: Callable[[Pair], Value]
    doc: str

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
    """Make a ``Metric`` from a function on a ``Pair``; its docstring becomes ``doc``."""

    def wrap(function: Callable[[Pair], Value]) -> Metric[Value]:
        return Metric(
            name=function.__name__,
            symbol=symbol,
            higher_is_better=higher_is_better,
            of=function,
            doc=function.__doc__ or "",
        )

    return wrap
