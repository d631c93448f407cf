"""The objective: weighted losses of every decoder stage and of the outward reference.

The settings are data; `Objective.weights_at(epoch)` is a pure function of them, so a resumed run
weighs as an uninterrupted one, and nothing is edited while training.
"""

from __future__ import annotations

from collections.abc import Mapping

from birefnet.errors import BiRefNetError, needs_extra

with needs_extra("torch", __name__):
    import torch
    from torch import Tensor, nn

from birefnet.network.birefnet import SupervisedOutput
from birefnet.network.blocks import resize_like
from birefnet.training import losses
from birefnet.training.adversarial import generator_loss
from birefnet.training.loss_settings import MAP_TERMS, LossSettings


class Objective:
    """The loss of a batch under `settings`, in a run of `epochs` epochs.

    Raises:
        BiRefNetError: a phase is not shorter than the run.
    """

    def __init__(self, settings: LossSettings | None = None, *, epochs: int = 1) -> None:
        self.settings = settings or LossSettings()
        self.epochs = epochs
        self.settings.check(epochs)

    def weights_at(self, epoch: int) -> dict[str, float]:
        """Weight of every term in `epoch`, counted from 0; a pure function."""
        return self.settings.weights_at(epoch, self.epochs)

    def __call__(
        self,
        output: SupervisedOutput,
        image: Tensor,
        truth: Tensor,
        *,
        epoch: int = 0,
        classes: Tensor | None = None,
        discriminator: nn.Module | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of one batch, and what each term adds to it (detached; they sum up to it).

        Args:
            output: of `network(image, supervised=True)`.
            image: normalised, (B,3,H,W).
            truth: (B,1,H,W) in [0, 1].
            epoch: counted from 0.
            classes: labels (B,), −1 for unknown.
            discriminator: needed by the adversarial term.
        """
        weights = self.weights_at(epoch)
        terms = {
            name: value.to(torch.float32) * weights[name]
            for name, value in self._maps(output, image, truth, weights).items()
        }
        if weights["gradient"] and output.gradients:
            gradients = [value.mean(dim=0) for value in self._gradients(output, image)]
            terms["gradient"] = weights["gradient"] * torch.stack(gradients).sum()
        if weights["classification"] and output.classes is not None and classes is not None:
            valid = (classes >= 0).float()
            entropy = losses.classification(output.classes, classes)
            value = (entropy * valid).sum() / valid.sum().clamp_min(1e-6)
            terms["classification"] = weights["classification"] * value
        if weights["adversarial"]:
            if discriminator is None:
                raise BiRefNetError(
                    "loss.adversarial is on, but there is no discriminator; "
                    "make one with birefnet.training.adversarial.Discriminator()"
                )
            value = generator_loss(discriminator, image, output.logits).mean(dim=0).sum()
            terms["adversarial"] = weights["adversarial"] * value
        total = torch.stack(list(terms.values())).sum()
        return total, {name: value.detach() for name, value in terms.items()}

    def _maps(
        self,
        output: SupervisedOutput,
        image: Tensor,
        truth: Tensor,
        weights: Mapping[str, float],
    ) -> dict[str, Tensor]:
        """Each term summed over the maps, which are stacked as channels of one tensor."""
        settings = self.settings
        final = output.logits
        maps = final
        factors = final.new_ones(1, dtype=torch.float32)
        if settings.coarse and len(output.stages) > 1:
            maps = torch.cat([resize_like(m, truth) for m in output.stages[:-1]] + [final], dim=1)
            factors = final.new_full((maps.shape[1],), settings.coarse, dtype=torch.float32)
            factors[-1] = 1.0
        values = {}
        for name in MAP_TERMS:
            if not weights[name]:
                continue
            is_everywhere = not settings.coarse_terms or name in settings.coarse_terms
            logits = maps if is_everywhere else final
            value = self._term(name, logits, image, truth)
            if name == "iou" and settings.iou_summed:
                value = value * value.shape[0]
            value = value.mean(dim=0) * (factors if is_everywhere else factors[-1:])
            values[name] = value.sum()
        return values

    def _term(self, name: str, logits: Tensor, image: Tensor, truth: Tensor) -> Tensor:
        if name == "ssim":
            return losses.ssim(logits, truth, halved=self.settings.ssim_halved)
        if name == "composition":
            return losses.composition(logits, truth, image)
        return _PLAIN[name](logits, truth)

    def _gradients(self, output: SupervisedOutput, image: Tensor) -> list[Tensor]:
        """The outward reference's loss at each of its stages."""
        stages = zip(output.gradients, output.stages, strict=False)
        if self.settings.gradient_label == "official":
            detached = self.settings.gradient_detached
            return [
                losses.official_gradient_loss(logits, image, coarse, detached=detached)
                for logits, coarse in stages
            ]
        return [
            losses.gradient_loss(logits, image, coarse, radius=1 + depth)
            for depth, (logits, coarse) in enumerate(stages)
        ]


_PLAIN = {
    "bce": losses.bce,
    "iou": losses.iou,
    "mae": losses.mae,
    "mse": losses.mse,
    "patch_iou": losses.patch_iou,
    "contour": losses.contour,
    "structure": losses.structure,
    "threshold": losses.threshold_regularisation,
    "laplacian": losses.laplacian_pyramid,
}
