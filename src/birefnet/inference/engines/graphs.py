"""CUDA graphs: a network's thousand launches recorded once per shape, then replayed as one.

A graph holds for one shape of the batch. Batches are filled up to the next of a few sizes, and the
graphs used last are kept. A shape is recorded when it has been met a few times, for a folder of
pictures at their native resolutions would otherwise record each and replay none. It takes the place
of another only if that one was not used since this one was met before, and a shape whose graph was
dropped must come back twice as often: shapes in rotation are not recorded again and again.
"""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, Protocol
from weakref import WeakSet

from birefnet.errors import needs_extra

with needs_extra("torch", __name__):
    import torch
    from torch import Tensor

from birefnet.network.execution import retained

KEPT = 4  # graphs; each keeps the memory of one forward pass, which they share as far as they can
MEETINGS = 3  # of a shape until it is recorded
WARM_UPS = 2  # passes before recording: libraries choose their kernels, caches fill
_REMEMBERED = 256  # shapes whose meetings are counted
# Largest difference of a replay from the pass itself, as a share of the largest value: both run
# the same kernels, but those that add in parallel may round in another order.
_TOLERANCE = 1e-2

# While one thread records, no other may record or empty the cache: both wait for the whole device,
# which ends a recording with an error. Passes of other threads go on meanwhile.
_recording = Lock()


@dataclass(frozen=True)
class Recording:
    """A recorded pass: fill `input`, call `replay`, read `output` before the next replay.

    `kept` are tensors that the pass reads by address, and which must live as long.
    """

    input: Tensor
    output: Tensor
    replay: Callable[[], None]
    kept: list[Any] = field(default_factory=list)


class Recorder(Protocol):
    """Records a function of one tensor; `CudaRecorder` does it on a GPU."""

    def __call__(self, function: Callable[[Tensor], Tensor], example: Tensor) -> Recording: ...


