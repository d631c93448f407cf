"""The discriminator beside the network, where a recipe has the adversarial term."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from birefnet.training.adversarial import Discriminator, discriminator_loss
from birefnet.training.objective import LossSettings


class Adversary:
    """A discriminator and its optimiser.

    Args:
        settings: weight of its loss, and how often it moves.
        rate: its learning rate.
        device: where it computes.
        mean_over_processes: averages a gradient over the processes that train together.
    """

    def __init__(
        self,
        settings: LossSettings,
        rate: float,
        device: torch.device,
        mean_over_processes: Callable[[Tensor], Tensor],
    ) -> None:
        self.settings = settings
        self.discriminator = Discriminator().to(device)
        self.optimiser = torch.optim.AdamW(self.discriminator.parameters(), lr=rate)
        self._mean_over_processes = mean_over_processes

    def update(self, step: int, image: Tensor, logits: Tensor, truth: Tensor) -> None:
        """Learn from a batch, at every so many steps."""
        if step % self.settings.adversarial_every:
            return
        self.optimiser.zero_grad(set_to_none=True)  # the generator's term has left gradients here
        loss = discriminator_loss(self.discriminator, image, logits, truth)
        (self.settings.adversarial_discriminator * loss).backward()
        for parameter in self.discriminator.parameters():
            assert parameter.grad is not None
            parameter.grad = self._mean_over_processes(parameter.grad)
        self.optimiser.step()

    def state_dict(self) -> dict[str, Any]:
        """For `load_state_dict`."""
        return {
            "discriminator": self.discriminator.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state."""
        self.discriminator.load_state_dict(state["discriminator"])
        self.optimiser.load_state_dict(state["optimiser"])
