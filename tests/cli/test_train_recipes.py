"""Every recipe in every variant starts by the command that it names: dry, and for two steps.

Its sets are a few drawn pictures, its network is the smallest; all else is the recipe's own.
"""

from __future__ import annotations

import math
import shlex
from itertools import pairwise
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

pytest.importorskip("accelerate")
pytest.importorskip("yaml")

import yaml

from birefnet.cli.main import app
from birefnet.training.loss_settings import TERMS
from birefnet.training.recipe import Recipe
from birefnet.training.recipes import RECIPES, get_recipe
from birefnet.training.run_folder import RunFolder
from data_sets import make_backgrounds, make_cutouts, photo, save

EACH = pytest.mark.parametrize("recipe", RECIPES.values(), ids=lambda r: f"{r.name}-{r.variant}")
SMALL = [
    "data.width=64", "data.height=64", "schedule.batch_size=2", "schedule.accumulate=1",
    "loop.workers=0", "loop.trackers=none", "loop.log_every=1", "validation.previews=0",
]  # fmt: skip
TINY = ["network=tiny", "encoder_weights=none"]


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs with classes in their names, cut-outs, and pictures without a subject."""
    root = tmp_path_factory.mktemp("sets")
    for number, kind in enumerate(("Bag", "Bag", "Chair")):
        rgb, truth = photo(number)
        name = f"1#Things#{number}#{kind}#{number}"
        save(root / "pairs" / "im" / f"{name}.jpg", rgb)
        save(root / "pairs" / "gt" / f"{name}.png", truth)
    make_cutouts(root / "cutouts", 3)
    make_backgrounds(root / "scenes", 2)
    return root


def command_of(recipe: Recipe, sets: Path, folder: Path) -> list[str]:
    """The words that the recipe names, after `train`; each set in them is there in `folder`."""
    words = shlex.split(recipe.about.command)
    words = words[words.index("train") + 1 :]
    for option, value in pairwise(words):
        name = value.rpartition("=")[2] if option == "--set" else value
        kinds = {"--data": "cutouts" if name == "CUTOUTS" else "pairs", "--validate": "pairs"}
        kind = "scenes" if value.startswith("data.backgrounds=") else kinds.get(option)
        if kind:
            (folder / name).symlink_to(sets / kind)
    return words


def train(*words: object, settings: list[str] = SMALL) -> Result:
    options = [part for text in settings for part in ("--set", text)]
    return CliRunner().invoke(app, ["train", *map(str, words), *options, "--device", "cpu"])


@EACH
def test_dry_run_and_two_steps(
    recipe: Recipe, sets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BIREFNET_OFFLINE", "1")
    words = command_of(recipe, sets, tmp_path)
    settings = [*SMALL, *(TINY if recipe.network else []), "schedule.steps=2"]
    before = sorted(tmp_path.iterdir())

    dry = train(*words, "--dry-run", settings=settings)
    assert dry.exit_code == 0, dry.output
    assert sorted(tmp_path.iterdir()) == before
    resolved = Recipe.from_dict(yaml.safe_load(dry.stdout))
    assert (resolved.loss, resolved.optimiser) == (recipe.loss, recipe.optimiser)
    assert resolved.data.augment == recipe.data.augment

    if recipe.name.startswith("hrsod-"):  # they differ from hrsod in their data alone
        if recipe.variant != "recommended":
            return
        words[words.index("--validate") + 1] = "none"
    elif recipe.variant != "recommended" and "--validate" in words:  # as in that variant
        words[words.index("--validate") + 1] = "none"
    result = train(*words, settings=settings)
    assert result.exit_code == 0, result.output
    assert ("the phase is left out" in result.stderr) == (recipe.variant != "recommended")
    run = RunFolder(tmp_path / words[words.index("--output") + 1])
    assert run.state.is_file()
    steps = [line for line in run.read_metrics() if "loss" in line]
    assert [line["step"] for line in steps] == [1, 2]
    has_classes = "auxiliary_classes" in recipe.network_overrides
    terms = {
        name
        for name, weight in recipe.loss.weights_at(0, recipe.schedule.epochs).items()
        if weight and (name != "classification" or has_classes)
    }
    for line in steps:
        assert terms <= line.keys()
        assert all(math.isfinite(line[name]) for name in ("loss", *terms))


@pytest.mark.parametrize("variant", ["paper", "official"])
def test_the_last_phase_is_that_of_the_recipe(variant: str, sets: Path, tmp_path: Path) -> None:
    """Two epochs more than the phase's 20, of one step each."""
    words = ["--recipe", "cod", "--variant", variant, "--data", sets / "pairs"]
    settings = [*SMALL, *TINY, "schedule.epochs=22", "data.epoch_length=2"]
    result = train(*words, "--validate", "none", "--output", tmp_path / "run", settings=settings)
    assert result.exit_code == 0, result.output
    assert "left out" not in result.stderr
    lines = RunFolder(tmp_path / "run").read_metrics()
    assert len(lines) == 22
    weights = [get_recipe("cod", variant).loss.weights_at(epoch, 22) for epoch in range(22)]
    for line, expected in zip(lines, weights, strict=True):
        paid = {name for name in TERMS if name in line}
        assert paid == {name for name in TERMS if expected[name] and name != "classification"}
    assert ("bce" in lines[1], "bce" in lines[2]) == (True, False)


@pytest.mark.parametrize(
    ("head", "classes", "message"),
    [
        (1, "dis5k", "the data have 2 classes and the network tells 1 apart"),
        (2, "none", "the classification head learns nothing"),
        (0, "dis5k", "not used: 2 classes of the data"),
        (2, "dis5k", ""),
    ],
)
def test_classes_and_their_head_go_together(
    head: int, classes: str, message: str, sets: Path
) -> None:
    settings = [*SMALL, *TINY, f"data.classes={classes}"]
    settings += [f"network_overrides.auxiliary_classes={head}"]
    words = ["--recipe", "cod", "--data", sets / "pairs", "--validate", "none", "--dry-run"]
    result = train(*words, settings=settings)
    assert (result.exit_code == 0) == (head != 1)
    said = f"{result.stderr} {result.exception or ''}"
    assert message in said
    assert ("class" in said.partition("pictures an epoch")[2]) == bool(message and head != 1)


def test_one_small_picture_at_a_time_is_refused_in_a_sentence(sets: Path, tmp_path: Path) -> None:
    words = ["--recipe", "cod", "--data", sets / "pairs", "--output", tmp_path / "run"]
    result = train(*words, settings=[*SMALL, *TINY, "schedule.batch_size=1"])
    assert "1 picture of 64 x 64 at a time leaves a BatchNorm a single value" in str(
        result.exception
    )


def test_a_run_that_never_saved_is_started_anew(
    sets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed while it validated the start, it holds a recipe and no state."""
    run = tmp_path / "run"
    words = ["--recipe", "cod", "--data", sets / "pairs", "--output", run]
    settings = [*SMALL, *TINY, "schedule.steps=2"]
    whole = train(*words, settings=settings)
    assert whole.exit_code == 0, whole.output
    (run / "state.pt").unlink()
    again = train("--resume", "--output", run, settings=[])
    assert again.exit_code == 0, again.output
    assert "nothing had been saved yet: starting from the beginning" in again.stderr
    assert RunFolder(run).load_state()["step"] == 2
