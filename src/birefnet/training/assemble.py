"""From a recipe to a trainer that is ready to run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from birefnet.errors import needs_extra

with needs_extra("torch", "birefnet.training.assemble"):
    import torch

from birefnet.imaging.geometry import Preprocess
from birefnet.network.backbones.efficientnet_lite import PIXEL_MEAN, PIXEL_STD
from birefnet.network.birefnet import BiRefNet
from birefnet.network.build import build_network
from birefnet.network.config import NetworkConfig, preset
from birefnet.network.guidance import is_guidance
from birefnet.training.loop import ModelInfo
from birefnet.training.pretrained import (
    IMAGENET,
    fetch_backbone,
    load_backbone,
    missing_backbone,
    no_file,
)
from birefnet.training.recipe import Recipe
from birefnet.training.settings import SettingsError, override
from birefnet.weights.checkpoint import load_checkpoint
from birefnet.weights.locate import read_settings
from birefnet.weights.obtain import Missing, missing


@dataclass(frozen=True)
class TrainingSetup:
    """The set-up of a run: network, preprocessing, recipe.

    Attributes:
        network: with the recipe's weights, or random ones.
        preprocess: how its pictures are prepared, in validation and by the model that is written:
            that of the weights, but one view of the recipe's size where that is another.
        recipe: with all that depends on the weights filled in.
        model_info: what to write beside the trained weights.
    """

    network: BiRefNet
    preprocess: Preprocess
    recipe: Recipe
    model_info: ModelInfo


@dataclass(frozen=True)
class _Base:
    """The weights that a run starts from; `network` only where they are here."""

    config: NetworkConfig
    preprocess: Preprocess
    licence: str | None
    network: BiRefNet | None = None


def weights_to_fetch(recipe: Recipe) -> Missing | None:
    """The download that `set_up_training` would need; `None` where everything is here.

    Raises:
        SettingsError: neither a network nor weights are named.
        WeightsError: weights that do not exist.
    """
    if recipe.init:
        return missing(recipe.init)
    if recipe.encoder_weights:
        return missing_backbone(recipe.encoder_weights, _config_of(recipe).backbone)
    return None


def missing_file(recipe: Recipe) -> str | None:
    """The sentence for a file of encoder weights that is named and not there, else `None`."""
    name = None if recipe.init else recipe.encoder_weights
    return no_file(name) if name and name != IMAGENET and not Path(name).is_file() else None


def set_up_training(
    recipe: Recipe, *, name: str, weights: bool = True, written: Path | None = None
) -> TrainingSetup:
    """Build the network of a recipe and load what it starts from.

    Args:
        recipe: what to do.
        name: of the model that comes out.
        weights: load them; without, as when a run is resumed, they stay random.
        written: the folder of a model that the run wrote before it was interrupted, whose
            preprocessing and licence it keeps.

    Raises:
        SettingsError: neither a network nor weights are named, or they do not fit each other.
        WeightsError: the weights cannot be had.
    """
    torch.manual_seed(recipe.loop.seed)
    loaded = (
        _base(recipe.init, weights) if recipe.init and (weights or not recipe.network) else None
    )
    config = loaded.config if loaded and recipe.network is None else _config_of(recipe)
    if recipe.network_overrides:
        config = override(config, recipe.network_overrides)
    network = build_network(config)
    if loaded and loaded.network and weights:
        try:
            state = loaded.network.state_dict()
            if not loaded.config.guidance_channel:  # which then starts at 0
                state = {n: t for n, t in network.state_dict().items() if is_guidance(n)} | state
            network.load_state_dict(state)
        except RuntimeError as failure:
            first = str(failure).splitlines()[1].strip()
            raise SettingsError(
                f"the weights {recipe.init} do not fit the network {recipe.network or 'with these'}"
                f" overrides ({first}); leave network out to take that of the weights"
            ) from None
    elif recipe.encoder_weights and weights:
        path = fetch_backbone(recipe.encoder_weights, config.backbone)
        load_backbone(network.encoder.backbone, path)
    is_pretrained = bool(recipe.init or recipe.encoder_weights)
    if recipe.loop.frozen_encoder_norms is None:
        recipe = recipe.override({"loop.frozen_encoder_norms": is_pretrained})
    given = loaded.preprocess if loaded else _normalisation(config)
    size = recipe.data.width, recipe.data.height
    is_same = size == (given.width, given.height) and given.fit != "native"
    preprocess = given if is_same else given.at(*size)
    before = read_settings(written / "config.json") if written else {}
    if "preprocess" in before:
        preprocess = Preprocess.from_dict(before["preprocess"])
    network.preprocess = preprocess
    model_info = ModelInfo(
        name,
        licence=before.get("licence") or (loaded.licence if loaded else None),
        source=f"trained by the recipe {recipe.name} ({recipe.variant}) from "
        f"{recipe.init or recipe.encoder_weights or 'random weights'}",
    )
    return TrainingSetup(network, preprocess, recipe, model_info)


def _base(init: str, weights: bool) -> _Base:
    """Load `init`; the catalogue's entry is enough where no `weights` are needed and none here."""
    if not weights and (to_fetch := missing(init)) and to_fetch.checkpoint:
        entry = to_fetch.checkpoint
        return _Base(preset(entry.preset), entry.preprocess, entry.licence)
    loaded = load_checkpoint(init)
    return _Base(loaded.config, loaded.preprocess, loaded.licence, loaded.network)


def _config_of(recipe: Recipe) -> NetworkConfig:
    if recipe.network is None:
        raise SettingsError(
            f"the recipe {recipe.name} starts from trained weights; name them with "
            "--init NAME|PATH, or give a network, such as --set network=swin_v1_l"
        )
    return preset(recipe.network)


def _normalisation(config: NetworkConfig) -> Preprocess:
    """The normalisation of the backbone's pretrained weights."""
    if config.backbone.startswith("efficientnet_lite"):
        return Preprocess(mean=PIXEL_MEAN, std=PIXEL_STD)
    return Preprocess()


def fitted_to_weights(recipe: Recipe) -> dict[str, Any]:
    """Settings that follow the weights of `init`, by dotted name: the size of their pictures.

    Nothing is downloaded: of weights that are neither here nor in the catalogue, nothing is known.
    """
    if recipe.init is None:
        return {}
    to_fetch = missing(recipe.init)
    if to_fetch and not to_fetch.checkpoint:
        return {}
    preprocess = _base(recipe.init, weights=False).preprocess
    if preprocess.fit == "native":
        return {}
    return {"data.width": preprocess.width, "data.height": preprocess.height}
