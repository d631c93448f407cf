"""Scores of models on the validation split of nano's pictures, as a Markdown table.

    python -m tools.nano.scores SPLIT [--watch FOLDER] [--model nano] [--peer u2netp.onnx]

SPLIT is what `tools.nano.split` wrote. Each picture is scored at its own size; of scenes without
any object, the share that comes out empty is given. FOLDER holds im/ and gt/ and is scored as a
whole. A peer is a network of u2netp's interface; its map is stretched to its own minimum and
maximum, as its own tools do.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import birefnet
from birefnet.evaluation import evaluate_pair
from birefnet.training.data.opening import open_source
from tools.nano.pseudo_labels import PseudoLabeller

METRICS = (
    "iou",
    "weighted_f_measure",
    "s_measure",
    "mae",
    "boundary_iou_max",
    "mean_boundary_accuracy",
    "hce",
    "matte_mae",
)
TITLES = "IoU | weighted F | S | MAE | BIoU | mBA | HCE | MAE to alpha | ms"
EMPTY = "empty"

GreyValues = NDArray[np.uint8]
Cut = Callable[[GreyValues], GreyValues]
Samples = Callable[[], Iterator[tuple[GreyValues, GreyValues]]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("split", type=Path, help="a folder that tools.nano.split wrote")
    parser.add_argument("--watch", type=Path, action="append", default=[])
    parser.add_argument("--model", nargs="+", default=["nano"])
    parser.add_argument("--peer", type=Path, help="u2netp.onnx")
    parser.add_argument("--resolution", type=int, nargs="+", default=[None])
    parser.add_argument("--most", type=int, default=1000, help="pictures of a kind")
    parser.add_argument("--leave-out", nargs="*", default=[], help="kinds, e.g. the peer's own")
    options = parser.parse_args()
    models: dict[str, Cut] = {}
    for name in options.model:
        predictor = birefnet.load(name)
        for resolution in options.resolution:
            size = f" {resolution}" if resolution else ""
            models[Path(name).name + size] = cut_by(predictor, resolution)
    if options.peer:
        models[options.peer.stem] = stretched(PseudoLabeller(options.peer, os.cpu_count() or 1))
    watched = {folder.name for folder in options.watch}
    print(f"| kind | pictures | model | {TITLES} |")
    print("|" + "---|" * (3 + TITLES.count("|") + 1))
    for kind, samples in sets(options.split, options.watch).items():
        if kind in options.leave_out:
            continue
        for model, cut in models.items():
            most = None if kind in watched else options.most
            print(row(kind, samples, model, cut, most), flush=True)
    for model, cut in models.items() if (options.split / "composed" / EMPTY).is_dir() else ():
        empty, count = emptiness(options.split, cut)
        print(f"\n{model}: {empty} of {count} scenes without an object come out empty")


def samples_of(folder: Path) -> Samples:
    """The pictures and masks of a folder with im/ and gt/, one after the other."""

    def samples() -> Iterator[tuple[GreyValues, GreyValues]]:
        source = open_source(str(folder))
        for index in range(len(source)):
            pixels = source.read(index)
            yield np.ascontiguousarray(pixels[..., :3]), np.ascontiguousarray(pixels[..., 3])

    return samples


def sets(split: Path, watched: Sequence[Path] = ()) -> dict[str, Samples]:
    """Photos of the validation part by kind, composites, and other folders; no empty scenes."""
    folders = [*sorted(split.glob("validation/photos/*")), *watched]
    folders += [f for f in sorted(split.glob("composed/*")) if f.name != EMPTY]
    return {folder.name: samples_of(folder) for folder in folders}


def emptiness(split: Path, cut: Cut) -> tuple[int, int]:
    """How many scenes without an object have no pixel above one half, and of how many."""
    found = [int(cut(rgb).max()) < 128 for rgb, _ in samples_of(split / "composed" / EMPTY)()]
    return sum(found), len(found)


def cut_by(predictor: birefnet.Predictor, resolution: int | None) -> Cut:
    def cut(rgb: GreyValues) -> GreyValues:
        return grey_values(predictor.predict(rgb, resolution=resolution).alpha)

    return cut


def stretched(labeller: PseudoLabeller) -> Cut:
    return lambda rgb: grey_values(labeller(rgb, stretch=True))


def grey_values(alpha: NDArray[Any]) -> GreyValues:
    return np.round(alpha * 255).astype(np.uint8)


def row(kind: str, samples: Samples, model: str, cut: Cut, most: int | None) -> str:
    """One line of the table: means over the pictures, and the time of a picture."""
    scores, spent = [], 0.0
    for rgb, truth in islice(samples(), most):
        started = time.perf_counter()
        matte = cut(rgb)
        spent += time.perf_counter() - started
        found = evaluate_pair(matte, truth, metrics=METRICS)
        scores.append([found[name] for name in METRICS])
    means = dict(zip(METRICS, np.mean(scores, axis=0), strict=True))
    numbers = [f"{means[name]:.0f}" if name == "hce" else f"{means[name]:.3f}" for name in METRICS]
    numbers.append(f"{1000 * spent / len(scores):.0f}")
    return f"| {kind} | {len(scores)} | {model} | {' | '.join(numbers)} |"


if __name__ == "__main__":
    main()
