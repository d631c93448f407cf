"""The lines that a training run says at its start and its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from birefnet.cli.common import say, warn
from birefnet.errors import counted

if TYPE_CHECKING:
    from birefnet.training.assemble import TrainingSetup
    from birefnet.training.data.batch import Batch
    from birefnet.training.loop import Outcome, Trainer
    from birefnet.training.recipe import Recipe
    from birefnet.training.run_folder import RunFolder
    from birefnet.training.schedule import Plan
    from birefnet.training.validation import Validator

ENDS_HERE = "a run would end here"  # said by a dry run


def opening(
    recipe: Recipe, setup: TrainingSetup | None, plan: Plan, validator: Validator | None
) -> list[str]:
    """The lines before the first step: what to expect, and what the run will do."""
    about = recipe.about
    lines = [f"recipe {recipe.name} ({recipe.variant}), {recipe.task}: {about.purpose}"]
    expected = {
        "command": about.command,
        "expected time": about.time,
        "expected memory": about.memory,
        "expected score": about.score,
        "source": about.source,
    }
    lines += [f"  {name}: {text}" for name, text in expected.items() if text]
    weights = recipe.init or recipe.encoder_weights or "random weights"
    if setup is None:
        lines.append(f"network, size and memory are known once {weights} has been downloaded")
    else:
        parameters = sum(p.numel() for p in setup.network.parameters()) / 1e6
        lines.append(
            f"network {setup.network.config.backbone}, {parameters:.1f} M parameters, from "
            f"{weights}, trained on pictures of {recipe.data.width} x {recipe.data.height}"
        )
    lines.append(
        f"{counted(plan.epoch_length, 'picture')} an epoch, {counted(plan.epochs, 'epoch')}, "
        f"{counted(plan.steps, 'step')} of "
        f"{counted(plan.pictures_per_step, 'picture')}"
    )
    if validator is None:
        lines.append("no validation: `best` is not chosen; give --validate PATH to have it")
    else:
        sets = ", ".join(validator.sets)
        lines.append(
            f"validation on {counted(len(validator), 'picture')} ({sets}), best by "
            f"{validator.best_by}"
        )
    if setup is not None:
        lines.append(f"validated and written with pictures {setup.preprocess}")
    return lines


def closing(outcome: Outcome, trainer: Trainer[Batch], run_folder: RunFolder) -> list[str]:
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


def say_once(is_main: bool, text: str) -> None:
    """Say a line in one of several processes."""
    if is_main:
        say(text)


def warn_once(is_main: bool, text: str) -> None:
    """Warn in one of several processes."""
    if is_main:
        warn(text)
