"""The terminal: lines on standard error, and progress: one bar at a time, and none where standard
error is a file or pipe."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

# A terminal has its own width; a file or pipe gets lines that are not broken.
_WIDTH_OF_FILES = 200

_open: list[Progress | None] = []  # the inner ones last; none is shown inside a None


class Update(Protocol):
    """Sets how many are done, of how many if that is known, and another label."""

    def __call__(
        self, done: int, total: int | None = None, label: str | None = None, /
    ) -> None: ...


def console(*, stderr: bool = False) -> Console:
    """A console as wide as the terminal, or wide enough where it is none."""
    from rich.console import Console

    made = Console(stderr=stderr)
    return made if made.is_terminal else Console(stderr=stderr, width=_WIDTH_OF_FILES)


@contextmanager
def progress_bar(label: str, *, show: bool = True, in_bytes: bool = False) -> Iterator[Update]:
    """A bar on standard error, where that is a terminal; it moves to and fro until it has a total.

    A bar inside another one, such as that of a download, takes its line until it ends.

    Args:
        label: what is done.
        show: false for no bar, and none inside it either: the reader is a program.
        in_bytes: the numbers are bytes.
    """
    is_shown = show and None not in _open and sys.stderr.isatty()
    bar = _new_bar(label, in_bytes=in_bytes) if is_shown else None
    for outer in filter(None, _open[-1:]):
        outer.stop()
    _open.append(bar)
    if bar is not None:
        bar.start()
    try:
        yield partial(_update, bar)
    finally:
        if bar is not None:
            bar.stop()
        was_last = _open[-1] is bar
        _open.remove(bar)  # not always the last: a server downloads in several threads
        for outer in filter(None, _open[-1:] if was_last else ()):
            outer.start()


def _update(
    bar: Progress | None, done: int, total: int | None = None, label: str | None = None, /
) -> None:
    if bar is not None:
        bar.update(bar.task_ids[0], completed=done, total=total, description=label)


def _new_bar(label: str, *, in_bytes: bool) -> Progress:
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
    from rich.text import Text

    class Count(ProgressColumn):
        """How many of how many; without a total, the time so far."""

        def render(self, task: Task) -> Text:
            column = TimeElapsedColumn() if task.total is None else MofNCompleteColumn()
            return column.render(task)

    counts = (DownloadColumn(), TransferSpeedColumn()) if in_bytes else (Count(),)
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        *counts,
        TimeRemainingColumn(),
        console=console(stderr=True),
        transient=True,
        redirect_stdout=sys.stdout.isatty(),  # else what is printed would not reach the pipe
    )
    bar.add_task(label, total=None)
    return bar


def say(text: str) -> None:
    """A line for people: on standard error, for standard output may carry a picture."""
    _print(text)


def warn(text: str) -> None:
    """A line in yellow."""
    _print(text, "yellow")


def fail(text: str) -> None:
    """A line in red."""
    _print(f"Error: {text}", "red")


def _print(text: str, colour: str | None = None) -> None:
    import typer  # only the command needs it

    typer.secho(text, err=True, fg=colour)


def is_debugging() -> bool:
    """Whether errors are shown whole: BIREFNET_DEBUG=1 in the environment."""
    return os.environ.get("BIREFNET_DEBUG", "") not in ("", "0")
