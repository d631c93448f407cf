"""From trained weights to your own pictures: `finetune` for masks, `finetune-matting` for mattes,
`thin` for cracks, wires and vessels.

    birefnet train --recipe finetune --init general --data MY_PICTURES --output runs/mine

Expected: minutes to hours, depending on the network; docs/finetune.md goes through an example with
100 pictures, with numbers. The size of the pictures follows the weights.
"""

from __future__ import annotations

from dataclasses import replace

from birefnet.training.data.settings import DataSettings
from birefnet.training.recipe import (
    About,
    LoopSettings,
    OptimiserSettings,
    Recipe,
    ScheduleSettings,
    ValidationSettings,
)
from birefnet.training.recipes import parts

_OPTIMISER = OptimiserSettings(
    name="adamw",
    # What trained the decoder of `dis5k`; the encoder gets the 1e-5 of the other tasks.
    rate=1e-4,
    encoder_factor=0.1,
    # Batches of your size: the rate follows its root, as in the other recipes.
    batch_scaling="sqrt",
    reference_batch=4,
    weight_decay=0.01,
    offset_factor=0.5,
)
_SCHEDULE = ScheduleSettings(
    epochs=40,
    batch_size=4,
    warmup=50,
    shape="cosine",
    last_factor=0.02,
    # Averages over about the last hundred steps: steadier than any single one of a small set.
    ema=0.99,
)
_LOOP = LoopSettings(
    clip=1.0,
    # Statistics of small batches of one kind of picture are worse than those of the first training.
    batch_norm="frozen",
    frozen_encoder_norms=True,
)
_AUGMENT = replace(parts.RECOMMENDED_AUGMENT, crop=0.5, scale=0.2)
_ABOUT = About(
    purpose="your own pictures, from any trained weights",
    command="birefnet train --recipe finetune --init nano --data MY_PICTURES --output runs/mine",
    time="3 minutes for 150 steps of 4 pictures at 320 x 320 on two CPU cores (docs/finetune.md)",
    memory=parts.RECOMMENDED_MEMORY,
    score="never below the weights it starts from: `best` is chosen by your validation pictures",
    source="released advice (rate 1e-5 for the encoder) and docs/finetune.md",
)

RECIPES: tuple[Recipe, ...] = (
    Recipe(
        name="finetune",
        init="nano",
        data=DataSettings(augment=_AUGMENT),
        loss=replace(parts.RECOMMENDED_LOSS, classification=0.0),
        optimiser=_OPTIMISER,
        schedule=_SCHEDULE,
        loop=_LOOP,
        about=_ABOUT,
    ),
    Recipe(
        name="finetune-matting",
        task="matting",
        init="nano",
        # Turning and zooming resample soft edges: less of it.
        data=DataSettings(augment=replace(_AUGMENT, rotate=0.1, scale=0.0)),
        loss=replace(parts.RECOMMENDED_MATTING_LOSS, classification=0.0),
        optimiser=_OPTIMISER,
        schedule=_SCHEDULE,
        loop=_LOOP,
        validation=ValidationSettings(metrics=("mae", "iou"), best_by="mae"),
        about=replace(
            _ABOUT,
            purpose="your own soft mattes, from any trained weights",
            command=_ABOUT.command.replace("finetune", "finetune-matting"),
        ),
    ),
    Recipe(
        name="thin",
        init="nano",
        # The size is to be that of the pictures: at the network's own a photo shows no crack.
        data=DataSettings(augment=_AUGMENT),
        # Few pixels are the subject, so cross-entropy is content without them; overlap is not.
        loss=replace(parts.RECOMMENDED_LOSS, iou=10.0, classification=0.0),
        # For `nano`; large networks want a tenth of it.
        optimiser=replace(_OPTIMISER, rate=1e-3),
        schedule=_SCHEDULE,
        loop=_LOOP,
        about=replace(
            _ABOUT,
            purpose="cracks, wires, vessels: thin things in your own pictures",
            command=_ABOUT.command.replace("finetune", "thin")
            + " --set data.width=512 --set data.height=384",
            time="3 minutes for 90 steps of 4 pictures at 512 x 384 on two CPU cores "
            "(docs/finetune.md)",
            score="IoU .490 where `finetune` has .399: 90 steps on 60 drawn walls "
            "(docs/finetune.md)",
            source="docs/finetune.md",
        ),
    ),
)
