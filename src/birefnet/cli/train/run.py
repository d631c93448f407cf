"""The work of `birefnet train`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from birefnet.cli.train.options import TrainOptions
from birefnet.cli.train.plan import (
    ENDS_HERE,
    is_main,
    prepare,
    resolve_recipe,
    say_once,
    warn_once,
)
from birefnet.errors import BiRefNetError
from birefnet.terminal import console, progress_bar

if TYPE_CHECKING:
    from birefnet.training.loop import Outcome, Trainer
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
    from birefnet.training.loop import Trainer
    from birefnet.training.progress import Terminal
    from birefnet.training.run_folder import RunFolder, make_folder
    from birefnet.training.schedule import Plan

    with progress_bar("prepare", show=is_main()):
        recipe = resolve_recipe(options)
        run_folder = (
            None if options.dry_run or options.output is None else RunFolder(options.output)
        )
        if run_folder and is_main() and not options.resume:
            run_folder.check(resume=False)
        is_saved = options.resume and RunFolder(options.output or Path()).state.is_file()
        accelerator = distributed.make_accelerator(
            recipe.loop, options.device, folder=str(run_folder.path) if run_folder else None
        )
        processes = accelerator.num_processes
        recipe, data, validator, setup = prepare(options, recipe, processes, weights=not is_saved)
        trainer = None
        if setup is not None:
            estimate = memory.estimate(
                recipe, setup.network, accelerator.device, accelerator.mixed_precision
            )
            _check_memory(estimate, options)
            # A run may be too short for a phase of its losses, as `prepare` says.
            epochs = Plan(recipe.schedule, data.epoch_length, processes).epochs
            trainer = Trainer(
                replace(recipe, loss=recipe.loss.fitted(epochs)[0]),
                setup.network,
                data,
                setup.preprocess,
                run=run_folder,
                validator=validator,
                accelerator=accelerator,
                display=Terminal(console(stderr=True)),
                model_info=setup.model_info,
            )
            if run_folder is not None and is_saved:
                trainer.resume()
    if run_folder is None or trainer is None:
        typer.echo(recipe.to_yaml(), nl=False)
        return 0
    if is_saved:
        say_once(f"continuing after step {trainer.step} of {trainer.plan.steps}")
    elif options.resume:
        say_once("nothing had been saved yet: starting from the beginning")
    if is_main():
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
    for line in closing(outcome, trainer, run_folder):
        say_once(line)
    return 0 if outcome.signal is None else 128 + outcome.signal


def closing(outcome: Outcome, trainer: Trainer, run_folder: RunFolder) -> list[str]:
    """The lines after the last step."""
    lines = []
    if outcome.best is not None and trainer.validator is not None:
        what = trainer.validator.best_by
        if outcome.best_step == 0:
            lines.append(
                f"nothing beat the start ({what} {outcome.best:.4f}), so best is the start itself"
            )
        else:
            lines.append(
                f"best {what} {outcome.best:.4f} after step {outcome.best_step}, "
                f"at the start {outcome.baseline:.4f}"
            )
    if outcome.signal is not None:
        lines.append(
            f"interrupted and saved after step {outcome.step}; continue with "
            f"birefnet train --resume --output {run_folder.path}"
        )
        return lines
    model = run_folder.best if outcome.best is not None else run_folder.last
    lines.append(f"use it: birefnet remove PICTURE --model {model}")
    return lines


def _check_memory(estimate: Estimate, options: TrainOptions) -> None:
    """Refuse a batch that does not fit; a dry run says that a run would."""
    if estimate.fits:
        say_once(estimate.text())
        return
    refusal = f"{estimate.text()}; or try it anyway with --no-check-memory"
    if not options.check_memory:
        warn_once(estimate.text())
    elif options.dry_run:
        warn_once(f"{ENDS_HERE}: {refusal}")
    else:
        raise BiRefNetError(refusal)
