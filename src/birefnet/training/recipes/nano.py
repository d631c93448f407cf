"""A small network from ImageNet weights, on a CPU or any GPU: the preset of the bundled model.

    birefnet train --recipe nano --data PHOTOS --data CUTOUTS --set data.backgrounds=SCENES \\
        --set encoder_weights=efficientnet-lite0-57934424.pth --output runs/nano

docs/nano.md tells how the bundled weights themselves came to be, and what they reach.
"""

from __future__ import annotations

from birefnet.training.data.settings import DataSettings
from birefnet.training.loss_settings import LossSettings
from birefnet.training.recipe import (
    About,
    LoopSettings,
    OptimiserSettings,
    Recipe,
    ScheduleSettings,
)
from birefnet.training.recipes import parts

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

RECIPES: tuple[Recipe, ...] = (
    Recipe(
        name="nano",
        network="nano",
        encoder_weights="efficientnet-lite0-57934424.pth",
        data=DataSettings(width=256, height=256, augment=parts.RECOMMENDED_AUGMENT),
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
            score="the bundled weights, trained with these values on a mix of their own: IoU .934 "
            "on people, .810 on cats (docs/nano.md)",
            source="docs/nano.md",
        ),
    ),
)
