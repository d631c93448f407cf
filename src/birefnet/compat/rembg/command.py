"""`birefnet rembg i|p|s|b|d`: the commands of rembg with their options; see docs/drop_in.md."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, fields
from typing import Annotated, Any

import typer

import birefnet
from birefnet.cli.options import (
    GroupedCommand,
    LogLevel,
    MaxMegapixels,
    check_output,
    examples,
    setting,
    with_options,
)
from birefnet.cli.serve import Port, ServeOptions, start_server
from birefnet.compat.rembg.names import BACKGROUND, ERODE, FOREGROUND, RELEASE
from birefnet.terminal import progress_bar

Model = Annotated[
    str | None,
    typer.Option(
        "-m",
        "--model",
        metavar="NAME",
        help="A model name of rembg (birefnet-general …) or of `birefnet models list`.",
        envvar="BIREFNET_MODEL",
        show_default="nano",
    ),
]


@dataclass(frozen=True)
class Arguments:
    """rembg's options of a removal, as `i`, `p` and `b` have them: arguments of its `remove`."""

    alpha_matting: bool = setting(
        False,
        "Estimate alpha again in the unknown region along the edge.",
        "-a",
        "--alpha-matting",
    )
    alpha_matting_foreground_threshold: int = setting(
        FOREGROUND, "Has no effect.", "-af", "--alpha-matting-foreground-threshold"
    )
    alpha_matting_background_threshold: int = setting(
        BACKGROUND, "Has no effect.", "-ab", "--alpha-matting-background-threshold"
    )
    alpha_matting_erode_size: int = setting(
        ERODE, "Width of the unknown region [px].", "-ae", "--alpha-matting-erode-size", min=0
    )
    only_mask: bool = setting(False, "Write only the mask.", "-om", "--only-mask")
    post_process_mask: bool = setting(
        False, "Smooth the mask and make it binary.", "-ppm", "--post-process-mask"
    )
    decontaminate: bool = setting(False, "Always done; has no effect.", "-dc", "--decontaminate")
    vitmatte: bool = setting(
        False, "There is no ViTMatte here: the same as -a.", "-vm", "--vitmatte"
    )
    bgcolor: tuple[int, int, int, int] = setting(
        (0, 0, 0, 0), "Colour of the background.", "-bgc", "--bgcolor", metavar="R G B A"
    )
    extras: str | None = setting(
        None, "Further arguments of `remove`.", "-x", "--extras", metavar="JSON"
    )

    def keywords(self) -> dict[str, Any]:
        """These options as arguments of `birefnet.compat.rembg.remove`.

        Raises:
            typer.BadParameter: extras that are no JSON object.
        """
        arguments = {each.name: getattr(self, each.name) for each in fields(self)}
        if not any(self.bgcolor):  # rembg's default is not a colour
            del arguments["bgcolor"]
        if not arguments.pop("extras"):
            return arguments
        try:
            extras = json.loads(self.extras or "")
        except (ValueError, RecursionError):
            extras = None
        if not isinstance(extras, dict):
            raise typer.BadParameter(f"--extras is {self.extras!r}; give a JSON object")
        # A resolution and a colour are tuples in Python, and lists in JSON.
        lists = {key: tuple(value) for key, value in extras.items() if isinstance(value, list)}
        return arguments | extras | lists


rembg = typer.Typer(
    no_args_is_help=True,
    epilog=examples(
        "birefnet rembg i photo.jpg photo.png",
        "birefnet rembg p photos cutouts",
        "birefnet rembg s --port 7000",
    ),
)


def _print_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"rembg, version {RELEASE} (birefnet {birefnet.__version__})")
        raise typer.Exit


