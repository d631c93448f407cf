"""The maps inside a network between a picture and its matte, recorded by hooks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from birefnet.network.birefnet import BiRefNet
from birefnet.network.decoder import BilateralReferenceStage
from birefnet.network.gradients import gradient_label

Map = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Stage:
    """One bilateral-reference stage of the decoder.

    Maps are float32 h x w, features C x h x w, at the stage's own size; `None` where the network
    has no such part.

    Attributes:
        stride: input pixels for one of the stage.
        grid: rows and columns of the tiles of the source image; (1, 1) if the stage sees the whole
            image.
        reference: features of the image-patch block (inward reference).
        features: of the reconstruction block, before the outward reference.
        attended: the same after it.
        coarse: probability of the subject, as multi-stage supervision trains it.
        gradient: predicted gradient near the subject, 0 to 1.
        target: the training target of `gradient`: the image gradient near the coarse map.
        attention: of the outward reference, 0 to 1.
    """

    stride: int
    grid: tuple[int, int]
    reference: Map | None
    features: Map
    attended: Map
    coarse: Map | None
    gradient: Map | None
    target: Map | None
    attention: Map | None


@dataclass(frozen=True, eq=False)
class Observation:
    """All maps of one forward pass.

    Attributes:
        image: the network's input, float32 3 x H x W, normalised.
        encoded: the encoder's maps x1 to x4 at strides 4, 8, 16, 32, after the image pyramid.
        squeezed: the input of the decoder.
        stages: of the decoder, deep to shallow.
        logits: float32 H x W.
    """

    image: Map
    encoded: tuple[Map, ...]
    squeezed: Map
    stages: tuple[Stage, ...]
    logits: Map


def observe(network: BiRefNet, image: Tensor) -> Observation:
    """Run the network on one normalised image (1,3,H,W) and keep the maps inside.

    Args:
        network: in evaluation mode and not simplified, on the image's device.
        image: sides are multiples of 32.
    """
    stages: list[Any] = list(network.decoder.stages)  # type: ignore[arg-type]
    with _recorded(network, stages) as seen, torch.no_grad():
        out = network(image, supervised=True)
        targets = [gradient_label(image, coarse) for coarse in out.stages[: len(out.gradients)]]
    encoded = [_numbers(x) for x in seen[network.encoder].maps]
    squeezed = _numbers(seen[network.squeeze or network.encoder], "context")
    found = []
    for i, stage in enumerate(stages):
        result = seen[stage]
        high, wide = (
            n // m for n, m in zip(image.shape[-2:], result.features.shape[-2:], strict=True)
        )
        found.append(
            Stage(
                stride=high,
                grid=(high, wide) if stage.inward == "split" else (1, 1),
                reference=None if stage.reference is None else _numbers(seen[stage.reference]),
                features=_numbers(seen[stage.block]),
                attended=_numbers(result.features),
                coarse=_probability(result.coarse),
                gradient=_probability(result.gradient),
                target=_numbers(targets[i])[0] if i < len(targets) else None,
                attention=None
                if stage.outward is None
                else _probability(seen[stage.outward.attention]),
            )
        )
    return Observation(
        image=_numbers(image),
        encoded=tuple(encoded),
        squeezed=squeezed,
        stages=tuple(found),
        logits=_numbers(out.logits)[0],
    )


@contextmanager
def _recorded(
    network: BiRefNet, stages: list[BilateralReferenceStage]
) -> Iterator[dict[nn.Module, Any]]:
    """Inside, the outputs of the modules that the figure shows are kept by module."""
    watched: list[nn.Module | None] = [network.encoder, network.squeeze]
    for stage in stages:
        watched += [stage, stage.reference, stage.block]
        watched += [stage.outward.attention] if stage.outward is not None else []
    seen: dict[nn.Module, object] = {}

    def keep(module: nn.Module, inputs: Any, output: object) -> None:
        seen[module] = output

    handles = [module.register_forward_hook(keep) for module in watched if module is not None]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _numbers(x: Any, attribute: str | None = None) -> Map:
    """The first of a batch as float32 on the CPU."""
    if attribute is not None and not isinstance(x, Tensor):
        x = getattr(x, attribute)
    return np.ascontiguousarray(x[0].detach().float().cpu().numpy())


def _probability(logits: Tensor | None) -> Map | None:
    return None if logits is None else _numbers(logits.sigmoid())[0]
