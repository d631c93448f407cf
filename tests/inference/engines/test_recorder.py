"""Recording CUDA graphs, on a stand-in for torch.cuda that has the rules of the real one."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from birefnet.inference.engines import graphs
from birefnet.inference.engines.graphs import CudaRecorder, GraphCache, empty_cache

FIRST, SECOND = torch.device("cuda", 0), torch.device("cuda", 1)


class FakeCuda:
    """Devices, streams and graphs; a graph holds what is run on its stream's device meanwhile.

    As on a card: one recording at a time, and nobody may wait for the device or empty the cache
    then; a recording without a stream takes one of the device that recorded first; a pool may be
    used as long as one of its graphs lives; a failed recording leaves its stream behind.
    """

    def __init__(self) -> None:
        self.here = threading.local()
        self.recording: Graph | None = None
        self.default_stream: SimpleNamespace | None = None
        self.modes: list[str] = []
        self.streams: list[SimpleNamespace] = []
        self.emptied = 0
        self.CUDAGraph = lambda: Graph(self)

    def Stream(self, device: torch.device | None = None) -> SimpleNamespace:  # noqa: N802
        made = SimpleNamespace(device=device or self.device_now(), wait_stream=lambda other: None)
        self.streams.append(made)
        return made

    def device_now(self) -> torch.device:
        return getattr(self.here, "device", FIRST)

    def current_stream(self, device: torch.device | None = None) -> SimpleNamespace:
        default = SimpleNamespace(
            device=device or self.device_now(), wait_stream=lambda other: None
        )
        return getattr(self.here, "stream", default)

    @contextmanager
    def device(self, device: torch.device) -> Iterator[None]:
        before, self.here.device = self.device_now(), device
        yield
        self.here.device = before

    @contextmanager
    def stream(self, stream: SimpleNamespace) -> Iterator[None]:
        before = self.current_stream()
        self.here.stream = stream
        try:
            yield
        finally:
            self.here.stream = before

    @contextmanager
    def graph(
        self,
        graph: Graph,
        pool: object = None,
        stream: SimpleNamespace | None = None,
        capture_error_mode: str = "global",
    ) -> Iterator[None]:
        if stream is None:
            self.default_stream = stream = self.default_stream or self.Stream()
        self.empty_cache()  # as torch does before it records
        assert pool is None or pool in Graph.pools_alive(), "this pool is gone"
        self.modes.append(capture_error_mode)
        graph.begin(stream, pool)
        self.recording, self.here.stream = graph, stream
        try:
            yield
        except BaseException:
            self.recording = None
            raise  # the stream stays
        time.sleep(0.01)  # for others to disturb
        self.recording, self.here.stream = None, self.current_stream()

    def empty_cache(self) -> None:
        if self.recording is not None:
            raise RuntimeError("operation not permitted when a stream is capturing")
        self.emptied += 1


class Graph:
    """Calls of `Work` during a recording, done again by a replay."""

    alive: ClassVar[list[Any]] = []

    def __init__(self, cuda: FakeCuda) -> None:
        self.cuda, self.calls = cuda, []

    def begin(self, stream: SimpleNamespace, pool: object) -> None:
        self.stream, self.the_pool = stream, pool or object()
        self.thread = threading.get_ident()
        Graph.alive.append(weakref.ref(self))

    @staticmethod
    def pools_alive() -> list[object]:
        return [graph().the_pool for graph in Graph.alive if graph() is not None]

    def pool(self) -> object:
        return self.the_pool

    def replay(self) -> None:
        for call in self.calls:
            call()


class Work:
    """A network on a device: doubles; recorded if the recording is of its own device and thread."""

    def __init__(self, cuda: FakeCuda, device: torch.device, factor: float = 2) -> None:
        self.cuda, self.device, self.factor = cuda, device, factor
        self.passes = 0

    def __call__(self, batch: Tensor) -> Tensor:
        self.passes += 1
        graph = self.cuda.recording
        recorded = (
            graph is not None
            and graph.thread == threading.get_ident()
            and graph.stream.device == self.device
        )
        if not recorded:
            return self.factor * batch
        output = torch.zeros_like(batch)
        graph.calls.append(lambda: output.copy_(self.factor * batch))
        return output


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    fake = FakeCuda()
    names = {name: getattr(torch, name) for name in ("Tensor", "OutOfMemoryError", "allclose")}
    monkeypatch.setattr(graphs, "torch", SimpleNamespace(cuda=fake, cpu=fake, **names))
    return fake


def run(cache: Callable[[Tensor], Tensor], factor: float, turns: int = 6) -> bool:
    """Whether each batch gives its own result."""
    batches = [torch.full((1, 1, 2, 2), float(turn + 1)) for turn in range(turns)]
    return all(torch.equal(cache(batch), factor * batch) for batch in batches)


def test_each_device_records_on_a_stream_of_its_own(cuda: FakeCuda) -> None:
    for device in (FIRST, SECOND):
        cache = GraphCache(Work(cuda, device), CudaRecorder(device))
        assert run(cache, 2)
        assert cache.recorded == 1
    assert [stream.device for stream in cuda.streams] == [FIRST, SECOND]
    assert set(cuda.modes) == {"thread_local"}


def test_an_empty_graph_is_found_out(cuda: FakeCuda) -> None:
    """As where the stream is another device's."""
    cache = GraphCache(Work(cuda, SECOND), CudaRecorder(FIRST))
    with pytest.warns(RuntimeWarning, match="first replay gave other numbers"):
        assert run(cache, 2)
    assert cache.recorded == cache.replayed == 0


