"""Pictures of many requests share batches, and each gets its own logits back."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import pytest

pytest.importorskip("prometheus_client")

from birefnet.errors import BiRefNetError, DeviceError
from birefnet.serving.batching import Batcher, ModelQueue
from birefnet.serving.metrics import Metrics
from fakes import BrightEngine


def picture(level: float, side: int = 32) -> Any:
    return np.full((3, side, side), level, np.float32)


def level_of(logits: Any) -> float:
    return float(logits[0, 0] / BrightEngine.steepness + 0.5)


class Gated(BrightEngine):
    """The first batch waits, so that the others gather behind it."""

    def __init__(self, batch_size: int = 4) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.began, self.go = threading.Event(), threading.Event()

    def infer(self, batch: Any) -> Any:
        self.began.set()
        assert self.go.wait(10)
        return super().infer(batch)


def serve(
    work: Callable[[Batcher], Coroutine[Any, Any, Any]],
    *,
    wait_s: float = 0.2,
    cap: int | None = None,
    pending: int = 99,
) -> Any:
    async def inside() -> Any:
        batcher = Batcher(wait_s, cap, lambda: pending, Metrics())
        try:
            return await work(batcher)
        finally:
            await batcher.close()

    return asyncio.run(inside())


def test_pictures_that_wait_share_batches_and_keep_their_order() -> None:
    engine = Gated()
    levels = np.linspace(0.1, 0.9, 9)

    async def work(batcher: Batcher) -> list[float]:
        queue = ModelQueue.of("bright", engine)
        first = asyncio.create_task(batcher.infer(queue, picture(0.5)))
        await asyncio.to_thread(engine.began.wait)
        rest = [asyncio.create_task(batcher.infer(queue, picture(level))) for level in levels]
        await asyncio.sleep(0)
        engine.go.set()
        await first
        return [level_of(logits) for logits in await asyncio.gather(*rest)]

    assert serve(work) == pytest.approx(levels.tolist(), abs=1e-5)
    assert [shape[0] for shape in engine.batches] == [1, 4, 4, 1]


def test_sizes_and_models_are_not_mixed() -> None:
    engine, other = Gated(), BrightEngine()

    async def work(batcher: Batcher) -> None:
        queue, lane2 = ModelQueue.of("a", engine), ModelQueue.of("b", other)
        first = asyncio.create_task(batcher.infer(queue, picture(0.5)))
        await asyncio.to_thread(engine.began.wait)
        tasks = [
            asyncio.create_task(batcher.infer(where, picture(0.5, side)))
            for where, side in ((queue, 32), (queue, 64), (lane2, 32), (queue, 32), (lane2, 32))
        ]
        await asyncio.sleep(0)
        engine.go.set()
        await asyncio.gather(first, *tasks)

    serve(work)
    assert engine.batches == [(1, 3, 32, 32), (2, 3, 32, 32), (1, 3, 64, 64)]
    assert [shape[0] for shape in other.batches] == [1, 1]


def test_the_wait_for_company_is_bounded_and_left_out_for_one_alone() -> None:
    engine = BrightEngine()
    engine.batch_size = 4

    async def work(batcher: Batcher) -> float:
        start = time.perf_counter()
        await batcher.infer(ModelQueue.of("bright", engine), picture(0.5))
        return time.perf_counter() - start

    assert serve(work, wait_s=0.3, pending=2) >= 0.3
    assert serve(work, wait_s=5, pending=1) < 2


def test_a_full_batch_does_not_wait() -> None:
    engine = BrightEngine()
    engine.batch_size = 2

    async def work(batcher: Batcher) -> float:
        start = time.perf_counter()
        queue = ModelQueue.of("bright", engine)
        await asyncio.gather(*(batcher.infer(queue, picture(0.5)) for _ in range(4)))
        return time.perf_counter() - start

    assert serve(work, wait_s=5) < 2
    assert [shape[0] for shape in engine.batches] == [2, 2]


def test_who_gives_up_leaves_the_line() -> None:
    engine = Gated(batch_size=1)

    async def work(batcher: Batcher) -> None:
        queue = ModelQueue.of("bright", engine)
        first = asyncio.create_task(batcher.infer(queue, picture(0.5)))
        await asyncio.to_thread(engine.began.wait)
        leaving = asyncio.create_task(batcher.infer(queue, picture(0.1)))
        staying = asyncio.create_task(batcher.infer(queue, picture(0.9)))
        await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.sleep(0)
        engine.go.set()
        await first
        assert level_of(await staying) == pytest.approx(0.9)

    serve(work)
    assert len(engine.batches) == 2


def test_one_that_fails_takes_no_other_along() -> None:
    class Picky(BrightEngine):
        batch_size = 4

        def infer(self, batch: Any) -> Any:
            if len(batch) > 2:
                raise DeviceError("not enough memory")
            if (batch > 1).any():
                raise BiRefNetError("too bright")
            return super().infer(batch)

    async def work(batcher: Batcher) -> list[Any]:
        queue = ModelQueue.of("picky", Picky())
        levels = (0.2, 5.0, 0.4, 0.6)
        tasks = [batcher.infer(queue, picture(level)) for level in levels]
        return await asyncio.gather(*tasks, return_exceptions=True)

    outcomes = serve(work)
    assert isinstance(outcomes[1], BiRefNetError)
    assert [level_of(outcomes[i]) for i in (0, 2, 3)] == pytest.approx([0.2, 0.4, 0.6], abs=1e-5)


def test_a_bug_in_an_engine_is_an_error_and_not_a_hang() -> None:
    class Broken(BrightEngine):
        def infer(self, batch: Any) -> Any:
            raise KeyError("bug")

    async def work(batcher: Batcher) -> None:
        for _ in range(2):
            with pytest.raises(KeyError):
                await batcher.infer(ModelQueue.of("broken", Broken()), picture(0.5))

    serve(work)


def test_engines_for_several_callers_run_abreast_under_load_only() -> None:
    together = threading.Barrier(2, timeout=10)

    class Half(BrightEngine):
        def infer(self, batch: Any) -> Any:
            together.wait()
            return super().infer(batch)

    class Whole(BrightEngine):
        concurrent_engine = Half()

        def concurrent(self) -> tuple[BrightEngine, int]:
            return self.concurrent_engine, 2

    engine = Whole()
    queue = ModelQueue.of("whole", engine)

    async def concurrent_engine(batcher: Batcher) -> None:
        await asyncio.gather(*(batcher.infer(queue, picture(level)) for level in (0.2, 0.4)))

    serve(concurrent_engine)
    assert len(engine.concurrent_engine.batches) == 2
    assert not engine.batches

    async def alone(batcher: Batcher) -> None:
        await batcher.infer(queue, picture(0.5))
        await batcher.infer(queue, picture(0.5))

    serve(alone, pending=1)
    assert len(engine.batches) == 2

    async def large(batcher: Batcher) -> None:
        tasks = [batcher.infer(queue, picture(0.5, 800)) for _ in range(2)]
        await asyncio.gather(*tasks)

    serve(large)
    assert len(engine.batches) == 4
