"""Adversarial integrity learning: a discriminator tells objects cut out by the truth from ours.

Source: Zheng et al., "Memory-aided contrastive consensus learning for co-salient object
detection" (MCCL), AAAI 2023, and its released code: the picture times the matte is judged, the
generator's term weighs 10, the discriminator's 3, and the discriminator moves every second step.
Unlike there, the discriminator takes any size and any batch size (its features are averaged and
normalised per picture, not flattened and normalised over the batch), gives logits, and its own
weights are what its optimiser moves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from birefnet.errors import needs_extra

with needs_extra("torch", __name__):
    import torch
    import torch.nn.functional as F
    from torch import Tensor, nn

from birefnet.training.loss_settings import LossSettings


class Discriminator(nn.Module):
    """Four strided 3x3 convolutions, averaged, to one logit: is this a whole object, cut out well?

    Args:
        channels: of the convolutions.
        dropout: of whole channels, while training.
    """

    def __init__(
        self, channels: tuple[int, ...] = (16, 32, 64, 128), dropout: float = 0.25
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for number, width in enumerate(channels):
            layers += [nn.Conv2d(before, width, 3, stride=2, padding=1)]
            if number:  # the first layer sees the colours as they are
                layers += [nn.GroupNorm(8, width)]
            layers += [nn.LeakyReLU(0.2), nn.Dropout2d(dropout)]
            before = width
        self.features = nn.Sequential(*layers)
        self.judge = nn.Linear(before, 1)

    def forward(self, cutout: Tensor) -> Tensor:
        """Pictures times mattes (B,3,H,W) → logits (B,1); positive: cut out by a truth."""
        return self.judge(self.features(cutout).mean(dim=(2, 3)))


def generator_loss(discriminator: nn.Module, image: Tensor, logits: Tensor) -> Tensor:
    """How little the cut-outs pass for true ones, (B,1).

    Args:
        discriminator: a `Discriminator`; the caller zeroes its gradients before it is updated.
        image: normalised, (B,3,H,W).
        logits: of the final matte, (B,1,H,W).
    """
    return F.softplus(-discriminator(image.float() * logits.float().sigmoid()).float())


def discriminator_loss(
    discriminator: nn.Module, image: Tensor, logits: Tensor, truth: Tensor
) -> Tensor:
    """How badly truths and predictions are told apart, a scalar; no gradient reaches `logits`."""
    image = image.float()
    predicted = logits.detach().float().sigmoid()
    judged = discriminator(torch.cat([image * truth.float(), image * predicted])).float()
    real, fake = judged.chunk(2)
    return (F.softplus(-real).mean() + F.softplus(fake).mean()) / 2


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
