"""How long the steps of a run take: the time that is left, and when to save."""

from __future__ import annotations

import time
from collections import deque

_WARM_UP = 2  # steps that start workers, compile kernels and fill caches
_LEAST = 2  # timed steps before anything is said
_MOST = 100  # timed steps that count, the latest
_LOST = 0.1  # share of a run's time that a crash may cost
_SAVING = 0.05  # share of the time that saving may take


class Pace:
    """Times the steps, validations and saves of this process; seconds throughout."""

    def __init__(self) -> None:
        self._started = self._saved_at = time.monotonic()
        self._saving = 0.0
        self._skipped = 0
        self._steps: deque[float] = deque(maxlen=_MOST)
        self._validation: float | None = None

    def stepped(self, seconds: float) -> None:
        """A step has taken so long, without validation and saving."""
        if self._skipped < _WARM_UP:
            self._skipped += 1
        else:
            self._steps.append(seconds)

    def validated(self, seconds: float) -> None:
        """A validation has taken so long."""
        self._validation = seconds

    def saved(self, seconds: float) -> None:
        """A save has taken so long."""
        self._saving, self._saved_at = seconds, time.monotonic()

    def seconds_left(self, steps: int, validations: int) -> float | None:
        """Until so many more steps and validations are done; `None` while that is not known."""
        if len(self._steps) < _LEAST:
            return None
        mean = sum(self._steps) / len(self._steps)
        return steps * mean + validations * (self._validation or 0.0)

    def is_save_due(self, minutes: float) -> bool:
        """Whether to save now; see `LoopSettings.save_minutes`."""
        now = time.monotonic()
        wait = min(60 * minutes, _LOST * (now - self._started))
        return minutes > 0 and now - self._saved_at >= max(wait, self._saving / _SAVING)