class CudaRecorder:
    """Records CUDA graphs of one device into one pool of memory, on a stream of its own."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._stream: torch.cuda.Stream | None = None
        self._graphs: WeakSet[torch.cuda.CUDAGraph] = WeakSet()

    def __call__(self, function: Callable[[Tensor], Tensor], example: Tensor) -> Recording:
        """A recording whose first replay gave what `function` gives.

        Raises:
            RuntimeError: it cannot be recorded, or gave something else.
        """
        with (
            torch.cuda.device(self.device),
            _recording,
            # A recording that fails would leave its stream as the current one.
            torch.cuda.stream(torch.cuda.current_stream(self.device)),
        ):
            try:
                return self._run(function, example)
            except RuntimeError as error:
                if isinstance(error.__context__, torch.OutOfMemoryError):
                    raise error.__context__ from None
                raise

    def _run(self, function: Callable[[Tensor], Tensor], example: Tensor) -> Recording:
        # Without a stream of its own, a recording would use one that all devices share.
        self._stream = stream = self._stream or torch.cuda.Stream(self.device)
        held = example.clone()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                expected = function(held)
        graph = torch.cuda.CUDAGraph()
        # A pool lives as long as one of its graphs.
        pool = next((other.pool() for other in self._graphs), None)
        with (
            retained() as kept,
            torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"),
        ):
            output = function(held)
        self._graphs.add(graph)
        torch.cuda.current_stream().wait_stream(stream)
        output.fill_(float("nan"))  # what a replay that does nothing leaves
        graph.replay()
        _compare(output, expected)
        return Recording(held, output, graph.replay, kept)


def _compare(replayed: Tensor, expected: Tensor) -> None:
    """RuntimeError where a replay gave other numbers than the pass itself."""
    expected = expected.float()
    limit = _TOLERANCE * float(expected.abs().nan_to_num(0, 0, 0).max())
    if not torch.allclose(replayed.float(), expected, rtol=0, atol=limit, equal_nan=True):
        raise RuntimeError("the first replay gave other numbers than the network itself")


def empty_cache(device: torch.device) -> None:
    """Give memory that torch keeps for later, but nothing uses, back to the device."""
    module = getattr(torch, device.type)
    if hasattr(module, "empty_cache"):
        with _recording:
            module.empty_cache()


@dataclass
class _Meetings:
    """Of one shape: how often it is to come until it is recorded, and when it came last."""

    missing: int = MEETINGS
    needed: int = MEETINGS
    last: int = 0


class GraphCache:
    """Runs a function of a batch by recordings, one for each shape that comes back.

    Args:
        function: the same operations for every batch of one shape; no Python in between counts.
        record: makes a recording.
        kept: how many recordings to keep, those used last.

    Attributes:
        recorded: how many recordings were made.
        dropped: how many of them were dropped, for others or for want of memory.
        replayed: how many batches were replays.

    The results are those of `function`: where recording fails, one warning is given and the
    function itself is called from then on. Not for several threads at a time.
    """

    def __init__(
        self, function: Callable[[Tensor], Tensor], record: Recorder, *, kept: int = KEPT
    ) -> None:
        self.function = function
        self.kept = kept
        self.recorded = self.dropped = self.replayed = 0
        self._record = record
        self._recordings: OrderedDict[tuple[int, ...], Recording] = OrderedDict()
        self._met: OrderedDict[tuple[int, ...], _Meetings] = OrderedDict()
        self._calls = 0
        self._works = True

    def __call__(self, batch: Tensor) -> Tensor:
        """`function(batch)`; the result is overwritten by the next call.

        Raises:
            torch.OutOfMemoryError: not enough memory even without recordings.
        """
        if not self._works:
            return self.function(batch)
        shape = (batch_bucket(len(batch)), *batch.shape[1:])
        is_due = self._meet(shape)
        recording = self._try_to_record(batch, shape) if is_due else self._recordings.get(shape)
        if recording is None:
            return self.function(batch)
        self._recordings.move_to_end(shape)
        recording.input[: len(batch)].copy_(batch)
        recording.replay()
        self.replayed += 1
        return recording.output[: len(batch)]

    def drop(self) -> None:
        """Forget all recordings; their memory is free once the cache is emptied."""
        for shape in list(self._recordings):
            self._drop(shape)

    def _meet(self, shape: tuple[int, ...]) -> bool:
        """Count a meeting; whether the shape is to be recorded now."""
        self._calls += 1
        met = self._met.setdefault(shape, _Meetings())
        self._met.move_to_end(shape)
        if len(self._met) > _REMEMBERED:
            self._met.popitem(last=False)
        before, met.last = met.last, self._calls
        met.missing -= 1
        if shape in self._recordings or met.missing > 0:
            return False
        if len(self._recordings) < self.kept:
            return True
        oldest = self._met.get(next(iter(self._recordings)))
        return oldest is None or oldest.last < before

    def _drop(self, shape: tuple[int, ...]) -> None:
        del self._recordings[shape]
        self.dropped += 1
        self._postpone(shape)

    def _postpone(self, shape: tuple[int, ...]) -> None:
        met = self._met.get(shape)
        if met is not None:
            met.needed *= 2
            met.missing = met.needed

    def _try_to_record(self, batch: Tensor, shape: tuple[int, ...]) -> Recording | None:
        while len(self._recordings) >= self.kept:  # before recording, to have its memory
            self._drop(next(iter(self._recordings)))
        example = batch.new_zeros(shape)
        example[: len(batch)] = batch
        recording = None
        for _ in range(2):
            try:
                recording = self._record(self.function, example)
                break
            except torch.OutOfMemoryError:
                pass
            except RuntimeError as error:
                self._give_up(str(error).splitlines()[0])
                return None
            self.drop()
            empty_cache(batch.device)
        if recording is None:  # the pass itself may still fit
            self._postpone(shape)
            return None
        self._recordings[shape] = recording
        self.recorded += 1
        return recording

    def _give_up(self, reason: str) -> None:
        self._works = False
        self.drop()
        warnings.warn(
            f"CUDA graphs could not be recorded ({reason}); the network runs without them, equal "
            "and slower at small batches",
            RuntimeWarning,
            stacklevel=3,
        )


def batch_bucket(size: int) -> int:
    """The batch size that `size` pictures are filled up to: a power of two, or a multiple of 8."""
    if size > 8:
        return -(-size // 8) * 8
    return 1 << (size - 1).bit_length()