@rembg.callback()
def main(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """rembg's commands, run by BiRefNet."""


@rembg.command(
    "i",
    cls=GroupedCommand,
    epilog=examples(
        "birefnet rembg i photo.jpg photo.png",
        "birefnet rembg i -m birefnet-general -a photo.jpg photo.png",
        "birefnet rembg i -om photo.jpg mask.png",
    ),
)
@with_options()
def one_picture(
    input: Annotated[str, typer.Argument(metavar="INPUT", help="A file; - or none: stdin.")] = "-",
    output: Annotated[
        str | None,
        typer.Argument(callback=check_output, metavar="OUTPUT", help="A file; - or none: stdout."),
    ] = None,
    *,
    model: Model = None,
    arguments: Arguments,
) -> None:
    """One picture: a file, or standard input to standard output."""
    from birefnet.compat.rembg import run

    run.one_picture(input, output, model, arguments.keywords())


@rembg.command(
    "p",
    cls=GroupedCommand,
    epilog=examples(
        "birefnet rembg p photos cutouts",
        "birefnet rembg p -w photos cutouts",
        "birefnet rembg p -bgc 255 255 255 255 photos cutouts",
    ),
)
@with_options()
def folder(
    input: Annotated[str, typer.Argument(metavar="INPUT", help="A folder of pictures.")],
    output: Annotated[
        str, typer.Argument(callback=check_output, metavar="OUTPUT", help="A folder for PNG files.")
    ],
    *,
    model: Model = None,
    arguments: Arguments,
    watch: Annotated[
        bool,
        typer.Option("-w", "--watch", help="Wait for new pictures, until stop.txt exists."),
    ] = False,
    delete_input: Annotated[
        bool, typer.Option("-d", "--delete_input", help="Delete each finished picture.")
    ] = False,
) -> None:
    """A folder of pictures into another, with subfolders; existing results are kept."""
    from birefnet.compat.rembg import run

    done = run.folder(
        input, output, model, arguments.keywords(), watch=watch, delete_input=delete_input
    )
    sys.exit(0 if done else 1)


@rembg.command(
    "s",
    cls=GroupedCommand,
    epilog=examples(
        "birefnet rembg s",
        "birefnet rembg s --port 5000 --no-ui",
        "birefnet rembg s -h 0.0.0.0 -m birefnet-general",
    ),
    context_settings={"help_option_names": ["--help"]},
)
def server(
    port: Port = 7000,
    host: Annotated[
        str, typer.Option("-h", "--host", help="Address; 0.0.0.0: everybody.")
    ] = "127.0.0.1",
    log_level: Annotated[LogLevel, typer.Option("-l", "--log_level", metavar="LEVEL")] = "info",
    threads: Annotated[
        int | None,
        typer.Option(
            "-t", "--threads", min=1, help="Threads for decoding and encoding.", show_default="auto"
        ),
    ] = None,
    no_ui: Annotated[bool, typer.Option("--no-ui", help="Without the web page.")] = False,
    max_megapixels: MaxMegapixels = 50,
    model: Model = None,
) -> None:
    """A server with rembg's route /api/remove, and those of `birefnet serve`."""
    from birefnet.compat.rembg.names import MODELS

    start_server(
        ServeOptions(
            model=MODELS.get(model, model) if model else None,
            host=host,
            port=port,
            workers=threads,
            max_megapixels=max_megapixels,
            page=not no_ui,
            log_level=log_level,
        )
    )


@rembg.command(
    "b",
    cls=GroupedCommand,
    epilog=examples(
        "birefnet rembg b 640 480 -o frame-%d.png",
        "birefnet rembg b -om 640 480 -o mask-%d.png",
        "birefnet rembg b -m birefnet-general 640 480 -o frame-%d.png",
    ),
)
@with_options()
def frames(
    width: Annotated[int, typer.Argument(metavar="IMAGE_WIDTH", min=1)],
    height: Annotated[int, typer.Argument(metavar="IMAGE_HEIGHT", min=1)],
    output: Annotated[
        str | None,
        typer.Option(
            "-o",
            "--output_specifier",
            callback=check_output,
            metavar="NAME-%d.png",
            help="Files instead of standard output; %d is the number of the frame.",
        ),
    ] = None,
    *,
    model: Model = None,
    arguments: Arguments,
) -> None:
    """Raw RGB frames of one size on standard input (as ffmpeg writes them), PNG out."""
    from birefnet.compat.rembg import run

    run.frames(width, height, output, model, arguments.keywords())


@rembg.command(
    "d",
    cls=GroupedCommand,
    epilog=examples(
        "birefnet rembg d birefnet-general",
        "birefnet rembg d birefnet-general birefnet-portrait",
        "birefnet rembg d birefnet-general-lite",
    ),
)
def download(
    models: Annotated[list[str], typer.Argument(metavar="MODEL", help="Models to download.")],
) -> None:
    """Download the weights of models."""
    from birefnet.compat.rembg.bg import download_models

    with progress_bar("download"):
        paths = download_models(*models)
    for path in paths:
        typer.echo(path)
