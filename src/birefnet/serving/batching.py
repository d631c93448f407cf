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
    MOST_CALLERS,
    SIDE_BY_SIDE,
    Engine,
    for_many,
    takes_guidance,
)
from birefnet.serving.metrics import Metrics

Array = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Lane:
    """The ways to run one network.

    Attributes:
        model: its name, for the metrics.
        engine: for one picture at a time, with the whole machine.
        crowd: for `callers` at once, each on its share; the same where nothing is gained by that.
        callers: see `birefnet.inference.engines.base.for_many`.
    """

    model: str
    engine: Engine
    crowd: Engine
    callers: int = 1

    @classmethod
    def of(cls, model: str, engine: Engine) -> Lane:
        """For an engine; it may have to finish a picture first."""
        return cls(model, engine, *for_many(engine, 1))

    def callers_for(self, input: Array) -> int:
        """How many may run inputs of this size at once."""
        height, width = input.shape[-2:]
        return self.callers if height * width <= SIDE_BY_SIDE else 1


@dataclass(eq=False)
class _Item:
    """One picture that waits for the network."""

    lane: Lane
    input: Array
    result: asyncio.Future[Array]
    arrived: float = field(default_factory=time.perf_counter)

    def goes_with(self, other: _Item) -> bool:
        return self.lane is other.lane and self.input.shape == other.input.shape


class Batcher:
    """Runs networks on batches of pictures, in the order of arrival.

    The picture that has waited longest chooses model and size; others of the same kind go along.
    Where batches pay, it waits for company, but never longer than `wait_s` after its arrival, and
    not at all if nobody else is on the way. Where instead an engine serves several callers at once,
    so many pictures run side by side as soon as there is more than one. Everything but the network
    itself happens on the event loop, so a request that is cancelled is simply taken off the line.

    Args:
        wait_s: see above [s].
        cap: pictures in a batch at most; None leaves it to each engine.
        coming: tells how many pictures are on their way to the network, those in line and those
            that run included.
        metrics: where batches are counted.
    """

    def __init__(
        self, wait_s: float, cap: int | None, coming: Callable[[], int], metrics: Metrics
    ) -> None:
        self._wait_s, self._cap, self._coming, self._metrics = wait_s, cap, coming, metrics
        self._line: deque[_Item] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        # An engine for several callers may limit the cores of the threads that call it.
        self._alone = ThreadPoolExecutor(1, thread_name_prefix="birefnet-network")
        self._abreast = ThreadPoolExecutor(MOST_CALLERS, thread_name_prefix="birefnet-networks")

    async def infer(self, lane: Lane, input: Array) -> Array:
        """Logits [h,w] of one picture's input [3,h,w].

        Raises:
            BiRefNetError: what the engine says of this picture.
        """
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
        item = _Item(lane, input, asyncio.get_running_loop().create_future())
        self._line.append(item)
        self._news.set()
        try:
            return await item.result
        except asyncio.CancelledError:
            if item in self._line:
                self._line.remove(item)
            raise

    def wake(self) -> None:
        """Say that somebody who was on the way is not any more."""
        self._news.set()

    async def close(self) -> None:
        """Let the batches at hand finish; what waits is cancelled."""
        for item in self._line:
            item.result.cancel()
        self._line.clear()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, *self._running, return_exceptions=True)
            self._task = None
        for threads in (self._alone, self._abreast):
            threads.shutdown(wait=False, cancel_futures=True)

    async def _run(self) -> None:
        while True:
            self._news.clear()
            if self._line and len(self._running) < self._room(self._line[0]):
                batch, abreast = await self._gather()
                if batch:
                    self._begin(batch, abreast)
                del batch  # while nothing comes, it would hold the last pictures and their model
                continue
            await self._news.wait()

    def _begin(self, batch: list[_Item], abreast: bool) -> None:
        task = asyncio.create_task(self._do(batch, abreast))
        self._running.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._news.set()

    def _room(self, head: _Item) -> int:
        """How many batches may run at once while `head` is the next."""
        is_crowd = max(self._coming(), len(self._line) + len(self._running)) > 1
        return head.lane.callers_for(head.input) if is_crowd else 1

    async def _do(self, batch: list[_Item], abreast: bool) -> None:
        lane = batch[0].lane
        for item in batch:
            self._metrics.stage.labels("wait").observe(time.perf_counter() - item.arrived)
        threads, engine = (self._abreast, lane.crowd) if abreast else (self._alone, lane.engine)
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
        """The next batch, taken off the line, and whether it is one of several abreast.

        Empty if its head left meanwhile.
        """
        head = self._line[0]
        lane = head.lane
        limit = self._cap or lane.engine.batch_size
        abreast = self._room(head) > 1
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
                except TimeoutError:
                    break
            if not self._line or self._line[0] is not head:
                return [], False
        batch: list[_Item] = []
        rest: deque[_Item] = deque()
        for item in self._line:
            mine = len(batch) < limit and item.goes_with(head) and not item.result.done()
            (batch if mine else rest).append(item)
        self._line = deque(item for item in rest if not item.result.done())
        return batch, abreast

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
        self._metrics.batch.labels(batch[0].lane.model).observe(len(batch))
        return outcomes


class Cancelled(Exception):  # noqa: N818
    """The request for which a thread works has gone."""


class SharedEngine:
    """An engine for a thread that works on its own (guidance, video): each picture takes its turn
    among those of the other requests.

    Args:
        lane: the network.
        batcher, loop: where the pictures go, and the event loop it lives on.
        cancelled: set it to end the thread at its next picture.
    """

    def __init__(
        self,
        lane: Lane,
        batcher: Batcher,
        loop: asyncio.AbstractEventLoop,
        cancelled: threading.Event,
    ) -> None:
        self.name, self.batch_size = lane.engine.name, lane.engine.batch_size
        self.takes_guidance = takes_guidance(lane.engine)
        self._lane, self._batcher, self._loop, self._cancelled = lane, batcher, loop, cancelled

    def infer(self, batch: Array) -> Array:
        """See `Engine.infer`."""
        if self._cancelled.is_set():
            raise Cancelled
        turns = [
            asyncio.run_coroutine_threadsafe(self._batcher.infer(self._lane, picture), self._loop)
            for picture in batch
        ]
        return np.stack([turn.result() for turn in turns])[:, None]

    def for_many(self) -> tuple[SharedEngine, int]:
        """As many callers as the network itself takes, see `engines.base.for_many`."""
        return self, self._lane.callers
