"""Progress of a run: a bar with the losses on a terminal, else a plain line now and then."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Column

SECONDS_BETWEEN_UPDATES = 1.0
SECONDS_BETWEEN_LINES = 15.0


@dataclass(frozen=True)
class Report:
    """How the training goes, averaged over the last steps.

    Attributes:
        step, steps: done, and of the whole run.
        epoch, epochs: the one that is under way, from 1, and of the whole run.
        losses: `loss`, then what each term adds to it.
        rate: learning rate of the decoder.
        pictures_per_second: of all processes together.
        memory: bytes that the training holds on its device.
        seconds_left: until the end of the run, or `None` while that is not known.
    """

    step: int
    steps: int
    epoch: int
    epochs: int
    losses: Mapping[str, float]
    rate: float
    pictures_per_second: float
    memory: int
    seconds_left: float | None = None

    def text(self) -> str:
        """All but the number of the step and the time that is left, in one line."""
        total = self.losses.get("loss", 0.0)
        parts = " ".join(f"{k} {_short(v)}" for k, v in self.losses.items() if k != "loss")
        return (
            f"epoch {self.epoch}/{self.epochs}  loss {_short(total)} ({parts})  "
            f"rate {self.rate:.1e}  {_short(self.pictures_per_second)} pictures/s  "
            f"{self.memory / 2**30:.1f} GB"
        )

    def left(self) -> str:
        """The time that is left, or nothing where it is not known."""
        return "" if self.seconds_left is None else f"{duration(self.seconds_left)} left"


@dataclass
class Terminal:
    """Says how a run goes: by a progress bar where `console` is a terminal, else by a line at most
    every 15 seconds; without a console not at all.
    """

    console: Console | None = None
    _bar: Progress | None = field(default=None, init=False)
    _next: float = field(default=0.0, init=False)

    def start(self, done: int, steps: int) -> None:
        """The training starts, or goes on, after `done` of `steps`."""
        if self.console and self.console.is_terminal:
            columns = (
                TextColumn("step"),
                MofNCompleteColumn(),
                BarColumn(bar_width=16),
                TextColumn("{task.fields[left]}"),
                # The rest of the line, cut off where that is short; the others keep their width.
                TextColumn("{task.description}", table_column=Column(ratio=1, no_wrap=True)),
            )
            self._bar = Progress(*columns, console=self.console, transient=True, expand=True)
            self._bar.start()
            self._bar.add_task("", total=steps, completed=done, left="")

    def wants_report(self) -> bool:
        """Whether it is time for another report; asked after each step."""
        return self.console is not None and time.monotonic() >= self._next

    def report(self, report: Report) -> None:
        """After a step."""
        now = time.monotonic()
        if self._bar is not None:
            self._next = now + SECONDS_BETWEEN_UPDATES
            task = self._bar.task_ids[0]
            self._bar.update(
                task, completed=report.step, description=report.text(), left=report.left()
            )
            return
        self._next = now + SECONDS_BETWEEN_LINES
        self.say(f"step {report.step}/{report.steps}  {report.text()}  {report.left()}".rstrip())

    def say(self, text: str) -> None:
        """A line that stays."""
        if self.console:
            self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """The training has ended."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def duration(seconds: float) -> str:
    """Such as `45 s`, `12 min`, `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _short(value: float) -> str:
    """About three digits."""
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
