"""What eight bits cost and bring: scores and time of exported files beside the network in fp32.

    birefnet export nano -o nano-int8.onnx --precision int8 --calibrate PICTURES
    python benchmarks/int8.py nano nano-int8.onnx --pictures FOLDER

Each FOLDER holds im/ and gt/; with --held-out only the pictures that training leaves out count. The
table gives weighted F and MAE of PyTorch in fp32 and of every file, over all pictures, at their own
size; and the time of the network alone on one batch of one picture, best of rounds in turns, all in
this process. The last column says whether a file keeps to the limits: weighted F falls by at most
0.005, MAE rises by at most 0.003.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch

import birefnet
from birefnet.engines.exported import open_exported
from birefnet.evaluation import mae, weighted_f_measure
from birefnet.predictor import Predictor
from birefnet.training.store import is_held_out, pairs

FALL_OF_F, RISE_OF_MAE = 0.005, 0.003


def scores(
    predictor: Predictor, found: Sequence[tuple[Path, Path]], size: tuple[int, int]
) -> tuple[float, float]:
    """Mean weighted F and mean MAE, of one look of `size` (width, height)."""
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


def times(predictors: dict[str, Predictor], size: tuple[int, int], rounds: int) -> dict[str, float]:
    """Best time [ms] of each network on one picture of `size` (width, height)."""
    batch = np.random.default_rng(0).normal(size=(1, 3, size[1], size[0])).astype(np.float32)
    best = dict.fromkeys(predictors, float("inf"))
    for _ in range(rounds):
        for name, predictor in predictors.items():
            start = time.perf_counter()
            predictor.engine.infer(batch)
            best[name] = min(best[name], 1000 * (time.perf_counter() - start))
    return best


def main() -> None:
    """Parse the command and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("model")
    parser.add_argument("files", type=Path, nargs="*", help="exported files")
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
    for file in options.files:
        engine = open_exported(file, device="cpu", threads=options.threads)
        predictors[file.name] = Predictor(engine, engine.metadata.preprocess)
    size = (network.preprocess.width, network.preprocess.height)
    spent = {} if options.no_times else times(predictors, size, options.rounds)
    print(f"{options.model} at {size[0]}x{size[1]}, {options.threads} threads")
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
