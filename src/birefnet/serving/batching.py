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

from birefnet.errors import BiRefNetError
from birefnet.inference.engines.base import (
    CONCURRENT_PIXELS,
    MOST_CONCURRENT,
    Engine,
    concurrent,
    takes_guidance,
)
from birefnet.serving.metrics import Metrics

Array = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class ModelQueue:
    """A network as requests queue for it.

    Attributes:
        model: its name, for the metrics.
        engine: for one picture at a time, with the whole machine.
        concurrent_engine: for `concurrency` calls at once, each with its share of the cores; the
            same where nothing is gained by that.
        concurrency: see `birefnet.inference.engines.base.concurrent`.
    """

    model: str
    engine: Engine
    concurrent_engine: Engine
    concurrency: int = 1

    @classmethod
    def of(cls, model: str, engine: Engine) -> ModelQueue:
        """For an engine; it may have to finish a picture first."""
        return cls(model, engine, *concurrent(engine, 1))


@dataclass(eq=False)
class _Item:
    """One picture that waits for the network."""

    queue: ModelQueue
    input: Array
    result: asyncio.Future[Array]
    arrived: float = field(default_factory=time.perf_counter)

    def goes_with(self, other: _Item) -> bool:
        return self.queue is other.queue and self.input.shape == other.input.shape


class Batcher:
    """Runs networks on batches of pictures, in the order of arrival.

    The picture that has waited longest chooses model and size; others of the same kind go along.
    Where batches pay, it waits for company, but never longer than `wait_s` after its arrival, and
    not at all if nobody else is on the way. Where instead an engine runs several calls at once,
    so many pictures run side by side as soon as there is more than one. Everything but the network
    itself happens on the event loop, so a request that is cancelled simply leaves the queue.

    Args:
        wait_s: see above [s].
        cap: pictures in a batch at most; None leaves it to each engine.
        pending: tells how many pictures are on their way to the network, those waiting and those
            that run included.
        metrics: where batches are counted.
    """

    def __init__(
        self, wait_s: float, cap: int | None, pending: Callable[[], int], metrics: Metrics
    ) -> None:
        self._wait_s, self._cap, self._pending, self._metrics = wait_s, cap, pending, metrics
        self._waiting: deque[_Item] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        # An engine for several calls at once may limit the cores of the threads that call it.
        self._single_thread = ThreadPoolExecutor(1, thread_name_prefix="birefnet-network")
        self._concurrent_threads = ThreadPoolExecutor(
            MOST_CONCURRENT, thread_name_prefix="birefnet-networks"
        )

    async def infer(self, queue: ModelQueue, input: Array) -> Array:
        """Logits [h,w] of one picture's input [3,h,w].

        Raises:
            BiRefNetError: what the engine says of this picture.
        """
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
        item = _Item(queue, input, asyncio.get_running_loop().create_future())
        self._waiting.append(item)
        self._news.set()
        try:
            return await item.result
        except asyncio.CancelledError:
            if item in self._waiting:
                self._waiting.remove(item)
            raise

    def wake(self) -> None:
        """Say that somebody who was on the way is not any more."""
        self._news.set()

    async def close(self) -> None:
        """Let the batches at hand finish; what waits is cancelled."""
        for item in self._waiting:
            item.result.cancel()
        self._waiting.clear()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, *self._running, return_exceptions=True)
            self._task = None
        for threads in (self._single_thread, self._concurrent_threads):
            threads.shutdown(wait=False, cancel_futures=True)

    async def _run(self) -> None:
        while True:
            self._news.clear()
            if self._waiting and len(self._running) < self._room(self._waiting[0]):
                batch, concurrent = await self._gather()
                if batch:
                    self._begin(batch, concurrent)
                del batch  # while nothing comes, it would hold the last pictures and their model
                continue
            await self._news.wait()

    def _begin(self, batch: list[_Item], concurrent: bool) -> None:
        task = asyncio.create_task(self._do(batch, concurrent))
        self._running.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._news.set()

    def _room(self, head: _Item) -> int:
        """How many batches may run at once while `head` is the next."""
        is_concurrent = max(self._pending(), len(self._waiting) + len(self._running)) > 1
        height, width = head.input.shape[-2:]
        is_small = height * width <= CONCURRENT_PIXELS
        return head.queue.concurrency if is_concurrent and is_small else 1

    async def _do(self, batch: list[_Item], concurrent: bool) -> None:
        queue = batch[0].queue
        for item in batch:
            self._metrics.stage.labels("wait").observe(time.perf_counter() - item.arrived)
        threads, engine = self._single_thread, queue.engine
        if concurrent:
            threads, engine = self._concurrent_threads, queue.concurrent_engine
        loop = asyncio.get_running_loop()
        outcomes = await loop.run_in_executor(threads, self._infer, batch, engine)
        for item, outcome in zip(batch, outcomes, strict=True):
            if item.result.done():
                continue
            if isinstance(outcome, BaseException):
                item.result.set_exception(outcome)
            else:
                item.result.set_result(outcome)

    async def _gather(self) -> tuple[list[_Item], bool]:
        """The next batch, taken off the queue, and whether others run at the same time.

        Empty if its head left meanwhile.
        """
        head = self._waiting[0]
        queue = head.queue
        limit = self._cap or queue.engine.batch_size
        concurrent = self._room(head) > 1
        if limit > 1:
            deadline = head.arrived + self._wait_s
            while self._waiting and self._waiting[0] is head:
                mates = sum(item.goes_with(head) for item in self._waiting)
                left = deadline - time.perf_counter()
                if mates >= limit or left <= 0 or self._pending() <= len(self._waiting):
                    break
                self._news.clear()
                try:
                    await asyncio.wait_for(self._news.wait(), left)
                except TimeoutError:
                    break
            if not self._waiting or self._waiting[0] is not head:
                return [], False
        batch: list[_Item] = []
        rest: deque[_Item] = deque()
        for item in self._waiting:
            mine = len(batch) < limit and item.goes_with(head) and not item.result.done()
            (batch if mine else rest).append(item)
        self._waiting = deque(item for item in rest if not item.result.done())
        return batch, concurrent

    def _infer(self, batch: list[_Item], engine: Engine) -> list[Array | BaseException]:
        """In a thread: logits of each picture, or what went wrong with it."""
        start = time.perf_counter()
        try:
            # A copy of each: one that waits to be encoded must not hold on to the whole batch.
            logits = engine.infer(np.stack([item.input for item in batch]))
            outcomes: list[Array | BaseException] = [plane[0].copy() for plane in logits]
        except BiRefNetError as error:
            if len(batch) > 1:  # too much for the device together, or one spoils the others
                return [outcome for item in batch for outcome in self._infer([item], engine)]
            outcomes = [error]
        except Exception as error:
            outcomes = [error] * len(batch)
        self._metrics.stage.labels("network").observe(time.perf_counter() - start)
        self._metrics.batch.labels(batch[0].queue.model).observe(len(batch))
        return outcomes


