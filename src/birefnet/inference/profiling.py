"""Where the time of a run goes: seconds and pictures of each stage, added up over all threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

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
