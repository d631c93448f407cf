"""From a recipe to a trainer that is ready to run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from birefnet.imaging.geometry import Preprocess
from birefnet.network.backbones.efficientnet_lite import PIXEL_MEAN, PIXEL_STD
from birefnet.network.birefnet import BiRefNet
from birefnet.network.build import build_network
from birefnet.network.config import NetworkConfig, preset
from birefnet.network.guidance import is_guidance
from birefnet.training.loop import Origin
from birefnet.training.pretrained import load_backbone, locate_weights
from birefnet.training.recipe import Recipe
from birefnet.training.settings import SettingsError, override
from birefnet.weights.checkpoint import load_checkpoint


@dataclass(frozen=True)
class Start:
    """What a run begins with.

    Attributes:
        network: with the recipe's weights, or random ones.
        preprocess: how its pictures are prepared.
        recipe: with all that depends on the weights filled in.
        origin: what to write beside the trained weights.
    """

    network: BiRefNet
    preprocess: Preprocess
    recipe: Recipe
    origin: Origin


def begin(recipe: Recipe, *, name: str, weights: bool = True) -> Start:
    """Build the network of a recipe and load what it starts from.

    Args:
        recipe: what to do.
        name: of the model that comes out.
        weights: load them; without, as when a run is resumed, they stay random.

    Raises:
        SettingsError: neither a network nor weights are named, or they do not fit each other.
        WeightsError: the weights cannot be had.
    """
    torch.manual_seed(recipe.loop.seed)
    loaded = (
        load_checkpoint(recipe.init) if recipe.init and (weights or not recipe.network) else None
    )
    config = loaded.config if loaded and recipe.network is None else _config_of(recipe)
    if recipe.network_overrides:
        config = override(config, recipe.network_overrides)
    network = build_network(config)
    if loaded and weights:
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
        path = locate_weights(recipe.encoder_weights, config.backbone)
        load_backbone(network.encoder.backbone, path)
    is_pretrained = bool(recipe.init or recipe.encoder_weights)
    if recipe.loop.frozen_encoder_norms is None:
        recipe = recipe.override({"loop.frozen_encoder_norms": is_pretrained})
    given = loaded.preprocess if loaded else _normalisation(config)
    size = recipe.data.width, recipe.data.height
    preprocess = replace(
        given,
        width=size[0],
        height=size[1],
        fit="stretch",
        looks=given.looks if size == (given.width, given.height) else (),
    )
    origin = Origin(
        name,
        licence=loaded.licence if loaded else None,
        source=f"trained by the recipe {recipe.name} ({recipe.variant}) from "
        f"{recipe.init or recipe.encoder_weights or 'random weights'}",
    )
    return Start(network, preprocess, recipe, origin)


def _config_of(recipe: Recipe) -> NetworkConfig:
    if recipe.network is None:
        raise SettingsError(
            f"the recipe {recipe.name} starts from trained weights; name them with "
            "--init NAME|PATH, or give a network, such as --set network=swin_v1_l"
        )
    return preset(recipe.network)


def _normalisation(config: NetworkConfig) -> Preprocess:
    """What the backbone's pretrained weights expect."""
    if config.backbone.startswith("efficientnet_lite"):
        return Preprocess(mean=PIXEL_MEAN, std=PIXEL_STD)
    return Preprocess()


def fitted_to_weights(recipe: Recipe) -> dict[str, Any]:
    """Settings that follow the weights of `init`, by dotted name: the size of their pictures."""
    if recipe.init is None:
        return {}
    preprocess = load_checkpoint(recipe.init).preprocess
    if preprocess.fit == "native":
        return {}
    return {"data.width": preprocess.width, "data.height": preprocess.height}
