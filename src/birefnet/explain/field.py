"""What one pixel of the matte looks at: its effective receptive field, and sampling positions."""

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
    """Where a deformable kernel reads for one pixel.

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
    """What the matte at one pixel depends on.

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

    Inner activations are computed again in the backward pass instead of being kept, so memory
    stays that of a few blocks.

    Args:
        network: in evaluation mode and not simplified, on the image's device.
        image: normalised, (1,3,H,W).
        pixel: row and column.
    """
    row, column = pixel
    image = image.detach().clone().requires_grad_()
    with _frugal(network), _sampled(network, image, pixel) as samplings, torch.enable_grad():
        logits = network(image)
        (gradient,) = torch.autograd.grad(logits[0, 0, row, column], image)
    influence = gradient[0].abs().sum(dim=0).float().cpu().numpy()
    return Field(pixel, np.ascontiguousarray(influence), tuple(samplings))


@contextmanager
def _frugal(network: nn.Module) -> Iterator[None]:
    """Checkpointing wherever there is some; it looks at `training`, which norms and dropout of the
    modules inside must not see.
    """
    owners: list[Any] = [m for m in network.modules() if hasattr(m, "gradient_checkpointing")]
    before = [(m, m.training, m.gradient_checkpointing) for m in owners]
    wanted = [(p, p.requires_grad) for p in network.parameters()]
    for module in owners:
        module.training, module.gradient_checkpointing = True, True
    for parameter, _ in wanted:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for module, training, checkpointing in before:
            module.training, module.gradient_checkpointing = training, checkpointing
        for parameter, asked in wanted:
            parameter.requires_grad_(asked)


@contextmanager
def _sampled(network: BiRefNet, image: Tensor, pixel: tuple[int, int]) -> Iterator[list[Sampling]]:
    """While it lasts, the deformable convolutions of the decoder note what they sample."""
    stages: Any = network.decoder.stages
    found: list[Sampling] = []
    handles = []
    for index, stage in enumerate(stages):
        for module in stage.block.modules():
            if isinstance(module, DeformableConv2d):
                hook = _note(found, len(stages) - index, image.shape[-2:], pixel)
                handles.append(module.register_forward_hook(hook))
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _note(found: list[Sampling], stage: int, size: Any, pixel: tuple[int, int]) -> Any:
    def hook(module: DeformableConv2d, inputs: tuple[Tensor], output: Tensor) -> None:
        x = inputs[0].detach()
        stride = size[0] // x.shape[-2]
        side = module.regular.kernel_size[0]
        if any(s.stage == stage and s.kernel == side for s in found):
            return  # the second 1x1 branch, or a block computed again
        row, column = (min(at // stride, n - 1) for at, n in zip(pixel, x.shape[-2:], strict=True))
        with torch.no_grad():
            offsets = module.offset(x)[0, :, row, column].view(-1, 2).float().cpu().numpy()
            weights = 2 * module.modulator(x)[0, :, row, column].sigmoid().float().cpu().numpy()
        taps = np.stack(np.divmod(np.arange(side * side), side), axis=1) - side // 2
        places = taps + offsets + np.array([row, column]) + 0.5
        found.append(Sampling(stage, stride, side, (places * stride).astype(np.float32), weights))

    return hook
