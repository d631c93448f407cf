"""From trained weights to your own pictures: `finetune` for masks, `finetune-matting` for mattes,
`thin` for cracks, wires and vessels, `guided` for the object that is meant.

    birefnet train --recipe finetune --init general --data MY_PICTURES --output runs/mine

Expected: minutes to hours, depending on the network; docs/finetune.md goes through an example with
100 pictures, with numbers. The size of the pictures follows the weights.
"""

from __future__ import annotations

from dataclasses import replace

from birefnet.training.data.settings import DataSettings, GuidanceSettings
from birefnet.training.recipe import (
    About,
    LoopSettings,
    OptimiserSettings,
    Recipe,
    ScheduleSettings,
    ValidationSettings,
)
from birefnet.training.recipes import parts

FINETUNE = Recipe(
    name="finetune",
    init="nano",
    data=DataSettings(augment=replace(parts.RECOMMENDED_AUGMENT, crop=0.5, scale=0.2)),
    loss=replace(parts.RECOMMENDED_LOSS, classification=0.0),
    optimiser=OptimiserSettings(
        name="adamw",
        # What trained the decoder of `dis5k`; the encoder gets the 1e-5 of the other tasks.
        rate=1e-4,
        encoder_factor=0.1,
        # Batches of your size: the rate follows its root, as in the other recipes.
        batch_scaling="sqrt",
        reference_batch=4,
        weight_decay=0.01,
        offset_factor=0.5,
    ),
    schedule=ScheduleSettings(
        epochs=40,
        batch_size=4,
        warmup=50,
        shape="cosine",
        last_factor=0.02,
        # Averages over about the last hundred steps: steadier than any single one of a small set.
        ema=0.99,
    ),
    loop=LoopSettings(
        clip=1.0,
        # Statistics of small batches of one kind of picture are worse than those of the first
        # training.
        batch_norm="frozen",
        frozen_encoder_norms=True,
    ),
    about=About(
        purpose="your own pictures, from any trained weights",
        command="birefnet train --recipe finetune --init nano --data MY_PICTURES "
        "--output runs/mine",
        time="3 minutes for 150 steps of 4 pictures at 320 x 320 on two CPU cores "
        "(docs/finetune.md)",
        memory=parts.RECOMMENDED_MEMORY,
        score="never below the weights it starts from: `best` is chosen by your validation "
        "pictures",
        source="released advice (rate 1e-5 for the encoder) and docs/finetune.md",
    ),
)

MATTING = replace(
    FINETUNE,
    name="finetune-matting",
    task="matting",
    loss=replace(parts.RECOMMENDED_MATTING_LOSS, classification=0.0),
    validation=ValidationSettings(metrics=("mae", "iou"), best_by="mae"),
).override(
    {
        # Turning and zooming resample soft edges: less of it.
        "data.augment.rotate": 0.1,
        "data.augment.scale": 0.0,
        "about.purpose": "your own soft mattes, from any trained weights",
        "about.command": FINETUNE.about.command.replace("finetune", "finetune-matting"),
    }
)

# The size is to be that of the pictures: at the network's own a photo shows no crack.
THIN = FINETUNE.override(
    {
        "name": "thin",
        # Few pixels are the subject, so cross-entropy is content without them; overlap is not.
        "loss.iou": 10.0,
        # For `nano`; large networks want a tenth of it.
        "optimiser.rate": 1e-3,
        "about": {
            "purpose": "cracks, wires, vessels: thin things in your own pictures",
            "command": FINETUNE.about.command.replace("finetune", "thin")
            + " --set data.width=512 --set data.height=384",
            "time": "3 minutes for 90 steps of 4 pictures at 512 x 384 on two CPU cores "
            "(docs/finetune.md)",
            "score": "IoU .490 where `finetune` has .399: 90 steps on 60 drawn walls "
            "(docs/finetune.md)",
            "source": "docs/finetune.md",
        },
    }
)

# A guidance channel beside the picture's three; weights without it get one that starts at 0.
# Cut-outs teach most of it: several of them lie in one picture, and a box, points, a scribble or a
# coarse mask tells which one the truth shows.
GUIDED = replace(
    FINETUNE,
    name="guided",
    network_overrides={"guidance_channel": True},
    data=DataSettings(
        augment=parts.RECOMMENDED_AUGMENT,
        # The rest says nothing, so that the network stays what it was without guidance.
        guidance=GuidanceSettings(share=0.75),
    ),
    optimiser=replace(
        FINETUNE.optimiser,
        # Three times `finetune`'s: a new input is to be learnt, not a new kind of picture.
        rate=3e-4,
        # From 0 to the size of the maps that it is added to, in some hundred steps.
        guidance_factor=10.0,
    ),
    schedule=replace(FINETUNE.schedule, epochs=20),
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
)

RECIPES: tuple[Recipe, ...] = (FINETUNE, MATTING, THIN, GUIDED)
