"""The work of `birefnet train`: from what was asked to a recipe, from the recipe to a run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from birefnet.cli.common import say, warn
from birefnet.errors import BiRefNetError, UsageError

if TYPE_CHECKING:
    from birefnet.training.assemble import TrainingSetup
    from birefnet.training.data.dataset import TrainingData
    from birefnet.training.loop import Outcome, Trainer
    from birefnet.training.loss_settings import LossSettings
    from birefnet.training.memory import Estimate
    from birefnet.training.recipe import Recipe
    from birefnet.training.run_folder import RunFolder
    from birefnet.training.schedule import Plan
    from birefnet.training.validation import Levels, Validator

HELD_OUT = 0.1
"""Share of the pictures that is kept for validation where none are given."""
REPLAYED = 20
"""Share [%] of replayed pictures where none is given."""
_NOTHING = "none"
_ENDS_HERE = "a run would end here"  # said by a dry run


@dataclass(frozen=True)
class Request:
    """The command line."""

    recipe: str | None = None
    variant: str | None = None
    data: tuple[str, ...] = ()
    validate: tuple[str, ...] = ()
    output: Path | None = None
    init: str | None = None
    replay: tuple[str, ...] = ()
    freeze_encoder: bool = False
    assignments: tuple[str, ...] = ()
    config: Path | None = None
    resume: bool = False
    device: str = "auto"
    dry_run: bool = False
    check_memory: bool = True


def show_recipes() -> None:
    """A table of all recipes."""
    from rich import box
    from rich.table import Table

    from birefnet.cli.terminal import console
    from birefnet.training.recipes import RECIPES, recipe_names, variants

    table = Table(box=box.SIMPLE_HEAD)
    for head in ("recipe", "variants", "for", "expected time", "expected score"):
        table.add_column(head, overflow="fold")
    for name in recipe_names():
        known = variants(name)
        about = RECIPES[name, "recommended" if "recommended" in known else known[0]].about
        table.add_row(name, ", ".join(known), about.purpose, about.time, about.score)
    console().print(table)


def resolve_recipe(request: Request) -> Recipe:
    """The recipe that a command line asks for; later ones win: recipe, file, --set, options."""
    from birefnet.training.recipe import Recipe, load_yaml
    from birefnet.training.run_folder import RunFolder

    from_file = load_yaml(request.config) if request.config else {}
    if request.resume:
        assert request.output is not None
        folder = RunFolder(request.output)
        folder.check(resume=True)
        recipe = Recipe.from_dict(load_yaml(folder.recipe))
        for option, given, saved in (
            ("recipe", request.recipe, recipe.name),
            ("variant", request.variant, recipe.variant),
            ("init", request.init, recipe.init),
        ):
            if given not in (None, saved):
                raise UsageError(
                    f"{request.output} is a run with --{option} {saved}, not {given}; resume it "
                    f"without --{option}, or start another run"
                )
    else:
        recipe = _named_recipe(request, from_file)
        recipe = _fitted_to_weights(recipe, request, from_file)
    recipe = recipe.override(from_file).override(request.assignments)
    return recipe.override(_changes(request, recipe))


def _named_recipe(request: Request, from_file: Mapping[str, Any]) -> Recipe:
    from birefnet.training.recipe import Recipe
    from birefnet.training.recipes import get_recipe

    if request.recipe:
        return get_recipe(request.recipe, request.variant or "recommended")
    if request.variant:
        raise typer.BadParameter("--variant needs --recipe NAME")
    if not from_file:
        raise typer.BadParameter(
            "--recipe NAME is missing; `birefnet train --list` shows what there is, and "
            "--recipe finetune is for your own pictures"
        )
    return Recipe()


def _fitted_to_weights(recipe: Recipe, request: Request, from_file: Mapping[str, Any]) -> Recipe:
    """Take the size of the pictures from the weights, where the recipe names no network."""
    from birefnet.training.assemble import fitted_to_weights

    chosen = recipe.override(from_file).override(request.assignments)
    if chosen.network is not None:
        return recipe
    if request.init:
        chosen = chosen.override({"init": request.init})
    return recipe.override(fitted_to_weights(chosen))


def _changes(request: Request, recipe: Recipe) -> dict[str, Any]:
    """What the options of the command change, by dotted name."""
    changes: dict[str, Any] = {}
    if request.init and not request.resume:
        changes["init"] = request.init
    if request.data or request.replay:
        sources = request.data or recipe.data.sources
        changes["data.sources"] = [*sources, *_replayed(request.replay)]
    if request.freeze_encoder:
        changes["loop.frozen_encoder"] = True
    if request.validate:
        given = [path for path in request.validate if path != _NOTHING]
        changes["validation.data"] = given
        changes["data.held_out"] = 0.0
    elif not request.resume and not recipe.validation.data and not recipe.data.held_out:
        changes["data.held_out"] = HELD_OUT
    return changes


def _replayed(replay: tuple[str, ...]) -> list[str]:
    default = f"={REPLAYED / max(1, len(replay)):g}%"
    return [text if text.endswith("%") else text + default for text in replay]


def run(request: Request) -> int:
    """Train; the exit status.

    Whatever can be checked is checked before weights are downloaded, and all of it before the first
    file is written.
    """
    from birefnet.training import distributed, memory
    from birefnet.training.run_folder import RunFolder, make_folder

    is_main = int(os.environ.get("RANK", "0")) == 0
    recipe = resolve_recipe(request)
    run_folder = None if request.dry_run or request.output is None else RunFolder(request.output)
    if run_folder and is_main and not request.resume:
        run_folder.check(resume=False)
    is_saved = request.resume and RunFolder(request.output or Path()).state.is_file()
    accelerator = distributed.make_accelerator(
        recipe.loop, request.device, folder=str(run_folder.path) if run_folder else None
    )
    prepared = _prepare(request, recipe, accelerator.num_processes, weights=not is_saved)
    recipe, start = prepared.recipe, prepared.start
    if start is None:
        typer.echo(recipe.to_yaml(), nl=False)
        return 0
    estimate = memory.estimate(
        recipe, start.network, accelerator.device, accelerator.mixed_precision
    )
    _judge(estimate, request, is_main)
    trainer = _trainer(prepared, start, run_folder, accelerator)
    if run_folder is None:
        typer.echo(recipe.to_yaml(), nl=False)
        return 0
    if is_saved:
        trainer.resume()
        say_once(is_main, f"continuing after step {trainer.step} of {trainer.plan.steps}")
    elif request.resume:
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


@dataclass(frozen=True)
class _Prepared:
    """A run before its first step.

    Attributes:
        recipe: as it is saved.
        loss: its losses without phases that the run is too short for.
        data, validator: what is trained and validated on.
        start: network and preprocessing; `None` in a dry run from weights of which nothing is
            known before they are downloaded.
    """

    recipe: Recipe
    loss: LossSettings
    data: TrainingData
    validator: Validator | None
    start: TrainingSetup | None


def _prepare(request: Request, recipe: Recipe, processes: int, *, weights: bool) -> _Prepared:
    """Check the data, then have the weights, and say what the run will be.

    Args:
        recipe: of the request.
        processes: that train together.
        weights: load those that the run starts from.
    """
    from birefnet.training.assemble import (
        fetch_weights,
        missing_file,
        set_up_training,
        weights_to_fetch,
    )
    from birefnet.training.data.dataset import build_dataset
    from birefnet.training.run_folder import RunFolder
    from birefnet.training.schedule import Plan

    is_main = int(os.environ.get("RANK", "0")) == 0
    data = build_dataset(recipe.data, seed=recipe.loop.seed)
    validator = make_validator(recipe, data)
    to_fetch = weights_to_fetch(recipe) if weights else None
    notes = list(data.notes)
    if to_fetch and request.dry_run:
        say_once(is_main, f"a run would download {to_fetch}")
        weights = False
    elif to_fetch:
        say_once(is_main, f"downloading {to_fetch}")
        fetch_weights(recipe)
        recipe = resolve_recipe(request)
        data = build_dataset(recipe.data, seed=recipe.loop.seed)
    elif request.dry_run and weights and (lack := missing_file(recipe)):
        notes.append(f"{_ENDS_HERE}: {lack}")
        weights = False
    start = None
    if recipe.network or not to_fetch or to_fetch.checkpoint or not request.dry_run:
        name = request.output.resolve().name if request.output else recipe.name
        last = RunFolder(request.output).last if request.resume and request.output else None
        start = set_up_training(recipe, name=name, weights=weights, written=last)
        recipe = start.recipe
        data.preprocess = start.preprocess
        validator = validator and replace(validator, preprocess=start.preprocess)
        notes += _classes_in_vain(start.network.config.auxiliary_classes, len(data.classes))
    plan = Plan(recipe.schedule, data.epoch_length, processes)
    loss, too_long = recipe.loss.fitted(plan.epochs)
    notes += [f"{reason}: the phase is left out; train longer to have it" for reason in too_long]
    if is_main:
        for line in opening(recipe, start, plan, validator):
            say(line)
        for note in notes:
            warn(note)
    return _Prepared(recipe, loss, data, validator, start)


def _classes_in_vain(head: int, classes: int) -> list[str]:
    """A sentence where the classification head and the classes of the data do not go together.

    Raises:
        BiRefNetError: there are more classes than the head tells apart.
    """
    if head and classes > head:
        raise BiRefNetError(
            f"the data have {classes} classes and the network tells {head} apart; set "
            f"network_overrides.auxiliary_classes={classes}, or data.classes=none"
        )
    if head and not classes:
        return ["the classification head learns nothing: give classes, such as data.classes=dis5k"]
    if classes and not head:
        return [
            f"the {classes} classes of the data are not used: the network has no head for them "
            f"(network_overrides.auxiliary_classes={classes})"
        ]
    return []


def _trainer(
    prepared: _Prepared, start: TrainingSetup, run_folder: RunFolder | None, accelerator: Any
) -> Trainer:
    from birefnet.cli.terminal import console
    from birefnet.training.loop import Trainer
    from birefnet.training.progress import Terminal

    return Trainer(
        replace(prepared.recipe, loss=prepared.loss),
        start.network,
        prepared.data,
        start.preprocess,
        run=run_folder,
        validator=prepared.validator,
        accelerator=accelerator,
        display=Terminal(console(stderr=True)),
        model_info=start.model_info,
    )


def make_validator(recipe: Recipe, data: TrainingData) -> Validator | None:
    """Validation with the metrics of `birefnet evaluate`; `None` where nothing is kept for it."""
    from birefnet.evaluation import COLUMNS, evaluate_pair, resolve
    from birefnet.training.data.opening import open_source
    from birefnet.training.validation import Validator

    settings = recipe.validation
    sets = {path: open_source(path) for path in settings.data}
    sets |= {f"held out of {source.name}": source for source in data.validation_split}
    for path, source in sets.items():
        if source.kind == "pictures":
            raise UsageError(
                f"{path} has pictures without truth; validate on a folder with im and gt"
            )
    if not sets:
        return None
    names = resolve(settings.metrics)
    if settings.best_by not in names:
        raise UsageError(
            f"validation.best_by is {settings.best_by!r}; choose one of the metrics "
            f"{', '.join(names)}"
        )

    def metrics(matte: Levels, truth: Levels) -> dict[str, float]:
        values = evaluate_pair(matte, truth, metrics=names)
        return {name: value for name, value in values.items() if isinstance(value, float)}

    return Validator(
        _shortly_named(sets),
        metrics,
        settings.best_by,
        higher_is_better=COLUMNS[settings.best_by].higher_is_better,
        preprocess=data.preprocess,
        pictures=settings.pictures,
        previews=settings.previews,
    )


def _shortly_named(sets: Mapping[str, Any]) -> dict[str, Any]:
    """Sets by the last part of their paths, or by the whole path where two would be called so."""
    short = [Path(path.partition("::")[0]).name or path for path in sets]
    is_unique = len(set(short)) == len(short)
    return dict(zip(short if is_unique else sets, sets.values(), strict=True))


def opening(
    recipe: Recipe, start: TrainingSetup | None, plan: Plan, validator: Validator | None
) -> list[str]:
    """What a run says before it starts: what to expect, and what it will do."""
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
    if start is None:
        lines.append(f"network, size and memory are known once {weights} has been downloaded")
    else:
        parameters = sum(p.numel() for p in start.network.parameters()) / 1e6
        lines.append(
            f"network {start.network.config.backbone}, {parameters:.1f} M parameters, from "
            f"{weights}, trained on pictures of {recipe.data.width} x {recipe.data.height}"
        )
    lines.append(
        f"{plan.epoch_length} pictures an epoch, {plan.epochs} epochs, {plan.steps} steps of "
        f"{plan.pictures_per_step} pictures"
    )
    if validator is None:
        lines.append("no validation: `best` is not chosen; give --validate PATH to have it")
    else:
        sets = ", ".join(validator.sets)
        lines.append(
            f"validation on {len(validator)} pictures ({sets}), best by {validator.best_by}"
        )
    if start is not None:
        lines.append(f"validated and written with pictures {start.preprocess}")
    return lines


def _judge(estimate: Estimate, request: Request, is_main: bool) -> None:
    """Refuse a batch that does not fit; a dry run says that a run would."""
    if estimate.fits:
        say_once(is_main, estimate.text())
        return
    refusal = f"{estimate.text()}; or try it anyway with --no-check-memory"
    if not request.check_memory:
        warn_once(is_main, estimate.text())
    elif request.dry_run:
        warn_once(is_main, f"{_ENDS_HERE}: {refusal}")
    else:
        raise BiRefNetError(refusal)


def closing(outcome: Outcome, trainer: Trainer, run_folder: RunFolder) -> list[str]:
    """What a run says at its end."""
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
