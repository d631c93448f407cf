"""How long all metrics of one pair take, against PySODMetrics plus the official HCE program.

    pip install pysodmetrics scikit-image scipy opencv-python-headless
    PYTHONPATH=src python benchmarks/evaluation.py

Both sides run in this process, on one thread, over the same two pictures, and are timed in CPU
seconds (`time.process_time`), the best of `--repeat` runs, so that the ratio holds on a busy
machine. No skeleton is kept from run to run. The HCE of the other side calls scikit-image and
OpenCV in the order of the program published with DIS5K (`hce_metric_main.py`): `skeletonize`,
`label`, `findContours` and a walk along the contours in Python. The ratio is to all metrics of
segmentation, among them boundary accuracy, boundary IoU, IoU, Dice, BER and MSE, which the other
side is spared; the last column adds the metrics of mattes.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import cv2
import numpy as np
import py_sod_metrics
from numpy.typing import NDArray
from skimage.measure import label
from skimage.morphology import disk, skeletonize

from birefnet.evaluation import evaluate_pair

Grey = NDArray[np.uint8]

# Our name of each number that both sides give.
SHARED = ("s_measure", "e_measure_mean", "f_measure_max", "weighted_f_measure", "mae", "hce")


def make_pair(size: int, *, is_detailed: bool) -> tuple[Grey, Grey]:
    """A ground truth of one large ragged object, and a soft prediction that is partly wrong.

    The detailed one has fine texture at its edge and sixty thin bars, as in DIS5K.
    """
    generator = np.random.default_rng(1)

    def noise(cells: int, strength: float) -> NDArray[np.float32]:
        field = generator.standard_normal((cells, cells)).astype(np.float32) * strength
        return cv2.resize(field, (size, size), interpolation=cv2.INTER_CUBIC)

    rows, columns = np.mgrid[0:size, 0:size].astype(np.float32) / size - 0.5
    field = 0.33 - np.hypot(columns * 1.1, rows * 0.9) + noise(8, 0.06) + noise(40, 0.02)
    if is_detailed:
        field += noise(200, 0.012)
    truth = np.where(field > 0, 255, 0).astype(np.uint8)
    for _ in range(60 if is_detailed else 0):
        x0, y0, x1, y1 = generator.integers(0, size, 4).tolist()
        cv2.line(truth, (x0, y0), (x1, y1), 255, int(generator.integers(1, 8)))
    wrong = field + noise(30, 0.03) + noise(300, 0.01)
    return np.rint(255 / (1 + np.exp(-80 * wrong))).astype(np.uint8), truth


def official_hce(prediction: Grey, truth: Grey) -> float:
    """HCE with gamma 5 and epsilon 2, by the calls that the published program makes."""
    cross = disk(1)
    wanted, chosen = truth > 128, prediction > 128
    right, added, lost = wanted & chosen, chosen & ~wanted, wanted & ~chosen
    skeleton = skeletonize(wanted)
    core = cv2.erode((wanted | chosen).astype(np.uint8), cross, iterations=5) > 0

    def relax(errors: NDArray[np.bool_], closed: NDArray[np.bool_]) -> NDArray[np.bool_]:
        grown = errors & core
        for _ in range(5):
            grown = (cv2.dilate(grown.astype(np.uint8), cross) > 0) & ~closed
        return grown & errors

    added = relax(added, wanted)
    lost = relax(lost, chosen) | (skeleton & ~right)
    return sum(
        walk_contours(errors, cv2.dilate(beside.astype(np.uint8), cross))
        for errors, beside in ((added, right | lost), (lost, ~(right | added | lost)))
    )


def walk_contours(errors: NDArray[np.bool_], beside: Grey) -> float:
    """Polygon points and untouched regions, a pixel at a time."""
    contours, _ = cv2.findContours(errors.astype(np.uint8), cv2.RETR_TREE, cv2.CHAIN_APPROX_NONE)
    labels = label(errors)
    alone = np.ones(labels.max() + 1)
    alone[0] = 0
    visited = np.zeros(errors.shape)
    points = 0
    for contour in contours:
        runs: list[list[list[int]]] = [[]]
        for index in range(len(contour)):
            x, y = contour[index, 0, 0], contour[index, 0, 1]
            if beside[y, x] == 0 or visited[y, x] != 0:
                runs.append([])
                continue
            runs[-1].append([x, y])
            visited[y, x] = 1
            alone[labels[y, x]] = 0
        runs = [run for run in runs if run]
        if len(runs) > 1:
            gap = np.abs(np.subtract(runs[0][0], runs[-1][-1])).max()
            if gap == 1:
                runs[-1].extend(runs.pop(0)[::-1])
        points += sum(len(cv2.approxPolyDP(np.array(run)[:, None], 2.0, False)) for run in runs)
    return points + alone.sum()


def pysodmetrics(prediction: Grey, truth: Grey) -> dict[str, float]:
    """S, E, F, weighted F and MAE of PySODMetrics."""
    meters: dict[str, Any] = {
        name: getattr(py_sod_metrics, name)()
        for name in ("Smeasure", "Emeasure", "Fmeasure", "WeightedFmeasure", "MAE")
    }
    for meter in meters.values():
        meter.step(prediction, truth)
    found = {name: meter.get_results() for name, meter in meters.items()}
    return {
        "s_measure": found["Smeasure"]["sm"],
        "e_measure_mean": found["Emeasure"]["em"]["curve"].mean(),
        "f_measure_max": found["Fmeasure"]["fm"]["curve"].max(),
        "weighted_f_measure": found["WeightedFmeasure"]["wfm"],
        "mae": found["MAE"]["mae"],
    }


def timed(work: Callable[[], Any], repeat: int) -> tuple[float, Any]:
    """The least CPU seconds of several runs, and what the last gave."""
    best, result = float("inf"), None
    for _ in range(repeat):
        start = time.process_time()
        result = work()
        best = min(best, time.process_time() - start)
    return best, result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--size", type=int, default=2048, help="side of the pictures in pixels")
    parser.add_argument("--repeat", type=int, default=3, help="runs, of which the best counts")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    warnings.simplefilter("ignore")  # PySODMetrics announces the end of a class it still needs
    print(f"CPU seconds of one pair of {options.size} x {options.size}, one thread")
    heads = ("pair", "birefnet", "PySODMetrics S E F wF MAE", "official HCE", "ratio")
    print("| " + " | ".join([*heads, "birefnet with matting"]) + " |")
    print("| ---" + " | ---:" * len(heads) + " |")
    for is_detailed in (False, True):
        prediction, truth = make_pair(options.size, is_detailed=is_detailed)
        pair = (prediction, truth)
        segmentation = partial(evaluate_pair, *pair, metrics="segmentation")
        ours, values = timed(segmentation, options.repeat)
        everything, _ = timed(partial(evaluate_pair, *pair), options.repeat)
        sod, theirs = timed(partial(pysodmetrics, *pair), options.repeat)
        walk, clicks = timed(partial(official_hce, *pair), options.repeat)
        theirs["hce"] = clicks
        for name in SHARED:
            assert abs(values[name] - theirs[name]) <= 1e-6, (name, values[name], theirs[name])
        name = "detailed" if is_detailed else "smooth"
        numbers = f"{ours:.2f} | {sod:.2f} | {walk:.2f} | {(sod + walk) / ours:.1f}"
        print(f"| {name} | {numbers} | {everything:.2f} |")
    print("Numbers that both sides give were equal: " + ", ".join(SHARED))


if __name__ == "__main__":
    main()
