"""Soft mattes: hair, fur, glass (`matting`), and people alone (`portrait`).

    birefnet train --recipe matting --data P3M-10k --data AM-2k … --validate TE-P3M-500-NP \\
        --output runs/matting

Expected: S .979, weighted F .988 on TE-P3M-500-NP for `matting` (released, epoch 100), S .983,
weighted F .990 on TE-P3M-500-P for `portrait` (released, epoch 150). Time and memory were not
measured here.
"""

from __future__ import annotations

from birefnet.training.recipe import Recipe
from birefnet.training.recipes import parts

_PAPER = parts.Values(
    epochs=150,
    loss=parts.PAPER_LOSS,
    source=f"{parts.NOT_IN_PAPER}; their phase of IoU alone hardens soft edges",
)
_OFFICIAL = parts.Values(
    epochs=150,
    loss=parts.OFFICIAL_MATTING_LOSS,
    source="released config.py and train.sh, task Matting; SSIM fades by 0.9 in each of the last "
    "20 epochs",
)
_RECOMMENDED = parts.Values(
    epochs=150, loss=parts.RECOMMENDED_MATTING_LOSS, source=parts.BEST_OF_BOTH
)

RECIPES: tuple[Recipe, ...] = (
    *parts.family(
        "matting",
        purpose="soft mattes of anything: hair, fur, glass",
        data="--data P3M-10k --data AM-2k --data Distinctions-646 --set data.backgrounds=BG-20k "
        "--validate TE-P3M-500-NP",
        rate=1e-5,
        score="TE-P3M-500-NP: S .979, weighted F .988 (release, epoch 100)",
        task="matting",
        paper=_PAPER,
        official=_OFFICIAL,
        recommended=_RECOMMENDED,
    ),
    *parts.family(
        "portrait",
        purpose="soft mattes of people",
        data="--data P3M-10k --data TR-humans --validate TE-P3M-500-P",
        rate=1e-5,
        score="TE-P3M-500-P: S .983, maximal F .996, MAE .006, weighted F .990 "
        "(release, epoch 150)",
        task="matting",
        paper=_PAPER,
        official=_OFFICIAL,
        recommended=_RECOMMENDED,
    ),
)
