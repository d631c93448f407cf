"""Any object, for everyday use: the sets of segmentation and portraits together.

    birefnet train --recipe general --data DIS-TR --data DUTS-TR … --validate DIS-VD \\
        --output runs/general

The released `general` was trained on DIS5K (without DIS-VD), DUTS, HRSOD, UHRSD, HRS10K, P3M-10k
and TR-humans, train and test parts; `general-2k` (released as `lite-2k`) on the same at 2560 x
1440. Expected: S .911, weighted F .875, HCE 1069 on DIS-VD (the release's page). Time and memory
were not measured here.
"""

from __future__ import annotations

from birefnet.training.recipe import Recipe
from birefnet.training.recipes import parts

_DATA = (
    "--data DIS-TR --data DUTS-TR --data HRSOD-TR --data UHRSD-TR --data HRS10K-TR "
    "--data P3M-10k --data TR-humans --validate DIS-VD"
)


def _official(epochs: int, source: str) -> parts.Values:
    return parts.Values(
        epochs=epochs,
        loss=parts.OFFICIAL_GENERAL_LOSS,
        source=f"released config.py; {source}; IoU vanishes in the last 20 epochs, a defect",
    )


RECIPES: tuple[Recipe, ...] = (
    *parts.family(
        "general",
        purpose="any object, the usual choice",
        data=_DATA,
        rate=1e-5,
        score="DIS-VD: S .911, weighted F .875, HCE 1069 (release, epoch 244)",
        paper=parts.Values(epochs=150, loss=parts.PAPER_LOSS, source=parts.NOT_IN_PAPER),
        official=_official(250, "250 epochs, as the released weights are of epoch 244"),
        recommended=parts.Values(
            epochs=250, loss=parts.RECOMMENDED_GENERAL_LOSS, source=parts.BEST_OF_BOTH
        ),
    ),
    *parts.family(
        "general-2k",
        purpose="any object in wide, large pictures, small network",
        data=_DATA,
        rate=1e-5,
        score="DIS-VD at 1024 x 1024: S .882, weighted F .830, HCE 1175 (release, `lite`)",
        network="swin_v1_t",
        size=(2560, 1440),
        paper=parts.Values(epochs=150, loss=parts.PAPER_LOSS, source=parts.NOT_IN_PAPER),
        official=_official(250, "250 epochs (train.sh), released weights are of epoch 232"),
        recommended=parts.Values(
            epochs=250, loss=parts.RECOMMENDED_GENERAL_LOSS, source=parts.BEST_OF_BOTH
        ),
    ),
)
