"""Shared by the commands: messages, exit status, and options of one meaning."""

from __future__ import annotations

import codecs
import io
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Literal, TextIO, TypeVar

import typer

from birefnet.cli.options import Interrupted, InterruptedCommand, message_of, option
from birefnet.errors import BiRefNetError, UsageError, require
from birefnet.files import check_path
from birefnet.imaging import values
from birefnet.imaging.values import Resolution

LogLevel = Literal["critical", "error", "warning", "info", "debug", "trace"]
"""As uvicorn has them."""

T = TypeVar("T")
_OURS = Path(__file__).parents[1]

MODEL_HELP = "Bundled or released weights, a file or a folder; see `birefnet models list`."
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME|PATH",
        help=MODEL_HELP,
        envvar="BIREFNET_MODEL",
        show_default="nano",
    ),
]
NetworkConfigText = Annotated[
    str | None,
    typer.Option(
        "--network-config",
        metavar="NAME=VALUE,…|FILE",
        help="Architecture of the network, if neither its file nor its tensors show it: "
        "image_pyramid=add, a .json file, or a preset.",
        show_default="by the file",
    ),
]
Device = Annotated[
    str, typer.Option("--device", metavar="DEVICE", help="auto, cpu, cuda, cuda:1 or mps.")
]
Dtype = Annotated[str, typer.Option("--dtype", metavar="DTYPE", help="auto, fp32, fp16 or bf16.")]
ResolutionText = Annotated[str | None, option("resolution")]
BatchSize = Annotated[int | None, option("batch_size")]
Assignments = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        "-s",
        metavar="NAME=VALUE",
        help="Any field of the recipe, such as schedule.epochs=20 or data.augment.rotate=0.5; may "
        "be repeated.",
    ),
]
MaxMegapixels = Annotated[
    float,
    typer.Option(
        "--max-megapixels",
        min=0.001,
        max=1e6,
        metavar="MP",
        help="Larger pictures are refused.",
        envvar="BIREFNET_MAX_MEGAPIXELS",
    ),
]
Jobs = Annotated[
    int, typer.Option("--jobs", "-j", metavar="N", help="Processes; 0 for one per core.")
]
Json = Annotated[bool, typer.Option("--json", help="Report as JSON on standard output.")]


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
    """Ctrl-C and SIGTERM raise `Interrupted`, so that what was begun is tidied up.

    Signals that the caller ignores (`nohup`, a job in the background) or handles stay so.
    """
    if threading.current_thread() is not threading.main_thread():  # Python allows it only there
        yield
        return
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
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


def status_of(error: BiRefNetError) -> int:
    """The exit status: 2 if the command makes no sense, 1 for work that failed."""
    return 2 if isinstance(error, UsageError) else 1


def check_output(value: T) -> T:
    """Callback of options that name a file or folder to write: find before the work begins what
    Windows would refuse at its end."""
    for path in value if isinstance(value, list) else [value]:
        if path is not None and "://" not in str(path):
            try:
                check_path(str(path))
            except OSError as error:
                raise typer.BadParameter(f"{path}: {error.strerror}") from None
    return value


def write_file(path: Path, data: bytes) -> None:
    """Write a file whole or not at all; its folder is made if it is not there.

    Raises:
        BiRefNetError: it cannot be written.
    """
    from birefnet.imaging.encoding import write_atomic

    try:
        check_path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, data)
    except OSError as error:
        raise BiRefNetError(f"cannot write {path}: {error.strerror or error}") from error


_PLAIN = {"↑": "^", "↓": "v", "→": "->", "–": "-", "−": "-", "×": "x", "…": "...", "·": "|"}


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
        if category is UserWarning and Path(filename).is_relative_to(_OURS):
            warn(f"Warning: {message}")
        else:
            self.others(message, category, filename, lineno, file, line)


def is_debugging() -> bool:
    return os.environ.get("BIREFNET_DEBUG", "") not in ("", "0")


def say(text: str) -> None:
    """A line for people: on stderr, for stdout may carry a picture."""
    typer.echo(text, err=True)


def warn(text: str) -> None:
    typer.secho(text, err=True, fg=typer.colors.YELLOW)


def fail(text: str) -> None:
    typer.secho(f"Error: {text}", err=True, fg=typer.colors.RED)


def parse_network_config(text: str | None) -> dict[str, Any] | None:
    """Of `--network-config`: the fields of `NetworkConfig` that it gives."""
    from birefnet.network.config import NetworkConfig, parse_config

    if text is None:
        return None
    try:
        values = parse_config(text)
        NetworkConfig.from_dict(values)
    except (ValueError, TypeError) as error:
        raise typer.BadParameter(f"--network-config: {error}") from None
    return values


def with_network_config(model: str | None, text: str | None) -> str | None:
    """`model`, or where --network-config is given, a copy of it that says how it is built."""
    values = parse_network_config(text)
    if values is None:
        return model
    require("--network-config", "torch")
    from birefnet.terminal import progress_bar
    from birefnet.weights.convert import with_config
    from birefnet.weights.locate import default_model

    with progress_bar("copy the model"):
        folder = with_config(model or default_model(), values)
    say(f"{folder} is the model with this configuration, for --model")
    return str(folder)


def parse_resolution(text: str | None, option: str = "--resolution") -> Resolution | None:
    """As `birefnet.imaging.values.parse_resolution`, with a usage error that names the option."""
    try:
        return values.parse_resolution(text)
    except BiRefNetError as error:
        raise typer.BadParameter(f"{option}: {error}") from None
