"""`birefnet remove`: `plan` checks what was typed, and `run` does the work."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from birefnet.cli.common import Model
from birefnet.cli.options import GroupedCommand, examples, with_options
from birefnet.cli.remove.options import RunOptions
from birefnet.options import Options

EXAMPLES = examples(
    "birefnet remove photo.jpg",
    "birefnet remove photo.jpg -o shop.jpg --background white --crop --shadow ground",
    "birefnet remove 'shots/**/*.jpg' -o cutouts/ --format webp",
)


def register(app: typer.Typer) -> None:
    app.command(no_args_is_help=True, cls=GroupedCommand, epilog=EXAMPLES)(remove)


@with_options()
def remove(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT",
            help="Pictures, folders, quoted patterns such as 'shots/**/*.jpg', URLs, or - for "
            "standard input.",
            show_default=False,
        ),
    ],
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="OUT",
            help="A file, a folder, a URL, or - for standard output.",
            show_default="NAME.cutout.png beside each input",
        ),
    ] = None,
    *,
    model: Model = None,
    options: Options,
    run: RunOptions,
) -> None:
    """Remove the background of pictures.

    Exit status 0; 1 if a picture failed (the others are done); 2 if the command makes no sense.
    """
    from birefnet.cli.loading import start_loading

    loading = start_loading(model, run.device, run.dtype, run.engine)
    from birefnet.cli.remove.inputs import InputError
    from birefnet.cli.remove.plan import make_plan
    from birefnet.cli.remove.run import remove_all

    try:
        plan = make_plan(inputs, output, options, run, model=model, loading=loading)
    except InputError as error:
        raise typer.BadParameter(str(error)) from error
    sys.exit(remove_all(plan))
