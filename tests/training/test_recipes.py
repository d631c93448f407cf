"""Recipes: each is whole, goes through YAML and back, has a command that parses, trains a step."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import typer

import birefnet
from birefnet.cli.main import app
from birefnet.errors import WeightsError
from birefnet.inference.engines.devices import UnknownDeviceError, resolve_dtype
from birefnet.network.build import build_network
from birefnet.network.config import PRESETS, preset
from birefnet.training.loss_settings import TERMS
from birefnet.training.objective import Objective
from birefnet.training.optim import make_optimiser, parameter_groups
from birefnet.training.pretrained import fetch_backbone
from birefnet.training.recipe import Recipe, load_yaml
from birefnet.training.recipes import RECIPES, get_recipe, recipe_names, variants
from birefnet.training.settings import SettingsError
from birefnet.weights.catalogue import find

DOCUMENT = Path(birefnet.__file__).parents[2] / "docs" / "recipes.md"
EACH = pytest.mark.parametrize("recipe", RECIPES.values(), ids=lambda r: f"{r.name}-{r.variant}")
# Combinations of data share all that is computed with `hrsod`.
COMPUTED = [r for r in RECIPES.values() if not r.name.startswith("hrsod-")]


def test_every_subject_comes_in_three_variants() -> None:
    subjects = ("dis5k", "hrsod", "cod", "general", "general-2k", "matting", "portrait")
    for name in (*subjects, "hrsod-d", "hrsod-h", "hrsod-u", "hrsod-dh", "hrsod-du", "hrsod-hu"):
        assert variants(name) == ["paper", "official", "recommended"]
    for name in ("finetune", "finetune-matting", "thin", "nano"):
        assert variants(name) == ["recommended"]
    assert set(subjects) < set(recipe_names())


@EACH
def test_round_trip(recipe: Recipe, tmp_path: Path) -> None:
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    pytest.importorskip("yaml")
    recipe.save(tmp_path / "recipe.yaml")
    assert Recipe.from_dict(load_yaml(tmp_path / "recipe.yaml")) == recipe


@EACH
def test_says_what_to_expect(recipe: Recipe) -> None:
    about = recipe.about
    assert all((about.purpose, about.command, about.time, about.memory, about.score, about.source))
    words = shlex.split(about.command)
    words = words[words.index("birefnet") + 1 :]
    assert words[0] == "train"
    command = typer.main.get_command(app).commands["train"]  # type: ignore[attr-defined]
    given = command.make_context("train", words[1:]).params
    assert given["recipe"] == recipe.name
    assert (given["variant"] or "recommended") == recipe.variant
    assert given["data"]
    Recipe().override(given["assignments"] or [])


@EACH
def test_names_what_exists(recipe: Recipe) -> None:
    assert recipe.network in (None, *PRESETS)
    assert recipe.network or recipe.init
    if recipe.encoder_weights == "imagenet":
        assert recipe.network is not None
        backbone = preset(recipe.network).backbone
        assert find(f"backbone-{backbone}").preset == backbone
    Objective(recipe.loss, epochs=recipe.schedule.epochs)
    assert recipe.loss.iou == 0 or recipe.task == "segmentation" or recipe.variant == "paper"


@pytest.mark.parametrize("recipe", COMPUTED, ids=lambda r: f"{r.name}-{r.variant}")
def test_one_step_of_each(recipe: Recipe) -> None:
    """On a tiny network at 64 pixels: every learning weight gets a finite gradient and moves; the
    losses of the last epoch are finite too."""
    torch.manual_seed(0)
    classes = recipe.network_overrides.get("auxiliary_classes", 0)
    network = build_network(replace(preset("tiny"), auxiliary_classes=classes)).train()
    network.encoder.requires_grad_(False)
    groups = parameter_groups(
        network.named_parameters(), recipe.optimiser, depths={}, rate=recipe.optimiser.rate
    )
    optimiser = make_optimiser(groups, recipe.optimiser)
    objective = Objective(recipe.loss, epochs=recipe.schedule.epochs)
    image = torch.randn(2, 3, 64, 64)
    truth = (torch.rand(2, 1, 64, 64) > 0.5).float()
    learning = [p for p in network.parameters() if p.requires_grad]
    before = [p.detach().clone() for p in learning]
    output = network(image, supervised=True)
    labels = torch.tensor([3, -1])
    loss, parts = objective(output, image, truth, classes=labels)
    assert ("classification" in parts) == bool(classes)
    last, _ = objective(output, image, truth, epoch=recipe.schedule.epochs - 1, classes=labels)
    assert torch.isfinite(last)
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(p.grad).all() for p in learning)
    optimiser.step()
    moved = [not torch.equal(x, y) for x, y in zip(before, learning, strict=True)]
    assert sum(moved) > 0.9 * len(moved)


def test_values_of_the_paper_and_the_release() -> None:
    """The table of paper and code, as facts."""
    paper, official = get_recipe("dis5k", "paper"), get_recipe("dis5k", "official")
    assert (paper.optimiser.name, paper.optimiser.rate) == ("adam", 1e-4)
    assert (official.optimiser.name, official.optimiser.weight_decay) == ("adamw", 0.01)
    assert (official.optimiser.batch_scaling, official.optimiser.reference_batch) == ("sqrt", 4)
    assert (paper.schedule.epochs, official.schedule.epochs) == (600, 500)
    assert (paper.schedule.batch_size, official.schedule.batch_size) == (4, 8)
    for recipe in (paper, official):
        loss = recipe.loss
        assert (loss.bce, loss.iou, loss.ssim, loss.classification) == (30, 0.5, 10, 5)
        assert loss.coarse == 1
    assert not paper.loss.ssim_halved
    assert official.loss.ssim_halved
    assert official.loss.iou_summed
    for name, epochs in (("hrsod", 150), ("cod", 150)):
        for variant in ("paper", "official"):
            recipe = get_recipe(name, variant)
            assert (recipe.schedule.epochs, recipe.optimiser.rate) == (epochs, 1e-5)
    assert official.loss.weights_at(499, 500)["iou"] < 1e-11
    assert paper.loss.weights_at(599, 600)["iou"] == 0.5
    assert paper.loss.weights_at(599, 600)["bce"] == 0
    general, matting = (get_recipe(name, "official").loss for name in ("general", "matting"))
    assert (general.bce, general.mae, general.ssim, general.iou) == (30, 100, 10, 0.5)
    assert (matting.bce, matting.mae, matting.ssim, matting.iou) == (30, 100, 10, 0)
    assert get_recipe("general-2k").data.width == 2560
    assert paper.data.augment.rotate == 0
    assert official.data.augment.rotate_degrees == 15


def test_recommended_repairs_the_defects() -> None:
    for recipe in RECIPES.values():
        if recipe.variant != "recommended":
            continue
        loss = recipe.loss
        assert not loss.iou_summed
        assert loss.gradient_detached
        assert not any(phase.repeated for phase in loss.phases)
        last = recipe.schedule.epochs - 1
        assert loss.weights_at(last, last + 1)["iou"] == loss.iou
        assert recipe.schedule.shape == "cosine"
        assert recipe.loop.clip > 0


def test_short_runs_of_recommended_recipes_need_no_other_setting() -> None:
    for name in recipe_names():
        for epochs in (1, 2, 5):
            Objective(get_recipe(name).loss, epochs=epochs)


def test_imagenet_weights_are_those_of_the_backbone(
    own_caches: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BIREFNET_OFFLINE", "1")
    with pytest.raises(WeightsError, match="backbone-swin_v1_t is not in"):
        fetch_backbone("imagenet", "swin_v1_t")
    with pytest.raises(WeightsError, match="no ImageNet weights of efficientnet_lite0 are known"):
        fetch_backbone("imagenet", "efficientnet_lite0")
    assert fetch_backbone("own.pth", "swin_v1_t") == Path("own.pth")


@pytest.mark.skipif(not DOCUMENT.exists(), reason="installed without its repository")
def test_document_shows_the_recipes_as_they_are() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    for recipe in RECIPES.values():
        assert f"`{recipe.name}`" in text or recipe.name.startswith("hrsod-")
    for name in TERMS:
        assert f"`{name}`" in text


@pytest.mark.skipif(not DOCUMENT.exists(), reason="installed without its repository")
def test_settings_file_of_the_document_is_one() -> None:
    yaml = pytest.importorskip("yaml")
    (example,) = re.findall(r"```yaml\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    loss = Recipe().override(yaml.safe_load(example)).loss
    assert loss.weights_at(99, 100) == {**dict.fromkeys(TERMS, 0.0), "iou": 4.0, "ssim": 10.0}


def test_a_retired_switch_is_passed_over_while_off_and_refused_while_on() -> None:
    recipe = get_recipe("nano")
    for off in ({"data.on_device": "false"}, {"data": {"on_device": False}}, ["data.on_device=no"]):
        assert recipe.override(off) == recipe
    assert Recipe.from_dict(recipe.to_dict() | {"data": {"on_device": False}}).name == "nano"
    for on in ({"data.on_device": "true"}, {"data": {"on_device": True}}):
        with pytest.raises(SettingsError, match=r"data.on_device is true; samples are composed by"):
            recipe.override(on)
    with pytest.raises(SettingsError, match=r"data.on_device is 'soon'; expected true or false"):
        recipe.override({"data.on_device": "soon"})


def test_unknown_names_list_what_exists() -> None:
    with pytest.raises(SettingsError, match="no recipe 'dis'; there are dis5k, hrsod"):
        get_recipe("dis")
    with pytest.raises(SettingsError, match="finetune has no variant 'paper'; it comes as recom"):
        get_recipe("finetune", "paper")


def test_fp8_is_refused_with_what_there_is() -> None:
    """The released code offers it; PyTorch has no autocast for it (docs/training.md)."""
    with pytest.raises(SettingsError, match=r"precision is 'fp8'.*bf16"):
        Recipe().override(["loop.precision=fp8"])
    with pytest.raises(UnknownDeviceError, match=r"'fp8' is unknown; give one of.*bf16"):
        resolve_dtype("fp8", torch.device("cpu"))
