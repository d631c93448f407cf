"""The base of all backbones: four maps, stochastic depth, gradient checkpointing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from birefnet.errors import needs_extra

with needs_extra("torch", __name__):
    import torch
    from torch import Tensor, nn
    from torch.nn.modules.batchnorm import _BatchNorm
    from torch.utils.checkpoint import checkpoint


class Backbone(nn.Module):
    """A network that turns an image into four maps, shallow to deep.

    Attributes:
        out_channels: channels of the maps x1, x2, x3, x4 that `forward` gives.
        gradient_checkpointing: while training, forget what happens inside the blocks and compute it
            again in the backward pass: less memory, about a third more time, the same gradients.
    """

    out_channels: tuple[int, int, int, int]
    gradient_checkpointing: bool = False

    def forward(self, x: Tensor) -> list[Tensor]:
        """Normalised image (B, 3, H, W) → maps at strides 4, 8, 16, 32 (a ViT's share one)."""
        raise NotImplementedError

    def run(self, block: nn.Module, x: Tensor, *args: object) -> Tensor:
        """`block(x, *args)`, checkpointed where that is requested and of use."""
        if self.gradient_checkpointing and self.training and torch.is_grad_enabled():
            return checkpointed(block, x, *args)
        return block(x, *args)


def checkpointed(block: nn.Module, x: Tensor, *args: object) -> Tensor:
    """`block(x, *args)` whose inner activations are computed again in the backward pass."""

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), frozen_running_statistics(block)

    return checkpoint(block, x, *args, use_reentrant=False, context_fn=contexts)


@contextmanager
def frozen_running_statistics(module: nn.Module) -> Iterator[None]:
    """Keep the running averages of all BatchNorms in `module` while it runs in training mode.

    Checkpointing runs a block twice on the same batch, which must count once.
    """
    norms = [m for m in module.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    kept = [(norm, norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, momentum, count in kept:
            norm.momentum, norm.num_batches_tracked = momentum, count


class DropPath(nn.Module):
    """Stochastic depth: while training, skip a residual branch for a random part of the batch.

    Source: Huang et al., "Deep Networks with Stochastic Depth", ECCV 2016.

    Args:
        rate: probability of skipping, 0 to below 1; the branches that stay are scaled by
            1 / (1 - rate), so that the mean is kept.
    """

    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        if not 0.0 <= rate < 1.0:
            raise ValueError(f"drop path must be at least 0 and below 1, got {rate}")
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Any shape, the batch first."""
        if self.rate == 0.0 or not self.training:
            return x
        keep = 1.0 - self.rate
        kept = x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(keep)
        return x * kept.div_(keep)

    def extra_repr(self) -> str:
        """The rate, for `print(network)`."""
        return f"rate={self.rate:.3f}"


def drop_path_rates(last: float, blocks: int) -> list[float]:
    """Rates that grow linearly from 0 at the first block to `last` at the last one."""
    return [last * i / max(blocks - 1, 1) for i in range(blocks)]
