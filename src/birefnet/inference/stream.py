"""Many pictures through one network: read ahead, run several at a time, leave in their order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from birefnet.errors import BiRefNetError
from birefnet.inference.engines.base import Engine, concurrent
from birefnet.inference.prepared import Prepared
from birefnet.matte import Matte

Run = Callable[[list[Prepared], Engine], list[Matte]]
"""Prepared pictures of one size and the engine to run them → their mattes."""


@dataclass(eq=False)
class Slot:
    """The place of one picture: first its preparation, then the run it is in, then its result.

    Attributes:
        prepared: what the reading thread makes; taken away by the run.
        run: of the batch that it is part of, and its number there.
        result: a matte, an error that takes its place, or one that ends the stream.
    """

    prepared: Future[Prepared] | None = None
    run: tuple[Future[list[Matte]], int] | None = None
    result: Matte | Exception | None = field(default=None)

    @property
    def is_waiting(self) -> bool:
        """Whether its turn at the network is still to come."""
        return self.run is None and self.result is None

    def wait(self) -> Prepared | None:
        """The prepared picture; `None` if it could not be made: the error is the result."""
        assert self.prepared is not None
        try:
            return self.prepared.result()
        except Exception as error:
            self.prepared, self.result = None, error
            return None

    def settle(self) -> Matte | Exception:
        """The result, when its run has ended."""
        if self.run is not None:
            future, number = self.run
            try:
                self.result = future.result()[number]
            except Exception as error:
                self.result = error
        assert self.result is not None
        return self.result


class Stream:
    """A window slides over the pictures: they are read ahead, and the first leaves it.

    Where the engine gains from concurrent calls (`engines.base.concurrent`), so many batches run at
    once, and one more stands ready. A picture that is alone has all cores.

    Args:
        engine: runs the network.
        prepare: a source → its prepared picture; called in reading threads.
        run: see `Run`; called in the stream's own thread, or in several.
        snapshot: a source → the same in memory of its own; called before the next one is drawn.
        batch_size: pictures of one size that run together.
        readers: threads that prepare.
    """

    def __init__(
        self,
        engine: Engine,
        prepare: Callable[[Any], Prepared],
        run: Run,
        *,
        snapshot: Callable[[Any], Any] = lambda source: source,
        batch_size: int,
        readers: int,
    ) -> None:
        self._engine = engine
        self._prepare = prepare
        self._run = run
        self._snapshot = snapshot
        self._batch_size = batch_size
        self._readers = readers
        self._concurrency = 1
        self._exhausted = False
        self._slots: deque[Slot] = deque()
        self._pool: ThreadPoolExecutor | None = None

    def results(self, sources: Iterator[Any]) -> Iterator[Matte | BiRefNetError]:
        """Mattes and errors in the order of the sources; another exception ends the stream."""
        readers = ThreadPoolExecutor(self._readers, thread_name_prefix="birefnet-decode")
        try:
            while self._draw(sources, readers):
                self._start()
                result = self._slots.popleft().settle()
                if isinstance(result, Exception) and not isinstance(result, BiRefNetError):
                    raise result
                yield result
        finally:
            for pool in (readers, self._pool):
                if pool is not None:
                    pool.shutdown(wait=False, cancel_futures=True)

    def _draw(self, sources: Iterator[Any], readers: ThreadPoolExecutor) -> bool:
        """Fill the window; whether there is anything in it."""
        size, concurrency = self._batch_size, self._concurrency
        ahead = size if concurrency == 1 else concurrency * size
        window = self._readers + size - 1 + ahead
        slots = self._slots
        while len(slots) < window and not self._exhausted:
            slot = Slot()
            try:
                source = next(sources)
            except StopIteration:
                self._exhausted = True
                break
            except Exception as error:
                # The caller's own iterator failed: say so once what came before is out.
                slot.result, self._exhausted = error, True
            else:
                try:
                    slot.prepared = readers.submit(self._prepare, self._snapshot(source))
                except Exception as error:
                    slot.result = error
            slots.append(slot)
        return bool(slots)

    def _start(self) -> None:
        """Start runs until the network has enough to do and the first slot is in one."""
        while True:
            waiting = [slot for slot in self._slots if slot.is_waiting]
            first = self._slots[0]
            is_urgent = first.is_waiting
            if not waiting or (not is_urgent and not self._has_room(waiting[0])):
                return
            batch = self._batch(waiting)
            if not batch:
                continue  # errors took the places
            prepared = [slot.prepared.result() for slot in batch if slot.prepared]
            engine, concurrency = self._engine, 1
            if not (self._exhausted and len(self._slots) == 1 and self._concurrency == 1):
                engine, concurrency = concurrent(self._engine, prepared[0].input[0].size)
            self._concurrency = max(self._concurrency, concurrency)
            for slot in batch:
                slot.prepared = None
            future = self._submit(prepared, engine, concurrency)
            for number, slot in enumerate(batch):
                slot.run = (future, number)

    def _has_room(self, following: Slot) -> bool:
        """Whether another batch may start that nobody waits for yet."""
        assert following.prepared is not None
        running = {slot.run[0] for slot in self._slots if slot.run and not slot.run[0].done()}
        return (
            self._concurrency > 1
            and len(running) <= self._concurrency
            and following.prepared.done()
        )

    def _batch(self, waiting: Iterable[Slot]) -> list[Slot]:
        """The first slot that waits, and with it the next ones of its network size."""
        batch: list[Slot] = []
        shape: tuple[int, ...] = ()
        for slot in waiting:
            prepared = slot.wait()
            if prepared is None:
                if not batch:
                    return []
            elif not batch or prepared.input.shape == shape:
                batch.append(slot)
                shape = prepared.input.shape
            if len(batch) == self._batch_size:
                break
        return batch

    def _submit(
        self, prepared: list[Prepared], engine: Engine, concurrency: int
    ) -> Future[list[Matte]]:
        if concurrency > 1:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(concurrency, thread_name_prefix="birefnet-network")
            return self._pool.submit(self._run, prepared, engine)
        for slot in self._slots:  # what runs side by side ends first: this one takes all cores
            if slot.run is not None:
                slot.run[0].exception()
        future: Future[list[Matte]] = Future()
        try:
            future.set_result(self._run(prepared, engine))
        except Exception as error:
            future.set_exception(error)
        return future
