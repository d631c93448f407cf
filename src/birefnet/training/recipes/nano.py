"""A small network from ImageNet weights, on a CPU or any GPU: the preset of the bundled model.

    birefnet train --recipe nano --data PHOTOS --data CUTOUTS --set data.backgrounds=SCENES \\
        --set encoder_weights=efficientnet-lite0-57934424.pth --output runs/nano

docs/nano.md tells how the bundled weights themselves came to be, and what they reach.
"""

from __future__ import annotations

from birefnet.training.data.settings import AugmentSettings, CompositeSettings, DataSettings
from birefnet.training.loss_settings import LossSettings
from birefnet.training.recipe import (
    About,
    LoopSettings,
    OptimiserSettings,
    Recipe,
    ScheduleSettings,
)

LOSS = LossSettings(
    bce=1.0,
    iou=0.7,
    ssim=0.3,
    mae=0.3,
    # Strides 32 to 8 of a 256-pixel picture are too coarse for SSIM's windows.
    coarse=0.4,
    coarse_terms=("bce", "iou"),
    gradient=0.05,
    classification=0.0,
)

# Photos of few kinds are changed more than in the other recipes, to stand for more.
AUGMENT = AugmentSettings(
    flip=0.5,
    crop=0.75,
    crop_least=0.45,
    rotate=0.35,
    rotate_degrees=12,
    colour=0.8,
    brightness=0.25,
    contrast=0.3,
    saturation=0.4,
    temperature=0.1,
    grey=0.05,
    blur=0.2,
    blur_radius=5.0,
    noise=0.3,
    noise_level=0.05,
    jpeg=0.35,
    jpeg_quality=(35, 92),
)
COMPOSITE = CompositeSettings(
    extent=(0.3, 1.15),
    objects=3,
    # A small network takes whatever is striking for the subject: half of the composites hold
    # things that are striking and no subject.
    distractors=0.5,
    distractor_count=4,
    signs=0.25,
    cut_off=0.3,
    match=0.6,
    plain=0.2,
    same_colour=0.07,
    blur_background=0.3,
    soften=0.25,
    empty=0.08,
    photos=0.3,
)

RECIPES: tuple[Recipe, ...] = (
    Recipe(
        name="nano",
        network="nano",
        encoder_weights="efficientnet-lite0-57934424.pth",
        data=DataSettings(width=256, height=256, longest=640, augment=AUGMENT, composite=COMPOSITE),
        loss=LOSS,
        optimiser=OptimiserSettings(
            # A new slim decoder learns at twenty times the rate that wide ones bear.
            rate=2e-3,
            # The encoder forgets: a tenth, and none for its first blocks and all its norms.
            encoder_factor=0.1,
            offset_factor=0.2,
            weight_decay=0.02,
        ),
        schedule=ScheduleSettings(
            epochs=20, batch_size=16, warmup=60, shape="cosine", last_factor=0.02, ema=0.997
        ),
        loop=LoopSettings(clip=5.0, frozen_encoder_norms=True, frozen_blocks=5),
        about=About(
            purpose="a network of 4.6 million parameters for CPUs",
            command="birefnet train --recipe nano --data PHOTOS --data CUTOUTS "
            "--set data.backgrounds=SCENES --set encoder_weights=efficientnet-lite0-57934424.pth "
            "--output runs/nano",
            time="7.5 pictures a second on two free cores with AVX-512 (docs/nano.md)",
            memory="4 GB for batches of 16 at 256 x 256 (docs/nano.md)",
            score="the bundled weights, trained with these losses and rates on much such samples: "
            "IoU .962 on people, .834 on cats (docs/nano.md)",
            source="docs/nano.md",
        ),
    ),
)
