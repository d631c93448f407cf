"""`birefnet video`; `birefnet.video` does the work."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from birefnet.cli.options import (
    Device,
    Dtype,
    GroupedCommand,
    Json,
    Model,
    NetworkConfigText,
    check_output,
    examples,
    message_of,
    status_of,
    with_network_config,
    with_options,
)
from birefnet.errors import BiRefNetError, MissingExtraError, counted
from birefnet.files import is_written
from birefnet.options import VIDEO, Options, VideoOptions
from birefnet.terminal import Update, fail, is_debugging, progress_bar, say

if TYPE_CHECKING:
    from birefnet.video import Progress, VideoResult
    from birefnet.video.settings import Settings


EXAMPLES = examples(
    "birefnet video clip.mp4",
    "birefnet video clip.mp4 -o clip.mov --stabilise",
    "birefnet video clip.mp4 -o clip.green.mp4 --type green --start 1:02 --end 1:10",
)


def register(app: typer.Typer) -> None:
    app.command(no_args_is_help=True, cls=GroupedCommand, epilog=EXAMPLES)(video)


@with_options(options=VIDEO)
def video(
    source: Annotated[
        str,
        typer.Argument(
            metavar="INPUT",
            help="A video or URL that FFmpeg reads, an animated GIF, WebP or PNG, a folder or "
            "quoted pattern of pictures, or the number of a camera, such as 0.",
            show_default=False,
        ),
    ],
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            callback=check_output,
            metavar="OUT",
            help=".mp4, .webm, .mov, .gif, .webp, .apng; or for PNG pictures a folder ending in /, "
            "or a pattern such as frames/%05d.png.",
            show_default="NAME.cutout.webm beside the input",
        ),
    ] = None,
    *,
    model: Model = None,
    network_config: NetworkConfigText = None,
    options: Options,
    mask_output: Annotated[
        str | None,
        typer.Option(
            callback=check_output, metavar="OUT", help="Write the mattes as a second video, too."
        ),
    ] = None,
    video_options: VideoOptions,
    device: Device = "auto",
    dtype: Dtype = "auto",
    resume: Annotated[
        bool | None,
        typer.Option(
            "--resume/--restart",
            help="Continue a stopped run, or delete its parts.",
            show_default="ask for one of them if there are parts",
        ),
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite/--skip-existing", help="What to do where the output is there already."
        ),
    ] = True,
    as_json: Json = False,
) -> None:
    """Remove the background of a video.

    Sound, frame rate and times are kept. A video as background is repeated. Exit status 0; 1 if it
    failed (finished parts are kept); 2 if the command makes no sense; 130 after Ctrl-C, 143 after
    SIGTERM.
    """
    from birefnet.video.errors import UnfinishedRunError
    from birefnet.video.settings import Settings, plan_targets

    try:
        _check_source(source)
        target = output or _beside(source, options.kind, options.background)
        settings = Settings(options, video_options).checked()
        plan_targets(source, target, mask_output, settings)
    except MissingExtraError:
        raise
    except BiRefNetError as error:
        raise typer.BadParameter(message_of(error)) from error
    if not overwrite and Path(target).is_file() and is_written(Path(target)):
        say(f"{target} is there already; skipped")
        return
    model = with_network_config(model, network_config)
    try:
        status = _run(
            source, target, mask_output, settings, (model, device, dtype), resume, as_json
        )
    except UnfinishedRunError as error:
        raise typer.BadParameter(f"{error} (--resume or --restart)") from error
    sys.exit(status)


def _run(
    source: str,
    target: str,
    mask_output: str | None,
    settings: Settings,
    model: tuple[str | None, str, str],
    resume: bool | None,
    as_json: bool,
) -> int:
    """Do it, report, and return the exit status."""
    from birefnet.api import load
    from birefnet.video.errors import UnfinishedRunError, VideoCancelled
    from birefnet.video.process import run

    name, device, dtype = model
    cancel = Cancel()
    try:
        with progress_bar("frames", show=not as_json) as bar:
            predictor = load(name, device=device, dtype=dtype)
            with cancelled_by_signals(cancel):
                result = run(
                    source,
                    target,
                    predictor,
                    settings,
                    mask_output=mask_output,
                    resume=resume,
                    progress=partial(_show, bar),
                    cancel=cancel,
                )
    except UnfinishedRunError:
        raise
    except BiRefNetError as error:
        if is_debugging():
            raise
        if as_json:
            print(json.dumps({"input": source, "outputs": [], "error": str(error)}, indent=2))
        fail(str(error))
        return cancel.status if isinstance(error, VideoCancelled) else status_of(error)
    if as_json:
        print(json.dumps(_facts(source, result), indent=2))
    _summarise(result)
    return 0


def _facts(source: str, result: VideoResult) -> dict[str, object]:
    return {
        "input": source,
        "outputs": [str(path) for path in result.outputs],
        "frames": result.frames,
        "duration": round(result.duration, 6),
        "width": result.width,
        "height": result.height,
        "seconds": round(result.seconds, 3),
        "resumed": result.resumed,
        "notes": result.notes,
        "error": None,
    }


def _summarise(result: VideoResult) -> None:
    for note in result.notes:
        say(note)
    new = result.frames - result.resumed
    before = f", {result.resumed} of them before" if result.resumed else ""
    say(
        f"{', '.join(map(str, result.outputs))}: {counted(result.frames, 'frame')}{before}, "
        f"{result.duration:.2f} s, done in {result.seconds:.1f} s "
        f"({new / max(result.seconds, 1e-9):.1f} frames a second)"
    )


def _beside(source: str, kind: str, background: str | None) -> str:
    """`NAME.KIND.webm` beside the input; mp4 where there is no transparency."""
    from birefnet.video.errors import VideoError

    path = Path(source)
    if not path.exists():
        raise VideoError(f"where should the result of {source!r} go? Give -o OUT")
    is_see_through = kind == "cutout" and background is None
    return str(path.with_name(f"{path.stem}.{kind}{'.webm' if is_see_through else '.mp4'}"))


def _check_source(source: str) -> None:
    """Refuse what is not there, before a network is loaded."""
    import glob

    from birefnet.video.errors import VideoError
    from birefnet.video.opening import camera_input

    if "://" in source or os.path.exists(source) or camera_input(source) or glob.has_magic(source):
        return
    raise VideoError(f"there is no file or folder {source!r}; check the path")


class Cancel(threading.Event):
    """Set by the first Ctrl-C or SIGTERM, for the end with `status`."""

    status = 0


@contextmanager
def cancelled_by_signals(cancel: Cancel) -> Iterator[None]:
    """The first Ctrl-C or SIGTERM sets the event: frames under way are kept. A second one acts as
    before."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        cancel.status = 128 + number
        cancel.set()
        restore()

    def restore() -> None:
        for number, how in before.items():
            signal.signal(number, how)

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        restore()


def _show(bar: Update, progress: Progress) -> None:
    """Frames done of all, and how many a second."""
    bar(progress.frames, progress.total, f"frames, {progress.rate:.1f} a second")
