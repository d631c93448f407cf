"""What happens around the network: a warm loop, and a folder of pictures, with the bundled model.

    PYTHONPATH=src python benchmarks/around.py [--pictures 60] [--rounds 15]

Prints how much longer `Predictor.predict` takes than the runs of the engine in it, for one decoded
picture of 1024 x 1024, and how much longer `birefnet remove` of a folder takes than the networks of
all its pictures, with what each stage took (`--profile`).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

import birefnet

ROOT = Path(__file__).resolve().parents[1]


def example(side: int) -> np.ndarray:
    """An example picture, BGR, at this size."""
    picture = cv2.imread(str(ROOT / "examples" / "coffee.jpg"))
    return np.asarray(cv2.resize(picture, (side, side), interpolation=cv2.INTER_CUBIC))


def warm_loop(rounds: int) -> None:
    """The median of what one picture costs beyond the runs of its network."""
    predictor = birefnet.load(device="cpu")
    picture = example(1024)[..., ::-1].copy()
    spent = 0.0
    run = predictor.engine.infer

    def timed(batch: np.ndarray) -> np.ndarray:
        nonlocal spent
        start = time.perf_counter()
        logits = run(batch)
        spent += time.perf_counter() - start
        return logits

    predictor.engine.infer = timed  # type: ignore[method-assign]
    whole, network = [], []
    for _ in range(rounds + 2):
        spent, start = 0.0, time.perf_counter()
        predictor.predict(picture)
        whole.append(time.perf_counter() - start)
        network.append(spent)
    beyond = [1000 * (a - b) for a, b in zip(whole[2:], network[2:], strict=True)]
    print(
        f"warm loop, 1024 x 1024: {1000 * statistics.median(whole[2:]):.1f} ms, network "
        f"{1000 * statistics.median(network[2:]):.1f} ms, around it "
        f"{statistics.median(beyond):.1f} ms"
    )


def folder(pictures: int) -> None:
    """`birefnet remove --profile` of a folder, in a process of its own."""
    with tempfile.TemporaryDirectory() as place:
        source = Path(place) / "in"
        source.mkdir()
        for i in range(pictures):
            cv2.imwrite(str(source / f"{i:03}.jpg"), example(1000 + i))
        command = ["remove", str(source), "-o", str(Path(place) / "out"), "--device", "cpu"]
        done = subprocess.run(
            [sys.executable, "-m", "birefnet", *command, "--profile", "--json"],
            env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
            capture_output=True,
            text=True,
            check=True,
        )
    profile = json.loads(done.stdout)["profile"]
    stages = {name: spent["seconds"] for name, spent in profile["stages"].items()}
    elapsed = profile["elapsed"] - stages["load"]
    print(
        f"{pictures} pictures of 1 megapixel: {elapsed:.2f} s without loading, network "
        f"{stages['network']:.2f} s, ratio {elapsed / stages['network']:.2f}"
    )
    print(", ".join(f"{name} {seconds:.2f} s" for name, seconds in stages.items()))


def main() -> None:
    """Parse the command and print both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pictures", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    warm_loop(options.rounds)
    folder(options.pictures)


if __name__ == "__main__":
    main()
