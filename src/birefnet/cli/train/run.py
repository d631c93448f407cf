"""The work of `birefnet train`."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from birefnet.cli.common import say
from birefnet.cli.train.messages import ENDS_HERE, closing, say_once, warn_once
from birefnet.cli.train.options import TrainOptions
from birefnet.cli.train.plan import PreparedRun, prepare, resolve_recipe
from birefnet.errors import BiRefNetError
from birefnet.terminal import console, progress_bar

if TYPE_CHECKING:
    from accelerate import Accelerator

    from birefnet.training.assemble import TrainingSetup
    from birefnet.training.data.batch import Batch
    from birefnet.training.loop import Trainer
    from birefnet.training.memory import Estimate
    from birefnet.training.run_folder import RunFolder


def show_recipes() -> None:
    """A table of all recipes."""
    from rich import box
    from rich.table import Table

    from birefnet.training.recipes import RECIPES, recipe_names, variants

    table = Table(box=box.SIMPLE_HEAD)
    for head in ("recipe", "variants", "for", "expected time", "expected score"):
        table.add_column(head, overflow="fold")
    for name in recipe_names():
        known = variants(name)
        about = RECIPES[name, "recommended" if "recommended" in known else known[0]].about
        table.add_row(name, ", ".join(known), about.purpose, about.time, about.score)
    console().print(table)


def train_network(options: TrainOptions) -> int:
    """Train; the exit status.

    Whatever can be checked is checked before weights are downloaded, and all of it before the first
    file is written.
    """
    from birefnet.training import distributed, memory
    from birefnet.training.run_folder import RunFolder, make_folder

    is_main = int(os.environ.get("RANK", "0")) == 0
    with progress_bar("prepare", show=is_main):
        recipe = resolve_recipe(options)
        run_folder = (
            None if options.dry_run or options.output is None else RunFolder(options.output)
        )
        if run_folder and is_main and not options.resume:
            run_folder.check(resume=False)
        is_saved = options.resume and RunFolder(options.output or Path()).state.is_file()
        accelerator = distributed.make_accelerator(
            recipe.loop, options.device, folder=str(run_folder.path) if run_folder else None
        )
        prepared = prepare(options, recipe, accelerator.num_processes, weights=not is_saved)
        recipe, setup = prepared.recipe, prepared.setup
        trainer = None
        if setup is not None:
            estimate = memory.estimate(
                recipe, setup.network, accelerator.device, accelerator.mixed_precision
            )
            _check_memory(estimate, options, is_main)
            trainer = _trainer(prepared, setup, run_folder, accelerator)
            if run_folder is not None and is_saved:
                trainer.resume()
    if run_folder is None or trainer is None:
        typer.echo(recipe.to_yaml(), nl=False)
        return 0
    if is_saved:
        say_once(is_main, f"continuing after step {trainer.step} of {trainer.plan.steps}")
    elif options.resume:
        say_once(is_main, "nothing had been saved yet: starting from the beginning")
    if is_main:
        make_folder(run_folder.path)
        run_folder.remove_leftovers()
        recipe.save(run_folder.recipe)
    accelerator.wait_for_everyone()
    if recipe.loop.trackers:
        accelerator.init_trackers(trainer.model_info.name)
    try:
        outcome = trainer.run()
    except RuntimeError as failure:
        if not memory.is_out_of_memory(failure):
            raise
        raise BiRefNetError(memory.out_of_memory(recipe, accelerator.device)) from None
    finally:
        accelerator.end_training()
    if is_main:
        for line in closing(outcome, trainer, run_folder):
            say(line)
    return 0 if outcome.signal is None else 128 + outcome.signal


def _trainer(
    prepared: PreparedRun,
    setup: TrainingSetup,
    run_folder: RunFolder | None,
    accelerator: Accelerator,
) -> Trainer[Batch]:
    from birefnet.training.loop import Trainer
    from birefnet.training.progress import Terminal

    return Trainer(
        replace(prepared.recipe, loss=prepared.loss),
        setup.network,
        prepared.data,
        setup.preprocess,
        run=run_folder,
        validator=prepared.validator,
        accelerator=accelerator,
        display=Terminal(console(stderr=True)),
        model_info=setup.model_info,
    )


def _check_memory(estimate: Estimate, options: TrainOptions, is_main: bool) -> None:
    """Refuse a batch that does not fit; a dry run says that a run would."""
    if estimate.fits:
        say_once(is_main, estimate.text())
        return
    refusal = f"{estimate.text()}; or try it anyway with --no-check-memory"
    if not options.check_memory:
        warn_once(is_main, estimate.text())
    elif options.dry_run:
        warn_once(is_main, f"{ENDS_HERE}: {refusal}")
    else:
        raise BiRefNetError(refusal)
