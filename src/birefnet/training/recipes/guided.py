"""A network that is told which object is meant: a guidance channel beside the picture's three.

    birefnet train --recipe guided --init general --data CUTOUTS --data PICTURES \\
        --set data.backgrounds=SCENES --output runs/guided

Cut-outs teach most of it: several of them lie in one picture, and a box, points, a scribble or a
coarse mask tells which one the truth shows. Weights without the channel get one that starts at 0.
"""

from __future__ import annotations

from dataclasses import replace

from birefnet.training.data.settings import DataSettings, GuidanceSettings
from birefnet.training.recipe import About, LoopSettings, OptimiserSettings, Recipe
from birefnet.training.recipes import finetune, parts

_FINETUNE = finetune.RECIPES[0]

RECIPES: tuple[Recipe, ...] = (
    Recipe(
        name="guided",
        init="nano",
        network_overrides={"guidance_channel": True},
        data=DataSettings(
            augment=parts.RECOMMENDED_AUGMENT,
            # The rest says nothing, so that the network stays what it was without guidance.
            guidance=GuidanceSettings(share=0.75),
        ),
        loss=_FINETUNE.loss,
        optimiser=OptimiserSettings(
            name="adamw",
            # Three times `finetune`'s: a new input is to be learnt, not a new kind of picture.
            rate=3e-4,
            encoder_factor=0.1,
            batch_scaling="sqrt",
            reference_batch=4,
            weight_decay=0.01,
            offset_factor=0.5,
            # From 0 to the size of the maps that it is added to, in some hundred steps.
            guidance_factor=10.0,
        ),
        schedule=replace(_FINETUNE.schedule, epochs=20, ema=0.99),
        loop=LoopSettings(clip=1.0, batch_norm="frozen", frozen_encoder_norms=True),
        about=About(
            purpose="the object that is meant: boxes, points, scribbles and coarse masks",
            command="birefnet train --recipe guided --init nano --data CUTOUTS "
            "--set data.backgrounds=SCENES --output runs/guided",
            time="15 minutes for 500 steps of 4 pictures at 320 x 320 on one CPU core; a run for "
            "use wants many times that",
            memory="2.1 GB at 4 pictures of 320 x 320",
            score="after that: box .89, coarse mask .95, point .52 IoU of one of two objects, "
            "unguided .45 (docs/guidance.md)",
            source="docs/guidance.md",
        ),
    ),
)