def test_threads_record_one_after_the_other(cuda: FakeCuda) -> None:
    caches = [GraphCache(Work(cuda, FIRST, n), CudaRecorder(FIRST)) for n in range(2, 8)]

    def empty() -> None:
        for _ in range(20):
            empty_cache(FIRST)

    with ThreadPoolExecutor(7) as pool:
        emptying = pool.submit(empty)
        found = list(pool.map(run, caches, range(2, 8)))
        emptying.result()
    assert all(found)
    assert [cache.recorded for cache in caches] == [1] * 6


def test_a_failed_recording_leaves_the_stream_as_it_was(cuda: FakeCuda) -> None:
    before = cuda.current_stream()
    cuda.here.stream = before
    work = Work(cuda, FIRST)

    def fail(batch: Tensor) -> Tensor:
        if cuda.recording is not None:
            raise RuntimeError("operation failed while capturing")
        return work(batch)

    cache = GraphCache(fail, CudaRecorder(FIRST))
    with pytest.warns(RuntimeWarning, match="failed while capturing"):
        assert run(cache, 2)
    assert cuda.current_stream() is before


def test_want_of_memory_behind_another_error_is_seen(cuda: FakeCuda) -> None:
    """The end of a recording that ran out of memory may fail in turn."""
    work, refusals = Work(cuda, FIRST), [1, 2]

    def fail(batch: Tensor) -> Tensor:
        if cuda.recording is not None and refusals:
            refusals.pop()
            try:
                raise torch.OutOfMemoryError("CUDA out of memory")
            finally:
                raise RuntimeError("capture ended unexpectedly")
        return work(batch)

    cache = GraphCache(fail, CudaRecorder(FIRST))
    assert run(cache, 2, turns=20)  # no warning: it works again later
    assert cache.recorded == 1
    assert cuda.emptied >= 4


def test_the_pool_is_the_one_of_graphs_that_live(cuda: FakeCuda) -> None:
    cache = GraphCache(Work(cuda, FIRST), CudaRecorder(FIRST), kept=1)
    for side in (1, 2, 3):
        for _ in range(4):
            assert (cache(torch.ones(1, 1, side, side)) == 2).all()
    assert cache.recorded == 3
    cache.drop()
    assert Graph.pools_alive() == []
    for _ in range(8):
        cache(torch.ones(1, 1, 3, 3))
    assert cache.recorded == 4
