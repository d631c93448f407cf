"""Pictures through one network: prepared, run and restored; many are read ahead, run several at a
time, and leave in their order. A `Profile` adds up the time of each stage."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from birefnet.errors import BiRefNetError
from birefnet.imaging.geometry import Geometry
from birefnet.imaging.picture import Picture
from birefnet.imaging.views import View, apply_view, merge_views
from birefnet.inference.engines.base import Engine, concurrent
from birefnet.matte import Matte


@dataclass(frozen=True, eq=False)
class Prepared:
    """A picture on its way into the network.

    Attributes:
        picture: as decoded.
        geometry: between it and the input.
        input: of the network, float32 [3,h,w], normalised; of its largest view.
        views: whose logits are averaged; none: the network sees `input` alone.
    """

    picture: Picture
    geometry: Geometry
    input: NDArray[np.float32]
    views: tuple[View, ...] = ()

    def inputs(self) -> list[NDArray[np.float32]]:
        """The input of each view, [3,h,w], for those who run them one by one."""
        return [apply_view(self.input[None], view)[0] for view in self.views] or [self.input]

    def merge(self, planes: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Logits [h,w] of all `inputs` → what `restore` takes."""
        if not self.views:
            return planes[0]
        return merge_views([plane[None, None] for plane in planes], self.views)[0, 0]

    def restore(self, logits: NDArray[np.float32]) -> Matte:
        """Logits [h,w] → matte at the picture's size.

        The sigmoid comes before the resize, as in the official inference. Nothing is stretched to
        its own minimum and maximum: a picture without an object keeps its small numbers.
        """
        alpha = self.geometry.restore(_sigmoid(logits))
        np.clip(alpha, 0, 1, out=alpha)
        if self.picture.alpha is not None:
            alpha *= self.picture.alpha
        return Matte(alpha, self.picture)


def infer(
    engine: Engine, inputs: NDArray[np.float32], views: Sequence[View] = ()
) -> NDArray[np.float32]:
    """Logits [B,1,h,w] of inputs [B,3,h,w], the mean of all views of them."""
    if not views:
        return engine.infer(inputs)
    return merge_views([engine.infer(apply_view(inputs, view)) for view in views], views)


def _sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """1 / (1 + exp(-x)) as tanh, which cannot overflow."""
    return np.float32(0.5) * (np.tanh(np.float32(0.5) * logits) + np.float32(1))


def mattes_of(batch: list[Prepared], engine: Engine, profile: Profile | None = None) -> list[Matte]:
    """The mattes of prepared pictures of one size, run together."""
    first = batch[0].input[None]
    inputs = first if len(batch) == 1 else np.stack([prepared.input for prepared in batch])
    with timed(profile, "network", len(batch)):
        logits = infer(engine, inputs, batch[0].views)
    with timed(profile, "restore", len(batch)):
        return [prepared.restore(plane[0]) for prepared, plane in zip(batch, logits, strict=True)]


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
        snapshot: a source → the same in memory of its own; called before the next one is drawn.
        batch_size: pictures of one size that run together.
        readers: threads that prepare.
        profile: where the time of each stage is added up.
    """

    def __init__(
        self,
        engine: Engine,
        prepare: Callable[[Any], Prepared],
        *,
        snapshot: Callable[[Any], object] = lambda source: source,
        batch_size: int,
        readers: int,
        profile: Profile | None = None,
    ) -> None:
        self._engine = engine
        self._prepare = prepare
        self._profile = profile
        self._snapshot = snapshot
        self._batch_size = batch_size
        self._readers = readers
        self._concurrency = 1
        self._exhausted = False
        self._slots: deque[Slot] = deque()
        self._pool: ThreadPoolExecutor | None = None

    def results(self, sources: Iterator[object]) -> Iterator[Matte | BiRefNetError]:
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

    def _draw(self, sources: Iterator[object], readers: ThreadPoolExecutor) -> bool:
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
            return self._pool.submit(mattes_of, prepared, engine, self._profile)
        for slot in self._slots:  # what runs side by side ends first: this one takes all cores
            if slot.run is not None:
                slot.run[0].exception()
        future: Future[list[Matte]] = Future()
        try:
            future.set_result(mattes_of(prepared, engine, self._profile))
        except Exception as error:
            future.set_exception(error)
        return future


STAGES = ("load", "decode", "prepare", "network", "restore", "refine", "encode", "write")
"""In the order in which a picture passes them; `load` is the model's, once."""


@dataclass(frozen=True)
class StageTime:
    """The time of one stage.

    Attributes:
        seconds: of all its runs together, in whichever thread.
        pictures: how many passed it.
    """

    seconds: float
    pictures: int

    @property
    def milliseconds(self) -> float:
        """Per picture."""
        return 1000 * self.seconds / max(self.pictures, 1)


class Profile:
    """Adds up the time of stages; threads may share it.

    Stages of different pictures overlap (reading and writing run beside the network), so the sum
    over stages may exceed `elapsed`: how far it does says how well they overlap.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._times: dict[str, StageTime] = {}
        self._start = time.perf_counter()

    @contextmanager
    def stage(self, name: str, pictures: int = 1) -> Iterator[None]:
        """Count the time inside the `with` block, also if it fails."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add(name, time.perf_counter() - start, pictures)

    def add(self, name: str, seconds: float, pictures: int = 1) -> None:
        with self._lock:
            before = self._times.get(name, StageTime(0.0, 0))
            self._times[name] = StageTime(before.seconds + seconds, before.pictures + pictures)

    @property
    def elapsed(self) -> float:
        """Seconds since the profile was made."""
        return time.perf_counter() - self._start

    @property
    def times(self) -> dict[str, StageTime]:
        """The stages so far, in the order of `STAGES`, other names behind them."""
        with self._lock:
            times = dict(self._times)
        order = [
            *(name for name in STAGES if name in times),
            *(n for n in times if n not in STAGES),
        ]
        return {name: times[name] for name in order}

    def to_dict(self) -> dict[str, Any]:
        """For JSON: seconds elapsed, and of each stage its seconds and pictures."""
        return {
            "elapsed": round(self.elapsed, 4),
            "stages": {
                name: {"seconds": round(spent.seconds, 4), "pictures": spent.pictures}
                for name, spent in self.times.items()
            },
        }


def timed(profile: Profile | None, name: str, pictures: int = 1) -> AbstractContextManager[None]:
    """`profile.stage(name, pictures)`, or nothing where nobody asked for a profile."""
    return nullcontext() if profile is None else profile.stage(name, pictures)
