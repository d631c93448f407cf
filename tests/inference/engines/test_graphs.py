"""Recordings: which shapes get one, how long they live, and what comes out."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from birefnet.inference.engines.graphs import MEETINGS, GraphCache, Recording, batch_bucket
from birefnet.network.backbones.swin import SwinTransformer
from birefnet.network.execution import pinned, retained


class Tape:
    """Stands in for CUDA: a recording calls the function again, on its own input."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, function: Callable[[Tensor], Tensor], example: Tensor) -> Recording:
        self.shapes.append(tuple(example.shape))
        held, output = example.clone(), function(example)

        def replay() -> None:
            output.copy_(function(held))

        return Recording(held, output, replay)


def double(batch: Tensor) -> Tensor:
    return 2 * batch


def run(cache: GraphCache, *sides: int) -> None:
    for side in sides:
        cache(torch.zeros(1, 1, side, side))


def test_the_third_meeting_records_and_replays() -> None:
    tape = Tape()
    cache = GraphCache(double, tape)
    for turn in range(5):
        batch = torch.full((1, 3, 4, 4), float(turn))
        assert torch.equal(cache(batch), 2 * batch)
        assert len(tape.shapes) == (turn >= MEETINGS - 1)
    assert (cache.recorded, cache.replayed, cache.dropped) == (1, 3, 0)


def test_batches_share_the_recording_of_their_bucket() -> None:
    tape = Tape()
    cache = GraphCache(double, tape)
    for size in (3, 4, 3, 4):
        batch = torch.randn(size, 1, 2, 2)
        assert torch.equal(cache(batch), 2 * batch)
    assert tape.shapes == [(4, 1, 2, 2)]


@pytest.mark.parametrize(
    ("size", "bucket"), [(1, 1), (2, 2), (3, 4), (5, 8), (8, 8), (9, 16), (17, 24), (24, 24)]
)
def test_buckets(size: int, bucket: int) -> None:
    assert batch_bucket(size) == bucket


def test_few_recordings_are_kept_those_used_last() -> None:
    tape = Tape()
    cache = GraphCache(double, tape, kept=2)
    run(cache, *3 * (1,), *3 * (2,), 1, *3 * (3,))  # 2 was used before 1
    assert (cache.recorded, cache.dropped) == (3, 1)
    run(cache, 1, 3)
    assert cache.replayed == 6
    run(cache, *5 * (2,))  # it must come twice as often as before
    assert cache.recorded == 3
    run(cache, 2)
    assert tape.shapes[-1] == (1, 1, 2, 2)


@pytest.mark.parametrize("shapes", [5, 6, 9, 300])
@pytest.mark.parametrize("turns", [4, 12, 100])
@pytest.mark.parametrize("order", ["rotation", "random"])
def test_many_shapes_are_not_recorded_again_and_again(shapes: int, turns: int, order: str) -> None:
    tape, draw = Tape(), random.Random(0)
    cache = GraphCache(double, tape)
    sides = [1 + i % shapes for i in range(min(turns * shapes, 1500))]
    if order == "random":
        sides = draw.choices(range(1, shapes + 1), k=len(sides))
    run(cache, *sides)
    passes = 4 * cache.recorded / len(sides)  # a recording costs about four
    if order == "rotation":
        assert cache.recorded <= cache.kept
        assert cache.replayed >= (turns - MEETINGS) * cache.kept or shapes > 256
    assert passes <= (0.3 if turns >= 100 else 1.1)
    assert cache.recorded - cache.dropped == len(cache._recordings) <= cache.kept


def test_shapes_of_today_take_the_place_of_yesterday_s() -> None:
    cache = GraphCache(double, Tape())
    run(cache, *100 * (1, 2, 3, 4), *5 * (5,), *5 * (6, 7))
    assert {shape[-1] for shape in cache._recordings} == {4, 5, 6, 7}


@pytest.mark.parametrize("wins", [False, True])
def test_want_of_memory_drops_recordings_and_tries_once_more(wins: bool) -> None:
    tape, refusals = Tape(), [torch.OutOfMemoryError("full")] * (1 if wins else 2)
    refused: list[tuple[int, ...]] = []

    def record(function: Callable[[Tensor], Tensor], example: Tensor) -> Recording:
        if example.shape[-1] == 9 and refusals:
            refused.append(tuple(example.shape))
            raise refusals.pop()
        return tape(function, example)

    cache = GraphCache(double, record)
    run(cache, *3 * (1,), *3 * (2,))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            batch = torch.randn(1, 1, 9, 9)
            assert torch.equal(cache(batch), 2 * batch)
    assert len(refused) == (1 if wins else 2)
    assert cache.dropped == 2
    assert cache.recorded == (3 if wins else 2)
    run(cache, *6 * (1,))  # works on
    assert cache.recorded == (4 if wins else 3)


def test_failure_is_said_once_and_costs_no_result() -> None:
    def fail(function: object, example: Tensor) -> Recording:
        raise RuntimeError("operation not permitted\nmore")

    cache = GraphCache(double, fail)
    batch = torch.ones(1, 1, 2, 2)
    for _ in range(MEETINGS - 1):
        cache(batch)
    with pytest.warns(RuntimeWarning, match=r"could not be recorded \(operation not permitted\);"):
        assert torch.equal(cache(batch), 2 * batch)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(cache(batch), 2 * batch)


def test_what_caches_lend_lives_as_long_as_the_recording() -> None:
    with retained() as outer, retained() as inner:
        pinned("plan")
    pinned("later")
    assert outer == inner == ["plan"]


def test_a_recorded_swin_keeps_its_index_maps() -> None:
    torch.manual_seed(0)
    network = SwinTransformer(channels=16, depths=(2, 1, 1, 1), heads=(1, 2, 4, 8), window=4)
    with torch.no_grad(), retained() as kept:  # as on a GPU: not in place
        network.train()(torch.randn(1, 3, 64, 64))
    assert {type(plan).__name__ for plan in kept} == {"WindowPlan"}
