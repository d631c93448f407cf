"""The subjects of the paper and of the release: each trains a new decoder on an ImageNet encoder.

    birefnet train --recipe dis5k --data DIS-TR --validate DIS-VD --output runs/dis5k

`birefnet train --list` shows the others, each with its command and the score that paper or release
report. Time and memory were not measured here.
"""

from __future__ import annotations

from birefnet.training.recipe import Recipe
from birefnet.training.recipes import parts
from birefnet.training.recipes.parts import Values

# Dichotomous image segmentation on DIS5K: fine structures.
_DIS5K = parts.family(
    "dis5k",
    purpose="dichotomous segmentation with fine structures (DIS5K, 3000 pictures)",
    data="--data DIS-TR --validate DIS-VD",
    rate=1e-4,  # ten times that of the other tasks, "to converge faster" (config.py)
    score="DIS-VD: S .905, weighted F .863, MAE .036, HCE 1039 (paper, Table 3)",
    paper=Values(
        parts.PAPER_LOSS,
        epochs=600,
        source="paper Sec. 3.5 and 4.3: 600 epochs, the last 20 with IoU alone",
        # The paper's head reads the fused context; the released one reads x4 alone.
        classes="dis5k",
        network_overrides={"auxiliary_classes": 219, "classifier_input": "context"},
    ),
    official=Values(
        parts.OFFICIAL_DIS5K_LOSS,
        epochs=500,
        source="released config.py and train.sh; IoU vanishes in the last 40 epochs, a defect",
    ),
    # The release's number. Table 1 of the paper: after 200 only fine parts still gain.
    recommended=Values(parts.RECOMMENDED_LOSS, epochs=500),
)

# Salient objects in high resolution: `hrsod` is trained on all three sets; `hrsod-dh`, `hrsod-u` …
# are the combinations of the paper and the release, named by the first letters of their sets.
_SETS = {"d": "DUTS-TR", "h": "HRSOD-TR", "u": "UHRSD-TR"}
_TESTS = ("DAVIS-S", "HRSOD-TE", "UHRSD-TE", "DUTS-TE", "DUT-OMRON")
# S-measure on these (paper, Table 5).
_SCORES: dict[str, tuple[float, ...]] = {
    "dhu": (0.975, 0.962, 0.957, 0.944, 0.882),
    "d": (0.967, 0.957, 0.931, 0.939, 0.868),
    "h": (),
    "u": (),
    "dh": (0.973, 0.962, 0.937, 0.938, 0.868),
    "du": (0.975, 0.959, 0.952, 0.942, 0.881),
    "hu": (0.976, 0.956, 0.952, 0.933, 0.864),
}


def _hrsod(letters: str) -> tuple[Recipe, ...]:
    """The three variants for one combination of the sets."""
    sets = [_SETS[letter] for letter in letters]
    scores = [f"{test} {s:.3f}" for test, s in zip(_TESTS, _SCORES[letters], strict=False)]
    return parts.family(
        "hrsod" if letters == "dhu" else f"hrsod-{letters}",
        purpose=f"salient objects in high resolution ({', '.join(sets)})",
        data=" ".join(f"--data {folder}" for folder in sets) + " --validate HRSOD-TE",
        score=f"S: {', '.join(scores)} (paper, Table 5)" if scores else "",
    )


# Concealed objects: animals that look like what surrounds them.
_COD = parts.family(
    "cod",
    purpose="concealed objects (COD10K-TR and CAMO-TR, 4040 pictures)",
    data="--data COD10K-TR --data CAMO-TR --validate CAMO-TE",
    score="S, weighted F: CAMO .904 .890, COD10K .913 .874, NC4K .914 .894 (paper, Table 6)",
)

# Any object, for everyday use. The released `general` was trained on these sets (DIS5K without
# DIS-VD), train and test parts; `general-2k` (released as `lite-2k`) on the same at 2560 x 1440.
_EVERYTHING = (
    "--data DIS-TR --data DUTS-TR --data HRSOD-TR --data UHRSD-TR --data HRS10K-TR "
    "--data P3M-10k --data TR-humans --validate DIS-VD"
)


def _general(
    name: str, purpose: str, score: str, epochs: str, network: str, size: tuple[int, int]
) -> tuple[Recipe, ...]:
    return parts.family(
        name,
        purpose=purpose,
        data=_EVERYTHING,
        score=score,
        network=network,
        size=size,
        paper=Values(parts.PAPER_LOSS, source=parts.NOT_IN_PAPER),
        official=Values(
            parts.OFFICIAL_GENERAL_LOSS,
            epochs=250,
            source=f"released config.py; 250 epochs{epochs}; IoU vanishes in the last 20 epochs, a "
            "defect",
        ),
        recommended=Values(parts.RECOMMENDED_GENERAL_LOSS, epochs=250),
    )


_GENERAL = (
    *_general(
        "general",
        "any object, the usual choice",
        "DIS-VD: S .911, weighted F .875, HCE 1069 (release, epoch 244)",
        ", as the released weights are of epoch 244",
        "swin_v1_l",
        (1024, 1024),
    ),
    *_general(
        "general-2k",
        "any object in wide, large pictures, small network",
        "DIS-VD at 1024 x 1024: S .882, weighted F .830, HCE 1175 (release, `lite`)",
        " (train.sh), released weights are of epoch 232",
        "swin_v1_t",
        (2560, 1440),
    ),
)


def _matting(name: str, purpose: str, data: str, score: str) -> tuple[Recipe, ...]:
    return parts.family(
        name,
        purpose=purpose,
        data=data,
        score=score,
        task="matting",
        paper=Values(
            parts.PAPER_LOSS,
            source=f"{parts.NOT_IN_PAPER}; their phase of IoU alone hardens soft edges",
        ),
        official=Values(
            parts.OFFICIAL_MATTING_LOSS,
            source="released config.py and train.sh, task Matting; SSIM fades by 0.9 in each of "
            "the last 20 epochs",
        ),
        recommended=Values(parts.RECOMMENDED_MATTING_LOSS),
    )


_MATTING = (
    *_matting(
        "matting",
        "soft mattes of anything: hair, fur, glass",
        "--data P3M-10k --data AM-2k --data Distinctions-646 --set data.backgrounds=BG-20k "
        "--validate TE-P3M-500-NP",
        "TE-P3M-500-NP: S .979, weighted F .988 (release, epoch 100)",
    ),
    *_matting(
        "portrait",
        "soft mattes of people",
        "--data P3M-10k --data TR-humans --validate TE-P3M-500-P",
        "TE-P3M-500-P: S .983, maximal F .996, MAE .006, weighted F .990 (release, epoch 150)",
    ),
)

RECIPES: tuple[Recipe, ...] = (
    *_DIS5K,
    *(recipe for letters in _SCORES for recipe in _hrsod(letters)),
    *_COD,
    *_GENERAL,
    *_MATTING,
)
