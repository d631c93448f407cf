"""The effective receptive field of one pixel of the matte, and the sampling positions for it."""

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
from birefnet.network.blocks import DeformableConv2d


@dataclass(frozen=True, eq=False)
class Sampling:
    """The sampling positions of a deformable kernel for one pixel.

    Attributes:
        stage: of the decoder, 4 (stride 32) to 1 (stride 4), as the paper counts.
        stride: input pixels for one of the stage.
        kernel: side of the kernel.
        positions: k² x 2, row and column in the network's input [px].
        weights: modulation of each tap, 0 to 2.
    """

    stage: int
    stride: int
    kernel: int
    positions: NDArray[np.float32]
    weights: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Field:
    """The receptive field of one pixel of the matte.

    Attributes:
        pixel: row and column in the network's input.
        influence: float32 H x W, how strongly the pixel's logit reacts to each input pixel: the
            absolute gradient, summed over the channels (Luo et al., NeurIPS 2016).
        samplings: of the deformable kernels, deep to shallow.
    """

    pixel: tuple[int, int]
    influence: NDArray[np.float32]
    samplings: tuple[Sampling, ...]

    def radius(self, share: float = 0.5) -> float:
        """Distance from the pixel within which this share of the influence lies [px]."""
        rows, columns = np.indices(self.influence.shape)
        distance = np.hypot(rows - self.pixel[0], columns - self.pixel[1]).ravel()
        order = np.argsort(distance)
        weight = np.cumsum(self.influence.ravel()[order], dtype=np.float64)
        reached = min(int(np.searchsorted(weight, share * weight[-1])), weight.size - 1)
        return float(distance[order][reached])


def receptive_field(network: BiRefNet, image: Tensor, pixel: tuple[int, int]) -> Field:
    """The field of one pixel of the matte.

    Inner activations are computed again in the backward pass instead of being stored, which saves
    memory.

    Args:
        network: in evaluation mode and not simplified, on the image's device.
        image: normalised, (1,3,H,W).
        pixel: row and column.
    """
    row, column = pixel
    image = image.detach().clone().requires_grad_()
    with _checkpointed(network), _sampled(network, image, pixel) as samplings, torch.enable_grad():
        logits = network(image)
        (gradient,) = torch.autograd.grad(logits[0, 0, row, column], image)
    influence = gradient[0].abs().sum(dim=0).float().cpu().numpy()
    return Field(pixel, np.ascontiguousarray(influence), tuple(samplings))


@contextmanager
def _checkpointed(network: nn.Module) -> Iterator[None]:
    """Gradient checkpointing of all modules that have it; it needs their `training`, but norms and
    dropout inside keep theirs.
    """
    owners: list[Any] = [m for m in network.modules() if hasattr(m, "gradient_checkpointing")]
    before = [(m, m.training, m.gradient_checkpointing) for m in owners]
    parameters = [(p, p.requires_grad) for p in network.parameters()]
    for module in owners:
        module.training, module.gradient_checkpointing = True, True
    for parameter, _ in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for module, training, checkpointing in before:
            module.training, module.gradient_checkpointing = training, checkpointing
        for parameter, requires_grad in parameters:
            parameter.requires_grad_(requires_grad)


@contextmanager
def _sampled(network: BiRefNet, image: Tensor, pixel: tuple[int, int]) -> Iterator[list[Sampling]]:
    """Inside, the deformable convolutions of the decoder record their sampling positions."""
    stages: Any = network.decoder.stages
    found: list[Sampling] = []
    handles = []
    for index, stage in enumerate(stages):
        for module in stage.block.modules():
            if isinstance(module, DeformableConv2d):
                hook = _recorder(found, len(stages) - index, image.shape[-2:], pixel)
                handles.append(module.register_forward_hook(hook))
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _recorder(found: list[Sampling], stage: int, size: Any, pixel: tuple[int, int]) -> Any:
    def hook(module: DeformableConv2d, inputs: tuple[Tensor], output: Tensor) -> None:
        x = inputs[0].detach()
        stride = size[0] // x.shape[-2]
        side = module.regular.kernel_size[0]
        if any(s.stage == stage and s.kernel == side for s in found):
            return  # the second 1x1 branch, or a block computed again
        row, column = (min(i // stride, n - 1) for i, n in zip(pixel, x.shape[-2:], strict=True))
        with torch.no_grad():
            offsets = module.offset(x)[0, :, row, column].view(-1, 2).float().cpu().numpy()
            weights = 2 * module.modulator(x)[0, :, row, column].sigmoid().float().cpu().numpy()
        taps = np.stack(np.divmod(np.arange(side * side), side), axis=1) - side // 2
        positions = taps + offsets + np.array([row, column]) + 0.5
        found.append(
            Sampling(stage, stride, side, (positions * stride).astype(np.float32), weights)
        )

    return hook
