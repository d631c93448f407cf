"""From settings to an optimiser: which parameter moves at which rate."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from birefnet.errors import needs_extra

with needs_extra("torch", __name__):
    import torch
    from torch import nn

from birefnet.network.guidance import is_guidance
from birefnet.training.recipe import OptimiserSettings

PEAK = "peak"
"""Key of a parameter group's highest learning rate; the schedule multiplies it."""

_BACKBONE = "encoder.backbone."
# What wrappers (DDP, FSDP, torch.compile) put into the names of parameters.
_WRAPPERS = ("module.", "_fsdp_wrapped_module.", "_orig_mod.")


def plain_name(name: str) -> str:
    """A parameter's name without what wrappers of the network add."""
    for wrapper in _WRAPPERS:
        name = name.replace(wrapper, "")
    return name


def scaled_rate(settings: OptimiserSettings, pictures_per_step: int) -> float:
    """The decoder's peak learning rate for steps of so many pictures."""
    share = pictures_per_step / settings.reference_batch
    factors = {"none": 1.0, "sqrt": math.sqrt(share), "linear": share}
    return settings.rate * factors[settings.batch_scaling]


def parameter_groups(
    parameters: Iterable[tuple[str, nn.Parameter]],
    settings: OptimiserSettings,
    *,
    depths: dict[str, int],
    rate: float,
) -> list[dict[str, Any]]:
    """Groups of the parameters that learn, one for each learning rate and weight decay.

    Args:
        parameters: of the network, with their names (as wrappers may have changed them).
        settings: factors of the rates.
        depths: of the backbone's parameters by their names in it, see `freezing.block_depths`.
        rate: peak learning rate of the decoder.
    """
    deepest = max(depths.values(), default=0)
    groups: dict[tuple[float, float], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in parameters:
        if not parameter.requires_grad:
            continue
        name = plain_name(name)
        factor = 1.0
        if is_guidance(name):
            factor = settings.guidance_factor
        elif name.startswith(_BACKBONE):
            below = deepest - depths[name.removeprefix(_BACKBONE)]
            factor = settings.encoder_factor * settings.layer_decay**below
        elif ".offset." in name or ".modulator." in name:  # of deformable convolutions
            factor = settings.offset_factor
        is_decayed = parameter.ndim > 1 or settings.decay_vectors
        groups[rate * factor, settings.weight_decay if is_decayed else 0.0].append(parameter)
    return [
        {"params": members, "lr": peak, PEAK: peak, "weight_decay": decay}
        for (peak, decay), members in groups.items()
    ]


def make_optimiser(
    groups: list[dict[str, object]], settings: OptimiserSettings
) -> torch.optim.Optimizer:
    """The optimiser that `settings` name."""
    if settings.name == "sgd":
        return torch.optim.SGD(groups, momentum=settings.momentum, nesterov=settings.momentum > 0)
    kind = torch.optim.AdamW if settings.name == "adamw" else torch.optim.Adam
    return kind(groups, betas=settings.betas)


def set_rates(optimiser: torch.optim.Optimizer, factor: float) -> None:
    """Every group's learning rate becomes `factor` of its peak."""
    for group in optimiser.param_groups:
        group["lr"] = group[PEAK] * factor
