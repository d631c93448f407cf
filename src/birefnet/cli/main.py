"""The command line: one module per command, each of which imports its work when it is called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

import birefnet
from birefnet import compat
from birefnet.cli import (
    bench,
    data,
    doctor,
    evaluate,
    explain,
    export,
    models,
    remove,
    reproduce,
    serve,
    train,
    ui,
    video,
)
from birefnet.cli.common import run

# In the order of `birefnet --help`. The top levels of these modules import only typer.
COMMANDS: tuple[Callable[[typer.Typer], None], ...] = (
    remove.register,
    export.register,
    bench.register,
    video.register,
    serve.register,
    ui.register,
    compat.register_commands,
    models.register,
    train.register,
    data.register,
    evaluate.register,
    reproduce.register,
    explain.register,
    doctor.register,
)

app = typer.Typer(
    help="Cut the subject out of any picture with Bilateral Reference networks.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: twice as quick, half as long
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"birefnet {birefnet.__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Say which.")
    ] = False,
) -> None:
    pass


for _register in COMMANDS:
    _register(app)


def main() -> None:
    """Entry point: runs the command, and says errors in one sentence (BIREFNET_DEBUG=1: whole)."""
    run(app)
