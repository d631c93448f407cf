"""Weights of the loss terms as data, and as a pure function of the epoch. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from birefnet.errors import BiRefNetError, counted

GradientLabel = Literal["paper", "official"]

MAP_TERMS = (
    "bce", "iou", "ssim", "mae", "mse", "patch_iou", "contour", "structure", "threshold",
    "laplacian", "composition",
)  # fmt: skip
"""Terms that compare a map with the truth; they apply to every decoder stage."""
TERMS = (*MAP_TERMS, "gradient", "classification", "adversarial")
"""All terms; each is a weight in `LossSettings`."""


@dataclass(frozen=True)
class LossPhase:
    """Changes of the loss in the last epochs of a run.

    Attributes:
        last: so many epochs at the end; below 1 it is a share of the run, rounded to epochs.
        only: terms that stay; empty keeps all.
        multiply: factor of single terms.
        repeated: apply the factors once more in every epoch of the phase, as the released code
            does by mistake: its IoU loss, meant to remain, halves 20 or 40 times.
    """

    last: float
    only: tuple[str, ...] = ()
    multiply: Mapping[str, float] = field(default_factory=dict)
    repeated: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "only", tuple(self.only))
        unknown = sorted({*self.only, *self.multiply} - set(TERMS))
        if unknown:
            raise BiRefNetError(
                f"a phase names the terms {', '.join(unknown)}; there are {', '.join(TERMS)}"
            )
        if self.last <= 0:
            raise BiRefNetError(
                f"last is {self.last:g}; give a number of epochs, or a share of the run below 1"
            )
        if not all(factor >= 0 for factor in self.multiply.values()):
            raise BiRefNetError(f"multiply is {dict(self.multiply)}; factors are 0 or more")

    def epochs(self, of: int) -> int:
        """Its length in a run of `of` epochs."""
        return round(self.last * of) if self.last < 1 else int(self.last)


@dataclass(frozen=True)
class LossSettings:
    """Weights of the terms; 0 leaves a term out, and it is not computed.

    The terms up to `composition` apply to every supervised map: the three coarse ones, resized to
    the truth, and the final one. See `birefnet.training.losses` for what each computes.

    Attributes:
        bce, iou, ssim, mae, mse, patch_iou, contour, structure, threshold: paper Eq. 1, and further
            terms of the released code.
        laplacian, composition: for soft mattes.
        gradient: of the outward reference, at each of its three stages.
        classification: of the auxiliary head, where the network has one and pictures have labels.
        adversarial: of the discriminator of MCCL (Zheng et al., AAAI 2023); needs one, see
            `birefnet.training.adversarial`.
        adversarial_discriminator: weight of the discriminator's own loss.
        adversarial_every: update the discriminator every so many steps.
        coarse: factor of the coarse maps, beside 1 for the final one; 0 switches multi-stage
            supervision off (but for the gradients, which `gradient` weighs).
        coarse_terms: terms that the coarse maps pay; empty: the same as the final map.
        gradient_label: `paper`: image gradients near the dilated coarse prediction; `official`:
            the released code's Laplacian times the coarse logits.
        gradient_detached: let no gradient flow through the label.
        ssim_halved: (1 − SSIM) / 2 as in the released code, or 1 − SSIM as in the paper.
        iou_summed: sum IoU over the batch as in the released code: with it, the weight grows with
            the batch size.
        phases: what changes in the last epochs.
    """

    bce: float = 30.0
    iou: float = 2.0
    ssim: float = 10.0
    mae: float = 0.0
    mse: float = 0.0
    patch_iou: float = 0.0
    contour: float = 0.0
    structure: float = 0.0
    threshold: float = 0.0
    laplacian: float = 0.0
    composition: float = 0.0
    gradient: float = 1.0
    classification: float = 5.0
    adversarial: float = 0.0
    adversarial_discriminator: float = 3.0
    adversarial_every: int = 2
    coarse: float = 1.0
    coarse_terms: tuple[str, ...] = ()
    gradient_label: GradientLabel = "paper"
    gradient_detached: bool = True
    ssim_halved: bool = True
    iou_summed: bool = False
    phases: tuple[LossPhase, ...] = ()

    def __post_init__(self) -> None:
        for name in ("coarse_terms", "phases"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for name in (*TERMS, "coarse", "adversarial_discriminator"):
            if not getattr(self, name) >= 0:
                raise BiRefNetError(
                    f"{name} is {getattr(self, name)}; a weight is 0 (left out) or more"
                )
        if not any(getattr(self, name) for name in MAP_TERMS):
            raise BiRefNetError(
                f"every loss of the mattes is 0; give one of {', '.join(MAP_TERMS)} a weight"
            )
        unknown = sorted(set(self.coarse_terms) - set(MAP_TERMS))
        if unknown:
            raise BiRefNetError(
                f"coarse_terms names {', '.join(unknown)}; terms of maps are {', '.join(MAP_TERMS)}"
            )
        if self.gradient_label not in ("paper", "official"):
            raise BiRefNetError(
                f"gradient_label is {self.gradient_label!r}; choose paper or official"
            )
        if self.adversarial_every < 1:
            raise BiRefNetError(f"adversarial_every is {self.adversarial_every}; it is at least 1")

    def weights_at(self, epoch: int, epochs: int) -> dict[str, float]:
        """Weight of every term in `epoch` (counted from 0) of a run of `epochs`."""
        weights = {name: float(getattr(self, name)) for name in TERMS}
        for phase in self.phases:
            inside = epoch - (epochs - phase.epochs(epochs)) + 1
            if inside < 1:
                continue
            if phase.only:
                weights = {n: w if n in phase.only else 0.0 for n, w in weights.items()}
            for name, factor in phase.multiply.items():
                weights[name] *= factor ** (inside if phase.repeated else 1)
        return weights

    def check(self, epochs: int) -> None:
        """Refuse phases that leave a run of `epochs` no epoch before them.

        Raises:
            BiRefNetError: naming the phase.
        """
        for reason in self.fitted(epochs)[1]:
            raise BiRefNetError(f"{reason}; train longer, or leave the phase out (loss.phases=[])")

    def fitted(self, epochs: int) -> tuple[LossSettings, list[str]]:
        """The settings for a run of `epochs`: without phases that leave no epoch before them.

        Returns:
            The settings, and a clause for each phase that was left out.
        """
        too_long = [phase.epochs(epochs) >= epochs for phase in self.phases]
        kept = tuple(p for p, is_out in zip(self.phases, too_long, strict=True) if not is_out)
        reasons = [
            f"loss.phases[{number}] takes {counted(phase.last, 'epoch')} at the end and the run "
            f"has {epochs}"
            for number, phase in enumerate(self.phases)
            if too_long[number]
        ]
        return replace(self, phases=kept), reasons
