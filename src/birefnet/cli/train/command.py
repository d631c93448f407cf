"""`birefnet train`: a run, or the list of recipes."""

from __future__ import annotations

import sys

import typer

from birefnet.cli.options import GroupedCommand, examples, with_options
from birefnet.cli.train.options import TrainOptions
from birefnet.errors import require

EXAMPLES = examples(
    "birefnet train --list",
    "birefnet train --recipe finetune --init nano --data MY_PICTURES --output runs/mine",
    "birefnet train --resume --output runs/mine",
)


def register(app: typer.Typer) -> None:
    app.command(no_args_is_help=True, cls=GroupedCommand, epilog=EXAMPLES)(train)


@with_options()
def train(
    options: TrainOptions,
) -> None:
    """Train a network, or fine-tune one on your own pictures.

    The best weights lie in RUN/best, for `birefnet remove --model RUN/best`. On several GPUs:
    accelerate launch -m birefnet train …

    Exit status 0; 1 if it failed; 2 if the command makes no sense; 130 after Ctrl-C, with
    everything saved.
    """
    from birefnet.cli.train.run import show_recipes, train_network

    if options.list_recipes:
        show_recipes()
        return
    require("`birefnet train`", "train")
    if options.output is None and (options.resume or not options.dry_run):
        raise typer.BadParameter("--output RUN is missing: the folder that the run is written to")
    sys.exit(train_network(options))
