"""Pictures of many requests share batches of the network, which one thread runs."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from birefnet.engines.base import Engine
from birefnet.errors import BiRefNetError
from birefnet.serving.metrics import Metrics

Array = NDArray[np.float32]


@dataclass(eq=False)
class _Item:
    """One picture that waits for the network."""

    model: str
    engine: Engine
    input: Array
    result: asyncio.Future[Array]
    arrived: float = field(default_factory=time.perf_counter)

    def goes_with(self, other: _Item) -> bool:
        return self.engine is other.engine and self.input.shape == other.input.shape


class Batcher:
    """Runs networks one batch at a time, in the order of arrival.

    The picture that has waited longest chooses model and size; others of the same kind go along.
    Where batches pay, it waits for company, but never longer than `wait_s` after its arrival, and
    not at all if nobody else is on the way. Everything but the network itself happens on the event
    loop, so a request that is cancelled is simply taken off the line.

    Args:
        wait_s: see above [s].
        cap: pictures in a batch at most; None leaves it to each engine.
        coming: tells how many pictures are on their way to the network, those in line included.
        metrics: where batches are counted.
    """

    def __init__(
        self, wait_s: float, cap: int | None, coming: Callable[[], int], metrics: Metrics
    ) -> None:
        self._wait_s, self._cap, self._coming, self._metrics = wait_s, cap, coming, metrics
        self._line: deque[_Item] = deque()
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="birefnet-network")

    async def infer(self, model: str, engine: Engine, input: Array) -> Array:
        """Logits [h,w] of one picture's input [3,h,w].

        Raises:
            BiRefNetError: what the engine says of this picture.
        """
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
        item = _Item(model, engine, input, asyncio.get_running_loop().create_future())
        self._line.append(item)
        self._news.set()
        try:
            return await item.result
        except asyncio.CancelledError:
            if item in self._line:
                self._line.remove(item)
            raise

    def limit(self, engine: Engine) -> int:
        """Pictures in a batch of this engine."""
        return self._cap or engine.batch_size

    def wake(self) -> None:
        """Say that somebody who was on the way is not any more."""
        self._news.set()

    async def close(self) -> None:
        """Let the batch at hand finish; what waits is cancelled."""
        for item in self._line:
            item.result.cancel()
        self._line.clear()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            while not self._line:
                self._news.clear()
                await self._news.wait()
            batch = await self._gather()
            if not batch:
                continue
            for item in batch:
                self._metrics.stage.labels("wait").observe(time.perf_counter() - item.arrived)
            outcomes = await loop.run_in_executor(self._thread, self._infer, batch)
            for item, outcome in zip(batch, outcomes, strict=True):
                if item.result.done():
                    continue
                if isinstance(outcome, BaseException):
                    item.result.set_exception(outcome)
                else:
                    item.result.set_result(outcome)

    async def _gather(self) -> list[_Item]:
        """The next batch, taken off the line; empty if its head left meanwhile."""
        head = self._line[0]
        limit = self.limit(head.engine)
        if limit > 1:
            deadline = head.arrived + self._wait_s
            while self._line and self._line[0] is head:
                mates = sum(item.goes_with(head) for item in self._line)
                left = deadline - time.perf_counter()
                if mates >= limit or left <= 0 or self._coming() <= len(self._line):
                    break
                self._news.clear()
                try:
                    await asyncio.wait_for(self._news.wait(), left)
                except (asyncio.TimeoutError, TimeoutError):
                    break
            if not self._line or self._line[0] is not head:
                return []
        batch: list[_Item] = []
        rest: deque[_Item] = deque()
        for item in self._line:
            mine = len(batch) < limit and item.goes_with(head) and not item.result.done()
            (batch if mine else rest).append(item)
        self._line = deque(item for item in rest if not item.result.done())
        return batch

    def _infer(self, batch: list[_Item]) -> list[Array | BaseException]:
        """In the network's thread: logits of each picture, or what went wrong with it."""
        engine, model = batch[0].engine, batch[0].model
        start = time.perf_counter()
        try:
            # A copy of each: one that waits to be encoded must not hold on to the whole batch.
            logits = engine.infer(np.stack([item.input for item in batch]))
            outcomes: list[Array | BaseException] = [plane[0].copy() for plane in logits]
        except BiRefNetError as error:
            if len(batch) > 1:  # too much for the device together, or one spoils the others
                return [outcome for item in batch for outcome in self._infer([item])]
            outcomes = [error]
        except Exception as error:
            outcomes = [error] * len(batch)
        self._metrics.stage.labels("network").observe(time.perf_counter() - start)
        self._metrics.batch.labels(model).observe(len(batch))
        return outcomes


class Cancelled(Exception):  # noqa: N818
    """The request for which a thread works has gone."""


class SharedEngine:
    """An engine for a thread that works on its own (guidance, video): each picture takes its turn
    among those of the other requests.

    Args:
        engine: the real one.
        batcher, loop: where the pictures go, and the event loop it lives on.
        model: name for the metrics.
        cancelled: set it to end the thread at its next picture.
    """

    def __init__(
        self,
        engine: Engine,
        batcher: Batcher,
        loop: asyncio.AbstractEventLoop,
        model: str,
        cancelled: threading.Event | None = None,
    ) -> None:
        self.name, self.batch_size = engine.name, engine.batch_size
        self._engine, self._batcher, self._loop, self._model = engine, batcher, loop, model
        self._cancelled = cancelled or threading.Event()

    def infer(self, batch: Array) -> Array:
        """See `Engine.infer`."""
        if self._cancelled.is_set():
            raise Cancelled
        turns = [
            asyncio.run_coroutine_threadsafe(
                self._batcher.infer(self._model, self._engine, picture), self._loop
            )
            for picture in batch
        ]
        return np.stack([turn.result() for turn in turns])[:, None]
