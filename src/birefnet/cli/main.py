"""The command line: one module per command, each of which imports its work when it is called."""

from __future__ import annotations

from importlib import import_module
from typing import Annotated

import typer

import birefnet
from birefnet.cli.common import run

# Each has `register(app)`, in the order of `birefnet --help`. Their top levels import only typer.
COMMANDS = (
    "remove",
    "export",
    "bench",
    "video",
    "serve",
    "ui",
    "rembg",
    "models",
    "train",
    "data",
    "evaluate",
    "reproduce",
    "explain",
    "doctor",
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


for _name in COMMANDS:
    import_module(f"birefnet.cli.{_name}").register(app)


def main() -> None:
    """Entry point: runs the command, and says errors in one sentence (BIREFNET_DEBUG=1: whole)."""
    run(app)
