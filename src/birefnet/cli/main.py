"""The command line: one module per command, each of which imports its work when it is called."""

from __future__ import annotations

import codecs
import gc
import io
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

import birefnet
from birefnet.cli.options import (
    Interrupted,
    InterruptedCommand,
    examples,
    message_of,
    status_of,
)
from birefnet.errors import BiRefNetError
from birefnet.terminal import fail, is_debugging, warn

if TYPE_CHECKING:
    app: typer.Typer  # with all commands, built when it is asked for

# The module that adds a command by `register(app)`, in the order of `birefnet --help`. At the top
# they import only typer; a process that runs one command imports none of the others.
COMMANDS = {
    "remove": "birefnet.cli.remove.command",
    "export": "birefnet.cli.export",
    "bench": "birefnet.cli.bench.command",
    "video": "birefnet.cli.video",
    "serve": "birefnet.cli.serve",
    "ui": "birefnet.cli.ui",
    "rembg": "birefnet.compat.commands",
    "models": "birefnet.cli.models",
    "train": "birefnet.cli.train.command",
    "data": "birefnet.cli.data",
    "evaluate": "birefnet.cli.evaluate",
    "benchmark": "birefnet.cli.benchmark",
    "reproduce": "birefnet.cli.reproduce.command",
    "explain": "birefnet.cli.explain",
    "doctor": "birefnet.cli.doctor.command",
}

_PACKAGE = Path(birefnet.__file__).parent
_PLAIN = {"↑": "^", "↓": "v", "→": "->", "–": "-", "−": "-", "×": "x", "…": "...", "·": "|"}

EXAMPLES = examples("birefnet remove photo.jpg", "birefnet models list", "birefnet doctor")


def build(*names: str) -> typer.Typer:
    """The command line with these of `COMMANDS`."""
    app = typer.Typer(
        help="Cut the subject out of any picture with Bilateral Reference networks.",
        no_args_is_help=True,
        epilog=EXAMPLES,
        add_completion=len(names) == len(COMMANDS),
        pretty_exceptions_enable=False,
        rich_markup_mode=None,  # plain help: twice as quick, half as long
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_common)
    for name in names:
        import_module(COMMANDS[name]).register(app)
    return app


def _show_version(is_given: bool) -> None:
    if is_given:
        typer.echo(f"birefnet {birefnet.__version__}")
        raise typer.Exit


def _common(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    pass


def __getattr__(name: str) -> typer.Typer:
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()["app"] = whole = build(*COMMANDS)
    return whole


def main() -> None:
    """Entry point: runs the command, and says errors in one sentence (BIREFNET_DEBUG=1: whole)."""
    named = [name for name in sys.argv[1:2] if name in COMMANDS]
    try:
        run(build(*named or COMMANDS))
    finally:
        if "torch" not in sys.modules:  # whose libraries complain of what is not collected
            gc.freeze()  # the interpreter ends sooner if its last collections find nothing


def run(app: Callable[[], object]) -> None:
    """Call the app; an error becomes one red sentence on stderr and exit status 1.

    The status is 2 for a `UsageError`, as for what typer itself refuses. Ctrl-C and SIGTERM end
    the work with one sentence and 130 or 143. With BIREFNET_DEBUG=1 in the environment the
    traceback of an error is shown instead.
    """
    _quieten()
    _take_every_character()
    try:
        with _interruptible():
            app()
    except InterruptedCommand as end:
        warn(str(end))
        sys.exit(end.status)
    except BiRefNetError as error:
        if is_debugging():
            raise
        fail(message_of(error))
        sys.exit(status_of(error))
    except BrokenPipeError:  # the reader of our output has left, such as `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:  # a full disk, a folder that may not be written
        if is_debugging():
            raise
        fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        sys.exit(1)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C and SIGTERM raise `Interrupted`, so that unfinished work is tidied up.

    Signals that the caller ignores (`nohup`, a job in the background) or handles stay so.
    """
    if threading.current_thread() is not threading.main_thread():  # Python allows it only there
        yield
        return
    usual: dict[int, Callable[[int, FrameType | None], object] | signal.Handlers] = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGTERM: signal.SIG_DFL,
    }
    changed = [number for number, how in usual.items() if signal.getsignal(number) is how]
    process = os.getpid()

    def interrupt(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGTERM and os.getpid() != process:  # a forked helper has no work
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        raise Interrupted(number)

    for number in changed:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number in changed:
            signal.signal(number, usual[number])


def _take_every_character() -> None:
    """Let standard output and error take what their encoding lacks, such as cp1252 of a pipe under
    Windows: a plainer character, or the number of the character."""

    def plainer(error: UnicodeError) -> tuple[str | bytes, int]:
        if not isinstance(error, UnicodeEncodeError):
            raise error
        first = error.object[error.start]
        if first in _PLAIN:
            return _PLAIN[first], error.start + 1
        error.end = error.start + 1
        return codecs.backslashreplace_errors(error)

    codecs.register_error("birefnet-plainer", plainer)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors != "surrogateescape":
            stream.reconfigure(errors="birefnet-plainer")


def _quieten() -> None:
    """Say our own warnings in a line each, and none of the libraries that decode pictures."""
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    warnings.filterwarnings("ignore", module=r"PIL\.")
    if not isinstance(warnings.showwarning, _OneLine):
        warnings.showwarning = _OneLine(warnings.showwarning)


@dataclass(frozen=True)
class _OneLine:
    """In place of `warnings.showwarning`: our own in a line each, others as before."""

    others: Callable[..., None]

    def __call__(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if category is UserWarning and Path(filename).is_relative_to(_PACKAGE):
            warn(f"Warning: {message}")
        else:
            self.others(message, category, filename, lineno, file, line)
