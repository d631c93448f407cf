"""Recordings: which shapes get one, how long they live, and what comes out."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from birefnet.engines.graphs import CudaRecorder, GraphCache, Recording, batch_bucket
from birefnet.network.backbones.swin import SwinTransformer
from birefnet.network.eager import keeping, lent


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


def test_the_second_meeting_records_and_the_third_replays() -> None:
    calls: list[int] = []

    def counted(batch: Tensor) -> Tensor:
        calls.append(len(batch))
        return double(batch)

    tape = Tape()
    cache = GraphCache(counted, tape)
    for turn in range(4):
        batch = torch.full((1, 3, 4, 4), float(turn))
        assert torch.equal(cache(batch), 2 * batch)
    assert tape.shapes == [(1, 3, 4, 4)]


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

    def run(side: int) -> None:
        cache(torch.zeros(1, 1, side, side))

    for side in (1, 1, 2, 2, 1, 3, 3):  # 2 was used before 1
        run(side)
    assert list(cache._recordings) == [(1, 1, 1, 1), (1, 1, 3, 3)]
    run(2)
    assert len(tape.shapes) == 3  # met for the first time again


@pytest.mark.parametrize(
    "error", [RuntimeError("operation not permitted\nmore"), torch.OutOfMemoryError("full")]
)
def test_failure_is_said_once_and_costs_no_result(error: Exception) -> None:
    def fail(function: object, example: Tensor) -> Recording:
        raise error

    cache = GraphCache(double, fail)
    batch = torch.ones(1, 1, 2, 2)
    cache(batch)
    with pytest.warns(RuntimeWarning, match="could not be recorded"):
        assert torch.equal(cache(batch), 2 * batch)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(cache(batch), 2 * batch)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_graphs_give_the_same_numbers() -> None:
    device = torch.device("cuda", torch.cuda.current_device())
    layer = torch.nn.Conv2d(3, 5, 3, padding=1).to(device).eval()
    cache = GraphCache(layer, CudaRecorder(device))
    with torch.inference_mode():
        for _ in range(4):
            batch = torch.randn(3, 3, 32, 48, device=device)
            torch.testing.assert_close(cache(batch), layer(batch))


def test_what_caches_lend_lives_as_long_as_the_recording() -> None:
    with keeping() as outer, keeping() as inner:
        lent("plan")
    lent("later")
    assert outer == inner == ["plan"]


def test_a_recorded_swin_keeps_its_index_maps() -> None:
    torch.manual_seed(0)
    network = SwinTransformer(channels=16, depths=(2, 1, 1, 1), heads=(1, 2, 4, 8), window=4)
    with torch.no_grad(), keeping() as kept:  # as on a GPU: not in place
        network.train()(torch.randn(1, 3, 64, 64))
    assert {type(plan).__name__ for plan in kept} == {"WindowPlan"}
