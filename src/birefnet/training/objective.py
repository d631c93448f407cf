"""What training minimises: weighted losses of every decoder stage and of the outward reference."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from birefnet.network.birefnet import SupervisedOutput
from birefnet.network.blocks import resize_like
from birefnet.training import losses


@dataclass(frozen=True)
class Objective:
    """Weights of the loss terms (paper Eq. 1); 0 leaves a term out.

    Attributes:
        bce, iou, ssim, mae: of the final map, see `birefnet.training.losses`.
        coarse: factor of BCE and IoU of each coarse map, resized to the truth.
        gradient: of the outward reference's BCE, mean over its stages.
    """

    bce: float = 1.0
    iou: float = 0.7
    ssim: float = 0.3
    mae: float = 0.3
    coarse: float = 0.4
    gradient: float = 0.15

    def __call__(
        self, output: SupervisedOutput, image: Tensor, truth: Tensor
    ) -> tuple[Tensor, dict[str, float]]:
        """The loss of one batch, and its parts by name.

        Args:
            output: of `network(image, supervised=True)`.
            image: normalised, (B,3,H,W).
            truth: (B,1,H,W) in [0, 1].
        """
        final = output.logits
        terms = {
            "bce": (self.bce, losses.bce(final, truth)),
            "iou": (self.iou, losses.iou(final, truth).mean()),
        }
        if self.ssim:
            terms["ssim"] = (self.ssim, losses.ssim(final, truth))
        if self.mae:
            terms["mae"] = (self.mae, losses.mae(final, truth))
        coarse = output.stages[:-1]
        for depth, logits in enumerate(coarse):
            resized = resize_like(logits, truth)
            both = self.bce * losses.bce(resized, truth)
            both = both + self.iou * losses.iou(resized, truth).mean()
            terms[f"coarse{depth}"] = (self.coarse, both)
        for depth, (logits, guide) in enumerate(zip(output.gradients, coarse, strict=True)):
            label = losses.gradient_label(image, guide.detach(), radius=1 + depth)
            weight = self.gradient / len(output.gradients)
            terms[f"gradient{depth}"] = (weight, losses.bce(logits, label))
        total = torch.stack([weight * value for weight, value in terms.values()]).sum()
        return total, {name: float(value.detach()) for name, (_, value) in terms.items()}
