"""Tables and progress bars of the commands that measure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

# A terminal has its own width; a file or pipe gets lines that are not broken.
_WIDTH_OF_FILES = 200

Jobs = Annotated[
    int, typer.Option("--jobs", "-j", metavar="N", help="Processes; 0 for one per core.")
]


def console(*, stderr: bool = False) -> Console:
    """A console as wide as the terminal, or wide enough where it is none."""
    from rich.console import Console

    made = Console(stderr=stderr)
    return made if made.is_terminal else Console(stderr=stderr, width=_WIDTH_OF_FILES)


@contextmanager
def progress_bar(label: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error, where that is a terminal; call it with how many are done of all."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Remaining())
    target = console(stderr=True)
    is_off = not target.is_terminal
    with Progress(*columns, console=target, transient=True, disable=is_off) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
