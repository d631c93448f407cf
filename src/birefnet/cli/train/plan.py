"""From the command line to a recipe, and to data and a network that are ready to run."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from birefnet.cli.train.options import TrainOptions
from birefnet.errors import BiRefNetError, UsageError, counted
from birefnet.terminal import say, warn

if TYPE_CHECKING:
    from birefnet.training.assemble import TrainingSetup
    from birefnet.training.data.dataset import TrainingDataset
    from birefnet.training.recipe import Recipe
    from birefnet.training.schedule import Plan
    from birefnet.training.validation import Levels, Validator

VALIDATION_SHARE = 0.1
"""Share of the pictures in the validation split where none are given."""
REPLAY_PERCENT = 20
"""Share [%] of replayed pictures where none is given."""
MOST_OPENED = 16
"""Pictures of each source that a dry run opens."""
ENDS_HERE = "a run would end here"  # said by a dry run
_NOTHING = "none"


def is_main() -> bool:
    """Whether this is the one of several processes that speaks and writes."""
    return int(os.environ.get("RANK", "0")) == 0


def say_once(text: str) -> None:
    """Say a line in one of several processes."""
    if is_main():
        say(text)


def warn_once(text: str) -> None:
    """Warn in one of several processes."""
    if is_main():
        warn(text)


def resolve_recipe(options: TrainOptions) -> Recipe:
    """The recipe that a command line asks for; later ones win: recipe, file, --set, options."""
    from birefnet.training.recipe import Recipe, load_yaml
    from birefnet.training.run_folder import RunFolder

    from_file = load_yaml(options.config) if options.config else {}
    if options.resume:
        assert options.output is not None
        folder = RunFolder(options.output)
        folder.check(resume=True)
        recipe = Recipe.from_dict(load_yaml(folder.recipe))
        for option, given, saved in (
            ("recipe", options.recipe, recipe.name),
            ("variant", options.variant, recipe.variant),
            ("init", options.init, recipe.init),
        ):
            if given not in (None, saved):
                raise UsageError(
                    f"{options.output} is a run with --{option} {saved}, not {given}; resume it "
                    f"without --{option}, or start another run"
                )
    else:
        recipe = _named_recipe(options, from_file)
        recipe = _fitted_to_weights(recipe, options, from_file)
    recipe = recipe.override(from_file).override(options.assignments or ())
    return recipe.override(_changes(options, recipe))


def _named_recipe(options: TrainOptions, from_file: Mapping[str, object]) -> Recipe:
    from birefnet.training.recipe import Recipe
    from birefnet.training.recipes import get_recipe

    if options.recipe:
        return get_recipe(options.recipe, options.variant or "recommended")
    if options.variant:
        raise typer.BadParameter("--variant needs --recipe NAME")
    if not from_file:
        raise typer.BadParameter(
            "--recipe NAME is missing; `birefnet train --list` shows what there is, and "
            "--recipe finetune is for your own pictures"
        )
    return Recipe()


def _fitted_to_weights(
    recipe: Recipe, options: TrainOptions, from_file: Mapping[str, object]
) -> Recipe:
    """Take the size of the pictures from the weights, where the recipe names no network."""
    from birefnet.training.assemble import fitted_to_weights

    chosen = recipe.override(from_file).override(options.assignments or ())
    if chosen.network is not None:
        return recipe
    if options.init:
        chosen = chosen.override({"init": options.init})
    return recipe.override(fitted_to_weights(chosen))


def _changes(options: TrainOptions, recipe: Recipe) -> dict[str, object]:
    """The changes that the options make to the recipe, by dotted name."""
    changes: dict[str, Any] = {}
    if options.init and not options.resume:
        changes["init"] = options.init
    if options.data or options.replay:
        sources = options.data or recipe.data.sources
        changes["data.sources"] = [*sources, *_replayed(options.replay or ())]
    if options.freeze_encoder:
        changes["loop.frozen_encoder"] = True
    if options.validate:
        given = [path for path in options.validate if path != _NOTHING]
        changes["validation.data"] = given
        changes["data.held_out"] = 0.0
    elif not options.resume and not recipe.validation.data and not recipe.data.held_out:
        changes["data.held_out"] = VALIDATION_SHARE
    return changes


def _replayed(replay: Sequence[str]) -> list[str]:
    default = f"={REPLAY_PERCENT / max(1, len(replay)):g}%"
    return [text if text.endswith("%") else text + default for text in replay]


def prepare(
    options: TrainOptions, recipe: Recipe, processes: int, *, weights: bool
) -> tuple[Recipe, TrainingDataset, Validator | None, TrainingSetup | None]:
    """Check the data, then have the weights, and say what the run will be.

    Args:
        recipe: of the options.
        processes: that train together.
        weights: load those that the run starts from.

    Returns:
        The recipe as it is saved, what is trained on, what is validated on, and the network; the
        last is `None` in a dry run from weights of which nothing is known before they are
        downloaded.
    """
    from birefnet.training.assemble import missing_file, set_up_training, weights_to_fetch
    from birefnet.training.data.dataset import build_dataset
    from birefnet.training.run_folder import RunFolder
    from birefnet.training.schedule import Plan
    from birefnet.weights.obtain import weight_files

    data = build_dataset(recipe.data, seed=recipe.loop.seed)
    validator = make_validator(recipe, data)
    if options.dry_run:
        say_once(_open_some(data, validator))
    to_fetch = weights_to_fetch(recipe) if weights else None
    notes = list(data.notes)
    if to_fetch and options.dry_run:
        say_once(f"a run would download {to_fetch}")
        weights = False
    elif to_fetch:
        say_once(f"downloading {to_fetch}")
        if recipe.init:  # the pictures' size follows these
            weight_files(recipe.init)
            recipe = resolve_recipe(options)
            data = build_dataset(recipe.data, seed=recipe.loop.seed)
    elif options.dry_run and weights and (lack := missing_file(recipe)):
        notes.append(f"{ENDS_HERE}: {lack}")
        weights = False
    setup = None
    if recipe.network or not to_fetch or to_fetch.checkpoint or not options.dry_run:
        name = options.output.resolve().name if options.output else recipe.name
        last = RunFolder(options.output).last if options.resume and options.output else None
        setup = set_up_training(recipe, name=name, weights=weights, written=last)
        recipe = setup.recipe
        data.preprocess = setup.preprocess
        notes += _classes_in_vain(setup.network.config.auxiliary_classes, len(data.classes))
    plan = Plan(recipe.schedule, data.epoch_length, processes)
    too_long = recipe.loss.fitted(plan.epochs)[1]
    notes += [f"{reason}: the phase is left out; train longer to have it" for reason in too_long]
    for line in opening(recipe, setup, plan, validator):
        say_once(line)
    for note in notes:
        warn_once(note)
    return recipe, data, validator, setup


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


def _open_some(data: TrainingDataset, validator: Validator | None) -> str:
    """Open some pictures of each source; a sentence that says how many.

    Raises:
        ImageError: one of them cannot be read.
    """
    from birefnet.training.data.sources import read_some

    validation = validator.sets.values() if validator else ()
    sources = [*data.sources, *data.backgrounds, *validation]
    opened, there = sum(read_some(each, MOST_OPENED) for each in sources), sum(map(len, sources))
    rest = "" if opened == there else "; `birefnet data check PATH` opens all"
    return f"opened {opened:,} of {counted(there, 'picture')}{rest}"


def _classes_in_vain(head: int, classes: int) -> list[str]:
    """A sentence where the classification head and the classes of the data do not go together.

    Raises:
        BiRefNetError: there are more classes than the head tells apart.
    """
    if head and classes > head:
        raise BiRefNetError(
            f"the data have {counted(classes, 'class', 'classes')} and the network tells {head} "
            f"apart; set network_overrides.auxiliary_classes={classes}, or data.classes=none"
        )
    if head and not classes:
        return ["the classification head learns nothing: give classes, such as data.classes=dis5k"]
    if classes and not head:
        return [
            f"not used: {counted(classes, 'class', 'classes')} of the data, for the network has no "
            f"head (network_overrides.auxiliary_classes={classes})"
        ]
    return []


def make_validator(recipe: Recipe, data: TrainingDataset) -> Validator | None:
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
                f"{path} has pictures without a mask; validate on a folder with im and gt"
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
        pictures=settings.pictures,
        previews=settings.previews,
    )


def _shortly_named(sets: Mapping[str, object]) -> dict[str, Any]:
    """Sets by the last part of their paths, or by the whole path where two would be called so."""
    short = [Path(path.partition("::")[0]).name or path for path in sets]
    is_unique = len(set(short)) == len(short)
    return dict(zip(short if is_unique else sets, sets.values(), strict=True))
