"""Salient objects in high resolution: DUTS, HRSOD and UHRSD, alone or together.

    birefnet train --recipe hrsod --data DUTS-TR --data HRSOD-TR --data UHRSD-TR \\
        --validate HRSOD-TE --output runs/hrsod

`hrsod` is trained on all three; `hrsod-dh`, `hrsod-u` and so on are the combinations of the paper
and the release, named by the first letters of their sets. Expected: S .962 on HRSOD-TE (paper,
Table 5; each recipe states its own). Time and memory were not measured here.
"""

from __future__ import annotations

from birefnet.training.recipe import Recipe
from birefnet.training.recipes import parts

_SETS = {"d": "DUTS-TR", "h": "HRSOD-TR", "u": "UHRSD-TR"}
# S-measure on DAVIS-S, HRSOD-TE, UHRSD-TE, DUTS-TE, DUT-OMRON (paper, Table 5).
_SCORES: dict[str, tuple[float, ...]] = {
    "dhu": (0.975, 0.962, 0.957, 0.944, 0.882),
    "d": (0.967, 0.957, 0.931, 0.939, 0.868),
    "h": (),
    "u": (),
    "dh": (0.973, 0.962, 0.937, 0.938, 0.868),
    "du": (0.975, 0.959, 0.952, 0.942, 0.881),
    "hu": (0.976, 0.956, 0.952, 0.933, 0.864),
}
_TESTS = ("DAVIS-S", "HRSOD-TE", "UHRSD-TE", "DUTS-TE", "DUT-OMRON")


def _score(letters: str) -> str:
    if not _SCORES[letters]:
        return ""
    pairs = zip(_TESTS, _SCORES[letters], strict=True)
    return f"S: {', '.join(f'{name} {value:.3f}' for name, value in pairs)} (paper, Table 5)"


def _family(letters: str) -> tuple[Recipe, ...]:
    """The three variants for one combination of the sets."""
    sets = [_SETS[letter] for letter in letters]
    return parts.family(
        "hrsod" if letters == "dhu" else f"hrsod-{letters}",
        purpose=f"salient objects in high resolution ({', '.join(sets)})",
        data=" ".join(f"--data {folder}" for folder in sets) + " --validate HRSOD-TE",
        rate=1e-5,
        score=_score(letters),
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
        recommended=parts.Values(
            epochs=150, loss=parts.RECOMMENDED_LOSS, source=parts.BEST_OF_BOTH
        ),
    )


RECIPES: tuple[Recipe, ...] = tuple(recipe for letters in _SCORES for recipe in _family(letters))
