"""Scores of a bundled or local model on the held-out pictures of a data root, as a Markdown table.

    python -m tools.nano.scores DATA [--watch FOLDER] [--model nano] [--peer u2netp.onnx]

DATA holds photos/, cutouts/, backgrounds/ and panoramas/ as for training. The held-out tenth of
each kind of photos is scored at each picture's own size, and composites of held-out cut-outs and
thin structures over held-out scenes, whose alpha is exact, at 384 pixels. Of scenes without any
object, the share that comes out empty is given. FOLDER holds im/ and gt/ and is scored as a whole.
A peer is a network of u2netp's interface; its map is stretched to its own minimum and maximum, as
its own tools do.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

import birefnet
from birefnet.evaluation import evaluate_pair
from tools.nano.mix import Mix, MixConfig
from tools.nano.pseudo_labels import PseudoLabeller
from tools.nano.split import is_held_out, pairs
from tools.nano.store import PictureStore, read

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
COMPOSITES = {
    "renders, composed": ({"renders": 1.0}, 0.0, 11),
    "emoji and clip art, composed": ({"emoji": 1.0, "clipart": 1.0}, 0.0, 15),
    "renders among distractors": ({"renders": 1.0}, 1.0, 14),
    "thin structures": ({"strands": 1.0}, 0.0, 12),
}
COUNT = 40
SIZE = 384

Levels = NDArray[np.uint8]
Cut = Callable[[Levels], Levels]
Samples = Callable[[], Iterator[tuple[Levels, Levels]]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--watch", type=Path, action="append", default=[])
    parser.add_argument("--model", nargs="+", default=["nano"])
    parser.add_argument("--peer", type=Path, help="u2netp.onnx")
    parser.add_argument("--resolution", type=int, nargs="+", default=[None])
    parser.add_argument("--cache", type=Path, help="decoded pictures; default: a temporary folder")
    parser.add_argument("--most", type=int, default=1000, help="held-out photos of a kind")
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
    with tempfile.TemporaryDirectory() as folder:
        store = PictureStore.build(options.data, options.cache or Path(folder))
        kinds = {**photos(options.data, options.watch), **composites(store)}
        watched = {folder.name for folder in options.watch}
        print(f"| kind | pictures | model | {TITLES} |")
        print("|" + "---|" * (3 + TITLES.count("|") + 1))
        for kind, samples in kinds.items():
            if kind in options.leave_out:
                continue
            for model, cut in models.items():
                most = None if kind in watched else options.most
                print(row(kind, samples, model, cut, most), flush=True)
        for model, cut in models.items():
            empty, count = emptiness(store, cut)
            print(f"\n{model}: {empty} of {count} scenes without an object come out empty")


def photos(root: Path, watched: list[Path]) -> dict[str, Samples]:
    """Held-out photos by kind."""
    found = {
        folder.name: [pair for pair in pairs(folder) if is_held_out(pair[0].name)]
        for folder in sorted(p for p in root.glob("photos/*") if (p / "gt").is_dir())
    }
    found |= {folder.name: pairs(folder) for folder in watched}

    def samples(files: list[tuple[Path, Path]]) -> Iterator[tuple[Levels, Levels]]:
        for image, mask in files:
            rgb = np.ascontiguousarray(read(image, cv2.IMREAD_COLOR)[..., ::-1])
            truth = read(mask, cv2.IMREAD_GRAYSCALE)
            if truth.shape != rgb.shape[:2]:
                size = (rgb.shape[1], rgb.shape[0])
                truth = np.asarray(cv2.resize(truth, size, interpolation=cv2.INTER_AREA))
            yield rgb, truth

    return {kind: (lambda files=files: samples(files)) for kind, files in found.items() if files}


def composites(store: PictureStore) -> dict[str, Samples]:
    """Held-out cut-outs over held-out scenes."""

    def samples(mix: Mix, seed: int) -> Iterator[tuple[Levels, Levels]]:
        for number in range(COUNT):
            yield mix.sample(np.random.default_rng((seed, number)), SIZE)

    made: dict[str, Samples] = {}
    for kind, (cutouts, distractor, seed) in COMPOSITES.items():
        config = MixConfig(photo=0, composite=1, empty=0, distractor=distractor, cutouts=cutouts)
        mix = Mix(store, config, kept_out=True)
        made[kind] = lambda mix=mix, seed=seed: samples(mix, seed)
    return made


def emptiness(store: PictureStore, cut: Cut) -> tuple[int, int]:
    """How many scenes without an object have no pixel above one half, and of how many."""
    mix = Mix(store, MixConfig(photo=0, composite=0, empty=1), kept_out=True)
    scenes = (mix.sample(np.random.default_rng((13, number)), SIZE)[0] for number in range(COUNT))
    return sum(int(cut(scene).max() < 128) for scene in scenes), COUNT


def cut_by(predictor: birefnet.Predictor, resolution: int | None) -> Cut:
    def cut(rgb: Levels) -> Levels:
        return levels(predictor.predict(rgb, resolution=resolution).alpha)

    return cut


def stretched(labeller: PseudoLabeller) -> Cut:
    return lambda rgb: levels(labeller(rgb, stretch=True))


def levels(alpha: NDArray[Any]) -> Levels:
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
