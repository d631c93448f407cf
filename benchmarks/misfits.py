"""How many mirrored and exchanged truths `birefnet data check` finds, and how many false alarms.

    python benchmarks/misfits.py SET [SET …]

Each set is taken as right. Of sets drawn from it, of 5, 20 and 100 pairs and of all, one truth in
twenty is mirrored, exchanged with another, or moved on by one among at least three.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np

from birefnet.training.data.alignment import Edges, misfits
from birefnet.training.data.folders import find_set
from birefnet.training.data.inspection import inspect

SIZES = (5, 20, 100)
FAULTS = ("mirrored", "upside down", "exchanged", "moved on")


def spoil(pairs: list[Edges], fault: str) -> int:
    """Spoil the first pairs in place; how many."""
    number = max(1, len(pairs) // 20)
    if fault in ("exchanged", "moved on"):
        number = 2 if fault == "exchanged" else max(3, number)
        truths = [pair.truth for pair in pairs[:number]]
        pairs[:number] = [
            replace(pair, truth=truths[(i + 1) % number]) for i, pair in enumerate(pairs[:number])
        ]
        return number
    axis = 1 if fault == "mirrored" else 0
    for i in range(number):
        truth = np.flip(pairs[i].truth, axis).copy()
        truth[..., 1] *= -1
        pairs[i] = replace(pairs[i], truth=truth)
    return number


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sets", nargs="+", metavar="SET")
    parser.add_argument("--repeat", type=int, default=1500, help="pairs to look at, of each size")
    arguments = parser.parse_args()
    print("| set | pairs | " + " | ".join(FAULTS) + " | false alarms |")
    print("|---|--:|" + "--:|" * (len(FAULTS) + 1))
    for path in arguments.sets:
        facts = inspect(find_set(path), jobs=0)
        known = [one.edges for one in facts if one.edges is not None]
        alarms = len(misfits(known))
        print(f"| {path} | {len(known)} | " + "– | " * len(FAULTS) + f"{alarms} |")
        rng = np.random.default_rng(0)
        for size in [*(size for size in SIZES if size < len(known)), len(known)]:
            hits, wrong, right = dict.fromkeys(FAULTS, 0), 0, 0
            spoilt = dict.fromkeys(FAULTS, 0)
            for _ in range(max(3, min(150, arguments.repeat // size))):
                chosen = rng.choice(len(known), size, replace=False)
                for fault in FAULTS:
                    pairs = [known[i] for i in chosen]
                    number = spoil(pairs, fault)
                    found = {misfit.index for misfit in misfits(pairs)}
                    hits[fault] += len(found & set(range(number)))
                    spoilt[fault] += number
                    wrong += len(found - set(range(number)))
                    right += size - number
            cells = [f"{hits[fault] / spoilt[fault]:.1%}" for fault in FAULTS]
            print(f"|  | {size} | " + " | ".join(cells) + f" | {wrong / right:.2%} |", flush=True)


if __name__ == "__main__":
    main()
