"""Shared by several recipes: losses, augmentation, optimiser and schedule of each variant.

Sources: paper Sec. 3.5, 3.6, 4.3; of the released code its config.py, train.py, train.sh and
image_proc.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from birefnet.training.data.settings import AugmentSettings, DataSettings
from birefnet.training.loss_settings import LossPhase, LossSettings
from birefnet.training.recipe import (
    About,
    LoopSettings,
    OptimiserSettings,
    Recipe,
    ScheduleSettings,
    Task,
    Variant,
)

NOT_MEASURED = "not measured here"
PAPER_TIME = f"{NOT_MEASURED}; the paper trains on eight A100"
OFFICIAL_MEMORY = (
    "1024 x 1024 in pairs: 23.5 to 38 GB, 36.5 GB on one A100-40G, as reported with the release"
)
RECOMMENDED_MEMORY = (
    f"{NOT_MEASURED}; the run estimates it before its first step and proposes a batch that fits"
)

# Losses

REGION_ONLY = LossPhase(last=20, only=("iou",))
"""Regional-loss fine-tuning of the paper (Sec. 3.6, Table 3)."""


def vanishing(last: int) -> LossPhase:
    """The last phase of the released code: its factors are applied anew in every epoch."""
    return LossPhase(last, multiply={"bce": 0.0, "iou": 0.5, "mae": 0.9}, repeated=True)


# Eq. 1 with its weights; the gradient maps of Sec. 3.4 have none there, and get 1.
PAPER_LOSS = LossSettings(
    bce=30.0, iou=0.5, ssim=10.0, classification=5.0, ssim_halved=False, phases=(REGION_ONLY,)
)
OFFICIAL_LOSS = LossSettings(
    bce=30.0,
    iou=0.5,
    ssim=10.0,
    classification=5.0,
    iou_summed=True,
    gradient_label="official",
    gradient_detached=False,
    phases=(vanishing(20),),
)
OFFICIAL_DIS5K_LOSS = replace(OFFICIAL_LOSS, phases=(vanishing(40),))
RECOMMENDED_LOSS = LossSettings(
    bce=30.0,
    # The release sums 0.5 over a batch of 4: 2 for the mean, which no longer grows with the batch.
    iou=2.0,
    ssim=10.0,
    # The paper's label, detached: the release's teaches the coarse map to raise its own target.
    gradient_label="paper",
    gradient_detached=True,
    # The paper's idea, with the release's SSIM kept: what is meant to remain does remain.
    phases=(LossPhase(last=0.1, multiply={"bce": 0.0}),),
)
# With MAE for soft edges (config.py of the release: General).
OFFICIAL_GENERAL_LOSS = replace(OFFICIAL_LOSS, mae=100.0)
RECOMMENDED_GENERAL_LOSS = replace(
    RECOMMENDED_LOSS,
    mae=100.0,
    # The release lets MAE fade over its last epochs, to 0.9 to the power of 20 = 0.12.
    phases=(LossPhase(last=0.1, multiply={"bce": 0.0, "mae": 0.12}),),
)
# No IoU, which wants half-transparent pixels to be solid (config.py of the release: Matting).
OFFICIAL_MATTING_LOSS = replace(
    OFFICIAL_LOSS,
    iou=0.0,
    mae=100.0,
    phases=(LossPhase(20, multiply={"ssim": 0.9, "mse": 0.9}, repeated=True),),
)
RECOMMENDED_MATTING_LOSS = replace(
    RECOMMENDED_LOSS,
    iou=0.0,
    mae=100.0,
    # Details at every scale, and errors where they are seen (Hou and Liu 2019; Xu et al. 2017).
    laplacian=5.0,
    composition=10.0,
    # Cross-entropy is right for soft truths too (its least value is at p = t): no phase.
    phases=(),
)

# Augmentation

PAPER_AUGMENT = AugmentSettings(flip=0.5)  # "the only data augmentation" (Sec. 4.3)
OFFICIAL_AUGMENT = AugmentSettings(
    flip=0.5,
    rotate=0.2,
    colour=1.0,
    brightness=0.5,
    contrast=0.5,
    saturation=1.0,
    hue=0.0,
    temperature=0.0,
    pepper=1.0,
    pepper_share=0.0015,
)
RECOMMENDED_AUGMENT = AugmentSettings(
    flip=0.5,
    # Corners are reflected, not black; so turning more often does no harm.
    rotate=0.3,
    # Whole objects stay whole, details come nearer: what fixed 1024 x 1024 never shows.
    crop=0.3,
    crop_least=0.7,
    # The release changes every picture, down to grey; here most keep their colours.
    colour=0.6,
    brightness=0.3,
    contrast=0.3,
    saturation=0.4,
    grey=0.02,
    # What pictures meet on their way to users; pepper noise is not among it.
    blur=0.1,
    noise=0.1,
    jpeg=0.2,
)

# Optimiser


def paper_optimiser(rate: float) -> OptimiserSettings:
    """Adam at a constant rate, meant for 8 x 4 pictures."""
    return OptimiserSettings(name="adam", rate=rate, weight_decay=0.0, reference_batch=32)


def official_optimiser(rate: float) -> OptimiserSettings:
    """AdamW, 0.01 on every tensor; the rate grows with the root of a batch over 4."""
    return OptimiserSettings(
        name="adamw",
        rate=rate,
        batch_scaling="sqrt",
        reference_batch=4,
        weight_decay=0.01,
        decay_vectors=True,
    )


def recommended_optimiser(rate: float) -> OptimiserSettings:
    """As released, but norms and biases are not pulled to 0, and offsets move slower."""
    return OptimiserSettings(
        name="adamw",
        rate=rate,
        # The root of the batch: Adam's steps have about the noise of the gradient's mean.
        batch_scaling="sqrt",
        reference_batch=4,
        weight_decay=0.01,
        # Offsets start at 0 and move pixels; at the full rate they run away early.
        offset_factor=0.5,
    )


# Schedule


def paper_schedule(epochs: int) -> ScheduleSettings:
    """4 pictures on each of eight GPUs at a constant rate."""
    return ScheduleSettings(epochs=epochs, batch_size=4, shape="constant")


def official_schedule(epochs: int) -> ScheduleSettings:
    """8 pictures on each GPU at a constant rate (lr_decay_epochs lies beyond the end)."""
    return ScheduleSettings(epochs=epochs, batch_size=8, shape="constant")


def recommended_schedule(epochs: int) -> ScheduleSettings:
    """Steps of 8 pictures that fit one GPU, warm-up, a cosine, averaged weights."""
    return ScheduleSettings(
        epochs=epochs,
        # Two at a time fit 24 GB with bf16; four such batches make the release's step of 8.
        batch_size=2,
        accumulate=4,
        # A new decoder on a trained encoder: the first gradients are noise.
        warmup=500,
        # A falling rate ends where a constant one needs a choice among the last 50 checkpoints.
        shape="cosine",
        last_factor=0.02,
        ema=0.999,
    )


PAPER_LOOP = LoopSettings(precision="fp32", clip=0.0, frozen_encoder_norms=False)
OFFICIAL_LOOP = LoopSettings(clip=0.0, frozen_encoder_norms=False)
RECOMMENDED_LOOP = LoopSettings(
    # One bad batch cannot undo an epoch.
    clip=1.0,
    # A third more time for less than half of the encoder's memory.
    checkpoint_activations=True,
)


VARIANTS: tuple[Variant, ...] = ("paper", "official", "recommended")
_SHARED: dict[
    Variant,
    tuple[
        AugmentSettings,
        Callable[[float], OptimiserSettings],
        Callable[[int], ScheduleSettings],
        LoopSettings,
        str,
    ],
] = {
    "paper": (PAPER_AUGMENT, paper_optimiser, paper_schedule, PAPER_LOOP, OFFICIAL_MEMORY),
    "official": (
        OFFICIAL_AUGMENT,
        official_optimiser,
        official_schedule,
        OFFICIAL_LOOP,
        OFFICIAL_MEMORY,
    ),
    "recommended": (
        RECOMMENDED_AUGMENT,
        recommended_optimiser,
        recommended_schedule,
        RECOMMENDED_LOOP,
        RECOMMENDED_MEMORY,
    ),
}
BEST_OF_BOTH = "the best of both; the reasons stand in birefnet/training/recipes/parts.py"
NOT_IN_PAPER = "the paper trains no such network; these are its values for HRSOD (Sec. 4.3)"


@dataclass(frozen=True)
class Values:
    """Where the variants of a recipe differ, beyond what all recipes of the variant share.

    Attributes:
        epochs: passes over the data.
        loss: what is minimised.
        source: of these values.
        fields: further fields of `Recipe`.
        classes: see `DataSettings.classes`.
    """

    epochs: int
    loss: LossSettings
    source: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    classes: str = "none"


def family(
    name: str,
    *,
    purpose: str,
    data: str,
    rate: float,
    score: str,
    paper: Values,
    official: Values,
    recommended: Values,
    task: Task = "segmentation",
    network: str = "swin_v1_l",
    size: tuple[int, int] = (1024, 1024),
) -> tuple[Recipe, ...]:
    """The three variants of a recipe that trains a new decoder on an ImageNet encoder.

    Args:
        name, task, network: see `Recipe`.
        purpose: see `About`.
        data: what the command says of the data.
        rate: learning rate, for the batch that each variant's source states.
        score: reported for paper or release; empty if none is.
        paper, official, recommended: what is particular to them.
        size: width and height of the pictures [px].
    """
    width, height = size
    made = []
    for variant, values in zip(VARIANTS, (paper, official, recommended), strict=True):
        augment, optimiser, schedule, loop, memory = _SHARED[variant]
        about = About(
            purpose=purpose,
            command=_command(name, variant, data),
            time=PAPER_TIME if variant == "paper" else NOT_MEASURED,
            memory=memory,
            score=_score(variant, score),
            source=values.source,
        )
        made.append(
            Recipe(
                name=name,
                variant=variant,
                task=task,
                network=network,
                encoder_weights="imagenet",
                data=DataSettings(
                    width=width, height=height, classes=values.classes, augment=augment
                ),
                loss=values.loss,
                optimiser=optimiser(rate),
                schedule=schedule(values.epochs),
                loop=loop,
                about=about,
                **values.fields,
            )
        )
    return tuple(made)


def _score(variant: Variant, reported: str) -> str:
    if not reported:
        return f"{NOT_MEASURED}, and not reported"
    return f"{NOT_MEASURED}; to reach: {reported}" if variant == "recommended" else reported


def _command(name: str, variant: Variant, data: str) -> str:
    """The paper's batch needs eight processes."""
    which = "" if variant == "recommended" else f" --variant {variant}"
    words = f"birefnet train --recipe {name}{which} {data} --output runs/{name}"
    return f"accelerate launch --num_processes 8 -m {words}" if variant == "paper" else words
