"""What several released networks share: the sets they were trained on, and reported scores.

Sources: the model zoo of the official repository (github.com/ZhengPeng7/BiRefNet) and the networks'
pages on Hugging Face.
"""

from __future__ import annotations

from typing import Any

from birefnet.weights.records import Score

ZOO = "official model zoo"

GENERAL = (
    "DIS5K, DUTS, HRSOD, UHRSD, HRS10K, P3M-10k and a set of humans; "
    "DIS5K and P3M-10k are released for research only"
)
MATTING = (
    "P3M-10k, humans, AM-2k, AIM-500, Human-2k, Distinctions-646, HIM2K, PPM-100, with BG-20k; "
    "several of them are released for research only"
)
PORTRAIT = "P3M-10k (without its portrait test set) and a set of humans; P3M-10k: research only"
DIS = "DIS5K, released for research only"
HRSOD = "DUTS, HRSOD, UHRSD; check their terms before commercial use"
COD = "COD10K, CAMO; released for research only"


def dis_scores(s: float, wf: float, hce: float) -> tuple[Score, ...]:
    """S-measure, weighted F and human correction efforts on DIS-VD."""
    return (Score("DIS-VD", {"S": s, "wF": wf, "HCE": hce}, ZOO),)


SCORE_MATTING = (Score("TE-P3M-500-NP", {"S": 0.979, "wF": 0.988}, ZOO),)
SCORE_PORTRAIT = (
    Score(
        "TE-P3M-500-P",
        {"S": 0.983, "maxF": 0.996, "meanE": 0.991, "MAE": 0.006, "wF": 0.990},
        "the model's page, ZhengPeng7/BiRefNet-portrait",
    ),
)
TINY: dict[str, Any] = {"preset": "swin_v1_t"}
