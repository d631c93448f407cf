"""CUDA graphs: a network's thousand launches recorded once per shape, then replayed as one.

A graph holds for one shape of the batch. Batches are filled up to the next of a few sizes, and the
graphs used last are kept; a shape is recorded when it is met for the second time, for a folder of
pictures at their native resolutions would otherwise record each and replay none.
"""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from birefnet.network.eager import keeping

KEPT = 4  # graphs; each keeps the memory of one forward pass, which they share as far as they can
WARM_UPS = 2  # passes before recording: libraries choose their kernels, caches fill
_REMEMBERED = 256  # shapes that were met once


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
    """Records CUDA graphs into one pool of memory."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._pool: Any = None

    def __call__(self, function: Callable[[Tensor], Tensor], example: Tensor) -> Recording:
        with torch.cuda.device(self.device):
            held = example.clone()
            # Work before recording must run on another stream than the default one.
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(WARM_UPS):
                    function(held)
            torch.cuda.current_stream().wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            with keeping() as kept, torch.cuda.graph(graph, pool=self._pool):
                output = function(held)
            self._pool = graph.pool()
            return Recording(held, output, graph.replay, kept)


class GraphCache:
    """Runs a function of a batch by recordings, one for each shape that comes back.

    Args:
        function: the same operations for every batch of one shape; no Python in between counts.
        record: makes a recording.
        kept: how many recordings to keep, those used last.

    The results are those of `function`: where recording fails, one warning is given and the
    function itself is called from then on. Not for several threads at a time.
    """

    def __init__(
        self, function: Callable[[Tensor], Tensor], record: Recorder, *, kept: int = KEPT
    ) -> None:
        self.function = function
        self.kept = kept
        self._record = record
        self._recordings: OrderedDict[tuple[int, ...], Recording] = OrderedDict()
        self._met: OrderedDict[tuple[int, ...], None] = OrderedDict()
        self._works = True

    def __call__(self, batch: Tensor) -> Tensor:
        """`function(batch)`; the result is overwritten by the next call."""
        if not self._works:
            return self.function(batch)
        shape = (batch_bucket(len(batch)), *batch.shape[1:])
        recording = self._recordings.get(shape)
        if recording is None:
            if not self._is_back(shape):
                return self.function(batch)
            recording = self._try_to_record(batch, shape)
            if recording is None:
                return self.function(batch)
        self._recordings.move_to_end(shape)
        recording.input[: len(batch)].copy_(batch)
        recording.replay()
        return recording.output[: len(batch)]

    def _is_back(self, shape: tuple[int, ...]) -> bool:
        if shape in self._met:
            del self._met[shape]
            return True
        self._met[shape] = None
        while len(self._met) > _REMEMBERED:
            self._met.popitem(last=False)
        return False

    def _try_to_record(self, batch: Tensor, shape: tuple[int, ...]) -> Recording | None:
        while len(self._recordings) >= self.kept:  # before recording, to have its memory
            self._recordings.popitem(last=False)
        example = batch.new_zeros(shape)
        example[: len(batch)] = batch
        try:
            recording = self._record(self.function, example)
        except torch.OutOfMemoryError:
            self._recordings.clear()  # the pass itself may still fit
            self._give_up("there is not enough memory")
            return None
        except RuntimeError as error:
            self._give_up(str(error).splitlines()[0])
            return None
        self._recordings[shape] = recording
        return recording

    def _give_up(self, reason: str) -> None:
        self._works = False
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
