"""Shared by several recipes: losses, and the base of each variant (all but data and losses).

Sources: paper Sec. 3.5, 3.6, 4.3; of the released code its config.py, train.py, train.sh and
image_proc.py.
"""

from __future__ import annotations

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

# The variants, without what a subject adds: learning rate, epochs, losses

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
# Adam at a constant rate, 4 pictures on each of eight GPUs.
PAPER = Recipe(
    variant="paper",
    encoder_weights="imagenet",
    data=DataSettings(augment=AugmentSettings(flip=0.5)),  # "the only data augmentation" (Sec. 4.3)
    optimiser=OptimiserSettings(name="adam", weight_decay=0.0, reference_batch=32),
    schedule=ScheduleSettings(batch_size=4, shape="constant"),
    loop=LoopSettings(precision="fp32", clip=0.0, frozen_encoder_norms=False),
    about=About(
        time=f"{NOT_MEASURED}; the paper trains on eight A100",
        memory=OFFICIAL_MEMORY,
        source="paper Sec. 3.5 and 4.3: 150 epochs, the last 20 with IoU alone",
    ),
)
OFFICIAL = Recipe(
    variant="official",
    encoder_weights="imagenet",
    data=DataSettings(
        augment=AugmentSettings(
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
    ),
    # 0.01 on every tensor; the rate grows with the root of a batch over 4.
    optimiser=OptimiserSettings(
        name="adamw",
        batch_scaling="sqrt",
        reference_batch=4,
        weight_decay=0.01,
        decay_vectors=True,
    ),
    # 8 pictures on each GPU at a constant rate (lr_decay_epochs lies beyond the end).
    schedule=ScheduleSettings(batch_size=8, shape="constant"),
    loop=LoopSettings(clip=0.0, frozen_encoder_norms=False),
    about=About(
        time=NOT_MEASURED,
        memory=OFFICIAL_MEMORY,
        source="released config.py and train.sh; IoU vanishes in the last 20 epochs, a defect",
    ),
)
RECOMMENDED = Recipe(
    variant="recommended",
    encoder_weights="imagenet",
    data=DataSettings(augment=RECOMMENDED_AUGMENT),
    # As released, but norms and biases are not pulled to 0, and offsets move slower.
    optimiser=OptimiserSettings(
        name="adamw",
        # The root of the batch: Adam's steps have about the noise of the gradient's mean.
        batch_scaling="sqrt",
        reference_batch=4,
        weight_decay=0.01,
        # Offsets start at 0 and move pixels; at the full rate they run away early.
        offset_factor=0.5,
    ),
    # Steps of 8 pictures that fit one GPU, warm-up, a cosine, averaged weights.
    schedule=ScheduleSettings(
        # Two at a time fit 24 GB with bf16; four such batches make the release's step of 8.
        batch_size=2,
        accumulate=4,
        # A new decoder on a trained encoder: the first gradients are noise.
        warmup=500,
        # A falling rate ends where a constant one needs a choice among the last 50 checkpoints.
        shape="cosine",
        last_factor=0.02,
        ema=0.999,
    ),
    loop=LoopSettings(
        # One bad batch cannot undo an epoch.
        clip=1.0,
        # A third more time for less than half of the encoder's memory.
        checkpoint_activations=True,
    ),
    about=About(
        time=NOT_MEASURED,
        memory=RECOMMENDED_MEMORY,
        source="the best of both; the reasons stand in birefnet/training/recipes/parts.py",
    ),
)
NOT_IN_PAPER = "the paper trains no such network; these are its values for HRSOD (Sec. 4.3)"


@dataclass(frozen=True)
class Values:
    """What a variant of a subject adds to `PAPER`, `OFFICIAL` or `RECOMMENDED`.

    Attributes:
        loss: what is minimised.
        epochs: passes over the data.
        source: of these values, if not that of the variant.
        classes: see `DataSettings.classes`.
        network_overrides: see `Recipe`.
    """

    loss: LossSettings
    epochs: int = 150
    source: str = ""
    classes: str = "none"
    network_overrides: dict[str, Any] = field(default_factory=dict)


def family(
    name: str,
    *,
    purpose: str,
    data: str,
    score: str,
    rate: float = 1e-5,
    paper: Values = Values(PAPER_LOSS),
    official: Values = Values(OFFICIAL_LOSS),
    recommended: Values = Values(RECOMMENDED_LOSS),
    task: Task = "segmentation",
    network: str = "swin_v1_l",
    size: tuple[int, int] = (1024, 1024),
) -> tuple[Recipe, ...]:
    """The three variants of a recipe that trains a new decoder on an ImageNet encoder.

    Args:
        name, task, network: see `Recipe`.
        purpose: see `About`.
        data: what the command says of the data.
        score: reported for paper or release; empty if none is.
        rate: learning rate, for the batch that each variant's source states.
        paper, official, recommended: what is particular to them.
        size: width and height of the pictures [px].
    """
    width, height = size
    variants = ((PAPER, paper), (OFFICIAL, official), (RECOMMENDED, recommended))
    return tuple(
        replace(
            base,
            name=name,
            task=task,
            network=network,
            network_overrides=values.network_overrides,
            data=replace(base.data, width=width, height=height, classes=values.classes),
            loss=values.loss,
            optimiser=replace(base.optimiser, rate=rate),
            schedule=replace(base.schedule, epochs=values.epochs),
            about=replace(
                base.about,
                purpose=purpose,
                command=_command(name, base.variant, data),
                score=_score(base.variant, score),
                source=values.source or base.about.source,
            ),
        )
        for base, values in variants
    )


def _score(variant: Variant, reported: str) -> str:
    if not reported:
        return f"{NOT_MEASURED}, and not reported"
    return f"{NOT_MEASURED}; to reach: {reported}" if variant == "recommended" else reported


def _command(name: str, variant: Variant, data: str) -> str:
    """The paper's batch needs eight processes."""
    which = "" if variant == "recommended" else f" --variant {variant}"
    words = f"birefnet train --recipe {name}{which} {data} --output runs/{name}"
    return f"accelerate launch --num_processes 8 -m {words}" if variant == "paper" else words
