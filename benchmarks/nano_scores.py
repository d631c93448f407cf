"""Scores of a bundled or local model on the held-out pictures of a data root, as a Markdown table.

    python benchmarks/nano_scores.py DATA [--watch FOLDER] [--model nano] [--resolution 320]

DATA holds photos/KIND/{im,gt} as for training; the held-out tenth (by `is_held_out`) is scored, at
each picture's own size. FOLDER holds im/ and gt/ and is scored as a whole.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

import birefnet
from birefnet.evaluation import iou, mae, s_measure, weighted_f_measure
from birefnet.training.store import is_held_out, pairs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--watch", type=Path, action="append", default=[])
    parser.add_argument("--model", default="nano")
    parser.add_argument("--resolution", type=int, nargs="+", default=[None])
    options = parser.parse_args()
    kinds: dict[str, list[tuple[Path, Path]]] = {}
    for folder in sorted(p for p in options.data.glob("photos/*") if p.is_dir()):
        kinds[folder.name] = [pair for pair in pairs(folder) if is_held_out(pair[0].name)]
    for folder in options.watch:
        kinds[folder.name] = pairs(folder)
    predictor = birefnet.load(options.model)
    print("| kind | pictures | input | IoU | weighted F | S | MAE | ms/picture |")
    print("|---|---|---|---|---|---|---|---|")
    for kind, found in kinds.items():
        for resolution in options.resolution:
            print(row(predictor, kind, found, resolution), flush=True)


def row(
    predictor: birefnet.Predictor,
    kind: str,
    found: Iterable[tuple[Path, Path]],
    resolution: int | None,
) -> str:
    scores, spent = [], 0.0
    for image, truth in found:
        started = time.perf_counter()
        alpha = predictor.predict(image, resolution=resolution).alpha
        spent += time.perf_counter() - started
        scores.append(score(alpha, cv2.imread(str(truth), cv2.IMREAD_GRAYSCALE)))
    means = " | ".join(f"{value:.3f}" for value in np.mean(scores, axis=0))
    milliseconds = 1000 * spent / max(1, len(scores))
    return f"| {kind} | {len(scores)} | {resolution or 'default'} | {means} | {milliseconds:.0f} |"


def score(alpha: np.ndarray, truth: np.ndarray) -> tuple[float, float, float, float]:
    """IoU at 0.5, weighted F, S and MAE of one matte."""
    if truth.shape != alpha.shape:
        truth = cv2.resize(truth, alpha.shape[::-1], interpolation=cv2.INTER_AREA)
    levels = np.round(alpha * 255).astype(np.uint8)
    overlap, weighted, structure, error = (
        float(measure(levels, truth)) for measure in (iou, weighted_f_measure, s_measure, mae)
    )
    return overlap, weighted, structure, error


if __name__ == "__main__":
    main()
