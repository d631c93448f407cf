"""Work of many items in several processes."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from typing import TypeVar

import cv2

from birefnet.errors import UsageError

Item = TypeVar("Item")
Result = TypeVar("Result")

PORTION = 64  # chunks; all results that nobody has taken yet wait in memory


def spread(
    work: Callable[[Item], Result], items: Sequence[Item], jobs: int, *, chunk: int
) -> Iterator[Result]:
    """The results in order.

    Args:
        work: of one item; it can be pickled.
        items: at least one.
        jobs: processes at most; 0 takes one per core. Each process imports the main module again.
        chunk: items that a process takes at a time.

    Raises:
        UsageError: fewer than 0 jobs.
    """
    if jobs < 0:
        raise UsageError(f"jobs came as {jobs}; give 0 for all cores, or how many")
    processes = min(jobs or available_cores(), -(-len(items) // chunk))
    if processes <= 1:
        yield from map(work, items)
        return
    # Spawned, because a forked copy of threads that hold locks may hang.
    with ProcessPoolExecutor(
        processes, mp_context=get_context("spawn"), initializer=cv2.setNumThreads, initargs=(1,)
    ) as executor:
        for start in range(0, len(items), PORTION * chunk):
            with _ctrl_c_is_ours():
                results = executor.map(
                    work, items[start : start + PORTION * chunk], chunksize=chunk
                )
            yield from results


def available_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def _ctrl_c_is_ours() -> Iterator[None]:
    """Processes that are started meanwhile do not get the Ctrl-C of their group: this one ends
    them, and they would each print a traceback."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
