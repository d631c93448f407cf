"""From numbered samples to the batches of one process, in order, from any step on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, TypeVar

from birefnet.errors import BiRefNetError, needs_extra

with needs_extra("torch", __name__):
    import torch
    from torch.utils.data import DataLoader, Dataset

from birefnet.processes import available_cores
from birefnet.training.data.batch import Batch, DeviceBatch
from birefnet.training.data.folders import DataError
from birefnet.training.interrupt import ignore_interrupts
from birefnet.training.schedule import Plan

MOST_WORKERS = 8
_PREFETCHED = 2  # batches per worker

T = TypeVar("T")


class TrainingData(Protocol):
    """The data that a `Trainer` needs: each sample is a pure function of its number.

    `birefnet.training.data.dataset.TrainingDataset` is one.
    """

    @property
    def epoch_length(self) -> int:
        """Pictures per epoch."""
        ...

    def size_at(self, step: int) -> tuple[int, int]:
        """Height and width of the pictures of a step [px], multiples of 32."""
        ...

    def batch(self, size: tuple[int, int], numbers: Sequence[int]) -> Batch:
        """Those samples at that size; called in helper processes, so it can be pickled."""
        ...

    def to_device_batch(self, samples: Batch, device: torch.device, step: int) -> DeviceBatch:
        """The samples of `batch` on the training device, normalised."""
        ...


class _Parts(Dataset[tuple[int, Batch | DataError]]):
    """The batches of one process by the number of the part (see `Plan`)."""

    def __init__(self, data: TrainingData, plan: Plan, rank: int) -> None:
        self.data, self.plan, self.rank = data, plan, rank

    def __getitem__(self, part: int) -> tuple[int, Batch | DataError]:
        size = self.data.size_at(part // self.plan.settings.accumulate)
        try:
            return part, self.data.batch(size, self.plan.numbers(part, self.rank))
        except BiRefNetError as error:  # said by the main process, without a worker's traceback
            return part, DataError(str(error))


def batches(
    data: TrainingData,
    plan: Plan,
    *,
    rank: int,
    first: int,
    last: int,
    workers: int,
    pinned: bool = False,
) -> Iterator[list[tuple[int, Batch]]]:
    """The parts of each step from `first` to before `last`: (number of the part, its samples).

    Args:
        rank: which of the processes this is.
        workers: helper processes that prepare whole batches; 0 prepares them here.
        pinned: keep batches in memory that a GPU copies from while it computes.

    Raises:
        DataError: a picture cannot be read.
    """
    accumulate = plan.settings.accumulate
    dataset = _Parts(data, plan, rank)
    loader = DataLoader(
        dataset,
        batch_size=None,  # each item is a batch already
        sampler=range(first * accumulate, last * accumulate),
        collate_fn=_as_is,
        num_workers=workers,
        pin_memory=pinned,
        prefetch_factor=_PREFETCHED if workers else None,
        # A fork of a process that has computed with OpenMP can hang in its first operation.
        multiprocessing_context="spawn" if workers else None,
        worker_init_fn=_start_worker if workers else None,
    )
    parts: list[tuple[int, Batch]] = []
    for part, samples in loader:
        if isinstance(samples, DataError):
            raise samples
        parts.append((part, samples))
        if len(parts) == accumulate:
            yield parts
            parts = []


def _as_is(item: T) -> T:
    return item


def _start_worker(worker: int) -> None:
    ignore_interrupts()
    torch.set_num_threads(1)


def fitting_workers(processes: int) -> int:
    """Helper processes for each of the `processes` of this machine; none on one or two cores."""
    return max(0, min(MOST_WORKERS, available_cores() // max(1, processes) - 1))
