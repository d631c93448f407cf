"""The work of `birefnet rembg`: pictures, folders and raw frames."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import typer

from birefnet.cli.remove.jobs import STREAM, Job
from birefnet.cli.remove.search import Search
from birefnet.cli.remove.watch import Watch
from birefnet.compat.rembg import bg
from birefnet.compat.rembg.sessions import BaseSession
from birefnet.errors import BiRefNetError, ImageError, counted
from birefnet.files import is_written, write
from birefnet.imaging.picture import Limits
from birefnet.terminal import fail, progress_bar, say, warn

STOP = "stop.txt"  # in a watched folder: the end
_SUFFIX = ".out.png"  # of a result beside its picture, where standard output is a terminal


def one_picture(
    source: str, target: str | None, model: str | None, arguments: dict[str, object]
) -> None:
    """`rembg i`."""
    is_stream = source == STREAM
    if is_stream and sys.stdin.isatty():
        raise typer.BadParameter("give a file, or a picture on standard input")
    if target is None:
        to_file = not is_stream and sys.stdout.isatty()
        target = str(Path(source).with_suffix(_SUFFIX)) if to_file else STREAM
    # One byte above the limit is enough for the decoder to refuse it.
    data: object = sys.stdin.buffer.read(Limits().max_bytes + 1) if is_stream else Path(source)
    with progress_bar("cut out"):
        png = _remove(data, _session(model, arguments), arguments, force_return_bytes=True)
    if target == STREAM:
        sys.stdout.buffer.write(png)
        sys.stdout.buffer.flush()
    else:
        write(Path(target), png)


def folder(
    source: str,
    target: str,
    model: str | None,
    arguments: dict[str, object],
    *,
    watch: bool = False,
    delete_input: bool = False,
) -> bool:
    """`rembg p`; returns whether every picture is done.

    A picture that fails is reported, and the others go on.
    """
    if not Path(source).is_dir():
        raise typer.BadParameter(f"INPUT is {source!r}; give a folder")
    search = Search((source,), target, format="png", on_error=lambda error: warn(str(error)))
    search.check()
    failed = done = 0
    with progress_bar("load") as progress:
        session = _session(model, arguments)
        jobs = _watched(search, Path(source)) if watch else iter(search)
        total = None if watch else search.count()
        for number, job in enumerate(jobs):
            progress(number, total, "wait and cut out" if watch else "cut out")
            if job.source is None or job.target is None:
                continue
            picture, result = Path(str(job.source)), Path(str(job.target))
            try:
                if not is_written(result):
                    write(result, _remove(picture, session, arguments, force_return_bytes=True))
                    done += 1
                    if watch:
                        say(f"processed: {picture} -> {result}")
                if delete_input:
                    picture.unlink()
            except (BiRefNetError, OSError) as error:
                failed += 1
                fail(str(error))
    say(f"{counted(done, 'picture')} done" + (f", {failed} failed" if failed else ""))
    return not failed


def frames(
    width: int, height: int, specifier: str | None, model: str | None, arguments: dict[str, Any]
) -> None:
    """`rembg b`.

    Raises:
        typer.BadParameter: a name of files without a place for the number.
        ImageError: the stream ends within a frame.
    """
    import numpy as np

    if specifier is not None:
        try:
            _ = specifier % 0
        except (TypeError, ValueError):
            raise typer.BadParameter(
                f"-o is {specifier!r}; give a name with %d, such as frame-%03d.png"
            ) from None
    with progress_bar("frames") as progress:
        session = _session(model, arguments)
        for number, data in enumerate(_chunks(sys.stdin.buffer, width * height * 3)):
            progress(number, None, f"frame {number}")
            pixels = np.frombuffer(data, np.uint8).reshape(height, width, 3)
            png = _remove(pixels, session, arguments, force_return_bytes=True)
            if specifier is None:
                sys.stdout.buffer.write(png)
                sys.stdout.buffer.flush()
            else:
                write(Path(specifier % number), png)


def _session(model: str | None, arguments: dict[str, object]) -> BaseSession:
    """The session; takes `model_path` out of the arguments of `remove`."""
    path = {"model_path": arguments.pop("model_path")} if "model_path" in arguments else {}
    return bg.new_session(model, **path)


def _remove(
    data: object, session: BaseSession, arguments: Mapping[str, object], **more: Any
) -> Any:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("once")
        result = bg.remove(data, session=session, **{**arguments, **more})
    for message in caught:
        if message.category is UserWarning:
            warn(str(message.message))
    return result


def _chunks(stream: IO[bytes], size: int) -> Iterator[bytes]:
    count = 0
    while data := stream.read(size):
        if len(data) < size:
            raise ImageError(
                f"standard input ends after {len(data)} of {size} bytes of frame {count}; are "
                "width and height right, and the pixels rgb24?"
            )
        yield data
        count += 1


def _watched(search: Search, folder: Path) -> Iterable[Job]:
    watch = Watch(search)
    stop = folder / STOP
    while True:
        yield from watch.ready()
        if stop.exists():
            stop.unlink()
            return
        time.sleep(watch.pause)
