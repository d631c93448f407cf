"""Means over a data set do not depend on how it was split or ordered."""

from __future__ import annotations

import random
from fractions import Fraction

import numpy as np
import pytest

from birefnet.errors import BiRefNetError
from birefnet.evaluation import Accumulator, ExactSum, Measurement, Pair, measure, resolve


def test_sums_are_exact() -> None:
    values = [1e300, 1.0, -1e300, 5e-324, 0.1, -0.0, 2.0**-1060]
    total = ExactSum()
    for value in values:
        total.add(value)
    expected = sum(map(Fraction, values)) / len(values)
    assert total.mean(len(values)) == float(expected)


def test_any_split_and_order_gives_the_same_last_bit() -> None:
    generator = np.random.default_rng(0)
    names = resolve(["s_measure", "mae", "f_measure_max", "boundary_iou_mean", "hce"])
    measured = [
        measure(
            Pair(
                generator.integers(0, 256, (24, 24), np.uint8),
                np.where(generator.random((24, 24)) > 0.5, 255, 0).astype(np.uint8),
            ),
            names,
        )
        for _ in range(20)
    ]
    whole = Accumulator()
    for measurement in measured:
        whole.add(measurement)
    for seed in range(5):
        shuffled = random.Random(seed).sample(measured, len(measured))
        workers = [Accumulator() for _ in range(4)]
        for index, measurement in enumerate(shuffled):
            workers[index * seed % 4].add(measurement)
        merged = Accumulator()
        for worker in reversed(workers):
            merged.merge(worker)
        assert merged.count == 20
        assert merged.result(names) == whole.result(names)


def test_the_best_threshold_is_that_of_the_whole_set() -> None:
    low, high = np.zeros(256), np.zeros(256)
    low[10], high[200] = 1, 1
    accumulator = Accumulator()
    for curve in (low, high):
        accumulator.add(Measurement({}, {"f_measure": curve}))
    assert accumulator.result(["f_measure_max"]) == {"f_measure_max": 0.5}


def test_mixed_or_missing_measurements_are_refused() -> None:
    accumulator = Accumulator()
    with pytest.raises(BiRefNetError, match="no pair was evaluated"):
        accumulator.mean()
    accumulator.add(Measurement({"mae": 0.1}))
    with pytest.raises(BiRefNetError, match="same metrics"):
        accumulator.add(Measurement({"mse": 0.1}))
