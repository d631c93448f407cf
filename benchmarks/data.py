"""How many training pictures a second one worker prepares.

    PYTHONPATH=src python benchmarks/data.py [--size 1024] [--pictures 24]

Pictures are made up here: JPEG photos of 1600 x 1200 with PNG truth, RGBA cut-outs and
backgrounds, in a temporary folder. Each line is the best of `--repeat` passes over `--pictures`
samples in this process, on one thread, which is what a worker of a `DataLoader` does.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import cv2
import numpy as np
from PIL import Image

from birefnet.training.data.dataset import TrainingDataset, build_dataset
from birefnet.training.data.findings import check
from birefnet.training.data.settings import AugmentSettings, DataSettings

LIGHT = AugmentSettings(flip=0.5)
FULL = AugmentSettings(
    crop=0.5, scale=0.3, rotate=0.5, colour=0.8, blur=0.2, noise=0.3, jpeg=0.3, pepper=0.3
)


def make_data(root: Path, count: int) -> None:
    """Photos, cut-outs and backgrounds with the detail of photographs."""
    rng = np.random.default_rng(0)
    for i in range(count):
        coarse = rng.integers(0, 255, (60, 80, 3), dtype=np.uint8)
        rgb = cv2.resize(coarse, (1600, 1200), interpolation=cv2.INTER_CUBIC)
        rgb = cv2.add(rgb, rng.normal(0, 6, rgb.shape), dtype=cv2.CV_8U)
        truth = np.zeros((1200, 1600), np.uint8)
        for _ in range(20):
            x, y = rng.integers(300, 1300), rng.integers(250, 950)
            cv2.circle(truth, (int(x), int(y)), int(rng.integers(20, 200)), 255, -1, cv2.LINE_AA)
        for folder, pixels, name in (
            ("photos/im", rgb, f"{i}.jpg"),
            ("photos/gt", truth, f"{i}.png"),
            ("cutouts", np.dstack([rgb, truth])[200:1000, 300:1300], f"{i}.png"),
            ("backgrounds", rgb[:, ::-1], f"{i}.jpg"),
        ):
            path = root / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.ascontiguousarray(pixels)).save(path, quality=90)


def best_rate(work: Callable[[], object], pictures: int, repeat: int) -> float:
    """Pictures per second of the quickest run."""
    quickest = float("inf")
    for _ in range(repeat):
        start = time.perf_counter()
        work()
        quickest = min(quickest, time.perf_counter() - start)
    return pictures / quickest


def prepare(data: TrainingDataset, size: tuple[int, int], count: int) -> None:
    """A worker's part."""
    for number in range(count):
        data.batch(size, [number])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--pictures", type=int, default=24)
    parser.add_argument("--repeat", type=int, default=2)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    count = options.pictures
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_data(root, min(count, 12))
        photos, cutouts = str(root / "photos"), str(root / "cutouts")
        base = DataSettings(
            sources=(photos,), width=options.size, height=options.size, longest=1600
        )
        composed = replace(base, sources=(cutouts,), backgrounds=(str(root / "backgrounds"),))
        print(f"{options.size} x {options.size}, one thread")
        print(f"{'':34}{'pictures/s':>12}")
        for name, settings in (
            ("photos, flip", replace(base, augment=LIGHT)),
            ("photos, flip, cached", replace(base, augment=LIGHT, cache="2G")),
            ("photos, everything, cached", replace(base, augment=FULL, cache="2G")),
            ("composites, everything", replace(composed, augment=FULL)),
            ("composites, everything, cached", replace(composed, augment=FULL, cache="2G")),
        ):
            data = build_dataset(settings, seed=1)
            size = data.size_at(0)
            prepare(data, size, count)  # fills the cache
            rate = best_rate(partial(prepare, data, size, count), count, options.repeat)
            print(f"{name:34}{rate:12.1f}")
        pictures = min(count, 12)
        rate = best_rate(lambda: check([photos]), pictures, options.repeat)
        print(f"birefnet data check, 1600 x 1200 JPEG with PNG truth: {rate:.1f} pictures/s")


if __name__ == "__main__":
    main()
