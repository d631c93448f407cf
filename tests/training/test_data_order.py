"""The order of samples: exact quotas, permutations, and sizes, from a seed alone."""

from __future__ import annotations

import pickle
from collections import Counter

import pytest

from birefnet.training.data.folders import DataError
from birefnet.training.data.order import Order, Part, size_at
from birefnet.training.data.settings import DataSettings, parse_bytes


def epoch(order: Order, number: int) -> list[tuple[int, int]]:
    length = order.epoch_length
    return [order.locate(n) for n in range(number * length, (number + 1) * length)]


def test_an_epoch_of_one_set_is_a_permutation() -> None:
    order = Order([Part(50)], seed=1)
    first, second = epoch(order, 0), epoch(order, 1)
    assert sorted(first) == sorted(second) == [(0, i) for i in range(50)]
    assert first != second
    assert first != epoch(Order([Part(50)], seed=2), 0)


def test_weights_are_exact_quotas() -> None:
    order = Order([Part(10, times=2.0), Part(40, times=0.25), Part(7)], seed=3)
    assert order.quotas == [20, 10, 7]
    seen = Counter(epoch(order, 0))
    assert all(seen[0, i] == 2 for i in range(10))
    assert all(seen[2, i] == 1 for i in range(7))
    # A quarter of the second set each epoch: four epochs show all of it once.
    four = Counter(sample for e in range(4) for sample in epoch(order, e) if sample[0] == 1)
    assert four == {(1, i): 1 for i in range(40)}


def test_a_share_is_that_part_of_the_epoch() -> None:
    order = Order([Part(80), Part(1000, share=0.2)], seed=0)
    assert order.quotas == [80, 20]
    assert Order([Part(3, share=0.5), Part(9, share=0.25)], seed=0).quotas == [8, 4]


def test_a_given_length_keeps_the_proportions_and_no_set_vanishes() -> None:
    order = Order([Part(1000), Part(500), Part(1)], seed=0, epoch_length=100)
    assert sum(order.quotas) == order.epoch_length >= 100
    assert order.quotas[0] == pytest.approx(2 * order.quotas[1], abs=2)
    assert order.quotas[2] == 1


def test_any_number_can_be_asked_for_at_once_and_elsewhere() -> None:
    order = Order([Part(11), Part(5, times=1.4)], seed=5)
    expected = [order.locate(n) for n in range(200)]
    fresh = pickle.loads(pickle.dumps(Order([Part(11), Part(5, times=1.4)], seed=5)))
    assert [fresh.locate(n) for n in reversed(range(200))] == expected[::-1]


def test_contradictions_are_refused() -> None:
    with pytest.raises(DataError, match="no pictures"):
        Order([], seed=0)
    with pytest.raises(DataError, match="add up to 110%"):
        Order([Part(5), Part(5, share=0.6), Part(5, share=0.5)], seed=0)


def test_sizes_are_drawn_within_their_own_bounds() -> None:
    settings = DataSettings(dynamic_width=(256, 512), dynamic_height=(64, 128))
    sizes = [size_at(settings, 1, step) for step in range(200)]
    heights, widths = {h for h, _ in sizes}, {w for _, w in sizes}
    assert heights == set(range(64, 129, 32))
    assert widths == set(range(256, 513, 32))
    assert sizes == [size_at(settings, 1, step) for step in range(200)]
    assert size_at(DataSettings(width=96, height=64), 1, 7) == (64, 96)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"width": 100}, "width is 100; it must be a multiple of 32"),
        ({"dynamic_width": (512, 256)}, "dynamic_width is 512, 256; give the smaller"),
        ({"dynamic_height": (250, 512)}, "dynamic_height is 250"),
        ({"cache": "8 apples"}, "cache is '8 apples'"),
    ],
)
def test_unfitting_settings_are_refused(values: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DataSettings(**values)


def test_bytes_in_words() -> None:
    assert [parse_bytes(t) for t in ("0", "12", "2K", "1.5m", "8GB", "1GiB")] == [
        0, 12, 2048, 1572864, 8 * 2**30, 2**30,
    ]  # fmt: skip
