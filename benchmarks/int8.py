"""What eight bits cost and bring: scores and time of exported files beside the network in fp32.

    birefnet export nano -o nano-int8.xml --precision int8 --dynamic --calibrate PICTURES
    python benchmarks/int8.py nano nano-int8.xml nano-int8.xml@bf16 --pictures FOLDER

Each FOLDER holds im/ and gt/; with --held-out only the pictures that training leaves out count. The
table gives weighted F and MAE of PyTorch in fp32 and of every file, over all pictures, at their own
size; and the time of the network alone on one picture (all its views), best of rounds in turns, all
in this process. FILE@bf16 runs a file with its floating point in bfloat16. The last column says
whether a file keeps to the limits: weighted F falls by at most 0.005, MAE rises by at most 0.003.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from held_out import is_held_out, pairs

import birefnet
from birefnet.evaluation import mae, weighted_f_measure
from birefnet.inference.load import open_exported
from birefnet.inference.predictor import Predictor

FALL_OF_F, RISE_OF_MAE = 0.005, 0.003


def scores(
    predictor: Predictor, found: Sequence[tuple[Path, Path]], size: int | None
) -> tuple[float, float]:
    """Mean weighted F and mean MAE, of one view of `size`, or of all views."""
    values = []
    for image, truth_path in found:
        alpha = predictor.predict(image, resolution=size).alpha
        truth = cv2.imread(str(truth_path), cv2.IMREAD_GRAYSCALE)
        if truth.shape != alpha.shape:
            truth = cv2.resize(truth, alpha.shape[::-1], interpolation=cv2.INTER_AREA)
        levels = np.round(alpha * 255).astype(np.uint8)
        values.append((float(weighted_f_measure(levels, truth)), float(mae(levels, truth))))
    weighted, error = np.mean(values, axis=0)
    return float(weighted), float(error)


def times(predictors: dict[str, Predictor], size: int | None, rounds: int) -> dict[str, float]:
    """Best time [ms] of each network on one picture of `size`, or on all views at one."""
    preprocess = next(iter(predictors.values())).preprocess
    sides = [view[:2] for view in preprocess.views] or [(preprocess.width, preprocess.height)]
    random = np.random.default_rng(0)
    batches = [
        random.normal(size=(1, 3, height, width)).astype(np.float32)
        for width, height in ([(size, size)] if size else sides)
    ]
    best = dict.fromkeys(predictors, float("inf"))
    for _ in range(rounds):
        for name, predictor in predictors.items():
            start = time.perf_counter()
            for batch in batches:
                predictor.engine.infer(batch)
            best[name] = min(best[name], 1000 * (time.perf_counter() - start))
    return best


def main() -> None:
    """Parse the command and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("model")
    parser.add_argument("files", nargs="*", help="exported files, FILE or FILE@DTYPE")
    parser.add_argument("--size", type=int, help="one view of this size; default: all views")
    parser.add_argument("--pictures", type=Path, action="append", default=[])
    parser.add_argument("--held-out", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--no-scores", action="store_true", help="time only")
    parser.add_argument("--no-times", action="store_true", help="scores only")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    found = [pair for folder in options.pictures for pair in pairs(folder)]
    if options.held_out:
        found = [pair for pair in found if is_held_out(pair[0].name)]
    network = birefnet.load(options.model, device="cpu", dtype="fp32", engine="torch")
    predictors = {"torch fp32": network}
    for given in options.files:
        file, _, dtype = given.partition("@")
        engine = open_exported(
            Path(file), device="cpu", dtype=dtype or "auto", threads=options.threads
        )
        predictors[Path(given).name] = Predictor(engine, engine.metadata.preprocess)
    size = options.size
    spent = {} if options.no_times else times(predictors, size, options.rounds)
    print(
        f"{options.model}, {f'{size}x{size}' if size else 'all views'}, {options.threads} threads"
    )
    print(f"| engine | weighted F ({len(found)} pictures) | MAE | ms | times as fast | kept |")
    print("|---|--:|--:|--:|--:|---|")
    first: tuple[float, float] | None = None
    for name, predictor in predictors.items():
        quality, kept = "– | –", ""
        if found and not options.no_scores:
            weighted, error = scores(predictor, found, size)
            first = first or (weighted, error)
            quality = f"{weighted:.4f} ({weighted - first[0]:+.4f}) | "
            quality += f"{error:.4f} ({error - first[1]:+.4f})"
            is_kept = first[0] - weighted <= FALL_OF_F and error - first[1] <= RISE_OF_MAE
            kept = "yes" if is_kept else "no"
        speed = "– | –"
        if spent:
            speed = f"{spent[name]:.1f} | {spent['torch fp32'] / spent[name]:.2f}"
        print(f"| {name} | {quality} | {speed} | {kept} |", flush=True)


if __name__ == "__main__":
    main()
