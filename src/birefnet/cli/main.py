"""The command line: one module per command, each of which imports its work when it is called."""

from __future__ import annotations

import gc
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Annotated

import typer

import birefnet
from birefnet.cli.common import run
from birefnet.cli.options import examples

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
