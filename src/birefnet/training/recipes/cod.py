"""Concealed objects: animals that look like what surrounds them (COD10K and CAMO).

    birefnet train --recipe cod --data COD10K-TR --data CAMO-TR --validate CAMO-TE \\
        --output runs/cod

Expected: S .913 on COD10K-TE, .904 on CAMO-TE, .914 on NC4K (paper, Table 6). Time and memory were
not measured here.
"""

from __future__ import annotations

from birefnet.training.recipe import Recipe
from birefnet.training.recipes import parts

RECIPES: tuple[Recipe, ...] = parts.family(
    "cod",
    purpose="concealed objects (COD10K-TR and CAMO-TR, 4040 pictures)",
    data="--data COD10K-TR --data CAMO-TR --validate CAMO-TE",
    rate=1e-5,
    score="S, weighted F: CAMO .904 .890, COD10K .913 .874, NC4K .914 .894 (paper, Table 6)",
    paper=parts.Values(
        epochs=150,
        loss=parts.PAPER_LOSS,
        source="paper Sec. 3.5 and 4.3: 150 epochs, the last 20 with IoU alone",
    ),
    official=parts.Values(
        epochs=150,
        loss=parts.OFFICIAL_LOSS,
        source="released config.py and train.sh; IoU vanishes in the last 20 epochs, a defect",
    ),
    recommended=parts.Values(epochs=150, loss=parts.RECOMMENDED_LOSS, source=parts.BEST_OF_BOTH),
)