class Cancelled(Exception):
    """The request for which a thread works has gone."""


class SharedEngine:
    """An engine for a thread that works on its own (guidance, video): each picture takes its turn
    among those of the other requests.

    Args:
        queue: the network.
        batcher, loop: where the pictures go, and the event loop it lives on.
        cancelled: set it to end the thread at its next picture.
    """

    def __init__(
        self,
        queue: ModelQueue,
        batcher: Batcher,
        loop: asyncio.AbstractEventLoop,
        cancelled: threading.Event,
    ) -> None:
        self.name, self.batch_size = queue.engine.name, queue.engine.batch_size
        self.takes_guidance = takes_guidance(queue.engine)
        self._queue, self._batcher, self._loop, self._cancelled = queue, batcher, loop, cancelled

    def infer(self, batch: Array) -> Array:
        """See `Engine.infer`."""
        if self._cancelled.is_set():
            raise Cancelled
        turns = [
            asyncio.run_coroutine_threadsafe(self._batcher.infer(self._queue, picture), self._loop)
            for picture in batch
        ]
        return np.stack([turn.result() for turn in turns])[:, None]

    def concurrent(self) -> tuple[SharedEngine, int]:
        """As many calls at once as the network itself takes, see `engines.base.concurrent`."""
        return self, self._queue.concurrency
