"""When what happens in a run: steps, epochs, learning rate and sample numbers as pure functions.

Nothing here has a state, so a resumed run needs the number of its step and nothing else.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

from birefnet.training.recipe import ScheduleSettings

LEAST_STEPS_BETWEEN_VALIDATIONS = 50  # where none are asked for: tiny sets have tiny epochs


@dataclass(frozen=True)
class Plan:
    """A schedule applied to a number of pictures and processes.

    A *step* is one of the optimiser; it takes `accumulate` *parts*, and in each part every process
    computes `batch_size` pictures. Pictures are numbered through the whole run.

    Attributes:
        settings: the schedule.
        epoch_length: pictures per epoch.
        processes: that train together.
    """

    settings: ScheduleSettings
    epoch_length: int
    processes: int = 1

    @property
    def pictures_per_part(self) -> int:
        """Of all processes together."""
        return self.settings.batch_size * self.processes

    @property
    def pictures_per_step(self) -> int:
        """Of all parts and processes together."""
        return self.pictures_per_part * self.settings.accumulate

    @cached_property
    def steps(self) -> int:
        """Of the whole run."""
        if self.settings.steps is not None:
            return self.settings.steps
        return max(1, math.ceil(self.settings.epochs * self.epoch_length / self.pictures_per_step))

    @cached_property
    def epochs(self) -> int:
        """Of the whole run, the last one possibly incomplete."""
        if self.settings.steps is None:
            return self.settings.epochs
        return max(1, math.ceil(self.steps * self.pictures_per_step / self.epoch_length))

    @property
    def steps_per_epoch(self) -> float:
        """Rarely a whole number: steps go over the ends of epochs, no picture is dropped."""
        return self.epoch_length / self.pictures_per_step

    def epoch(self, step: int) -> int:
        """The epoch, from 0, in which `step` begins."""
        return min(step * self.pictures_per_step // self.epoch_length, self.epochs - 1)

    def validates_after(self, step: int, every: int | None) -> bool:
        """Whether a validation follows after `step` steps.

        Args:
            every: steps between; `None`: after whole epochs that make at least 50 steps.
        """
        if step in (0, self.steps):
            return True
        if every is not None:
            return step % every == 0
        epochs = max(1, math.ceil(LEAST_STEPS_BETWEEN_VALIDATIONS / self.steps_per_epoch))
        return self._epochs_after(step) // epochs > self._epochs_after(step - 1) // epochs

    def _epochs_after(self, step: int) -> int:
        return step * self.pictures_per_step // self.epoch_length

    def factor(self, step: int) -> float:
        """Of the peak learning rate at `step`: linear warm-up, then the schedule's shape."""
        settings = self.settings
        if step < settings.warmup:
            return (step + 1) / settings.warmup
        if settings.shape == "cosine":
            done = (step - settings.warmup) / max(1, self.steps - settings.warmup)
            fall = 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
            return settings.last_factor + (1 - settings.last_factor) * fall
        if settings.shape == "step":
            epoch = self.epoch(step)
            passed = [m for m in settings.milestones if epoch >= (m if m >= 0 else self.epochs + m)]
            return settings.step_factor ** len(passed)
        return 1.0

    def numbers(self, part: int, rank: int) -> range:
        """Which pictures process `rank` computes in `part`, counted through the whole run."""
        first = part * self.pictures_per_part + rank * self.settings.batch_size
        return range(first, first + self.settings.batch_size)
