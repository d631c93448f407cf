"""Pictures that appear in folders while the command runs."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

from birefnet.cli.remove.jobs import Job
from birefnet.files import identity, version_of

SETTLED = 2.0  # seconds without a change that make a file complete
PAUSE = 1.0  # seconds between two searches, at least
SEARCHED = 20_000  # files a second; a search should not take more than half of the time


class Watch:
    """Looks through folders again and again.

    A file is ready when its size and time of change have stood still for `settled` seconds, so a
    file that is still being copied is left alone. A file that changes later is ready once more.

    Args:
        search: gives all jobs there are, at each iteration.
        settled: see above.
    """

    def __init__(self, search: Iterable[Job], settled: float = SETTLED) -> None:
        self._search = search
        self._settled = settled
        self._waiting: dict[str, tuple[str, float]] = {}
        self._given: set[int] = set()
        self.pause = PAUSE

    def ready(self) -> Iterator[Job]:
        """One search: jobs that have become ready, each version of a file once."""
        waiting: dict[str, tuple[str, float]] = {}
        count = 0
        for job in self._search:
            if job.source is None:
                continue
            count += 1
            try:
                version = version_of(job.source)
            except OSError:
                continue  # it has gone again
            name, now = identity(job.source), time.monotonic()
            key = hash((name, version))
            if key in self._given:
                continue
            last, since = self._waiting.get(name, ("", now))
            if last == version and now - since >= self._settled:
                self._given.add(key)
                yield job
            else:
                waiting[name] = (version, since if last == version else now)
        self._waiting = waiting
        self.pause = max(PAUSE, count / SEARCHED)
