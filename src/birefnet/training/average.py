"""A running average of the weights, which generalises better than the last ones (Polyak 1992)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from birefnet.errors import needs_extra

with needs_extra("torch", __name__):
    import torch
    from torch import Tensor, nn


class Average:
    """Exponential moving average of a network's parameters and statistics.

    It follows the tensors that this process holds, which under FSDP are its shards.

    Args:
        network: as it is trained (wrapped or not).
        decay: of the average; less at the start, where it is (step) / (step + 10).
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self._network = network
        self._kept = [tensor.clone() for tensor in self._tensors()]

    def _tensors(self) -> list[Tensor]:
        tensors = (*self._network.parameters(), *self._network.buffers())
        return [_local(tensor.detach()) for tensor in tensors]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move towards the network's weights, which have just made their `step`-th step."""
        decay = min(self.decay, step / (step + 10))
        moving: tuple[list[Tensor], list[Tensor]] = ([], [])
        for kept, current in zip(self._kept, self._tensors(), strict=True):
            if kept.is_floating_point():
                moving[0].append(kept)
                moving[1].append(current)
            else:
                kept.copy_(current)
        torch._foreach_lerp_(*moving, 1 - decay)

    @torch.no_grad()
    def reset(self) -> None:
        """Start again from the network's weights as they are."""
        for kept, current in zip(self._kept, self._tensors(), strict=True):
            kept.copy_(current)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside, the network has the averaged weights."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    @torch.no_grad()
    def _exchange(self) -> None:
        for kept, current in zip(self._kept, self._tensors(), strict=True):
            before = current.clone()
            current.copy_(kept)
            kept.copy_(before)


def _local(tensor: Tensor) -> Tensor:
    """The part of a tensor that this process holds, sharded or not; the same memory."""
    to_local = getattr(tensor, "to_local", None)
    return tensor if to_local is None else to_local()
