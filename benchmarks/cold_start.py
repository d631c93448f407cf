"""How long a first cut-out takes, process start included: `birefnet remove` of one picture.

    python benchmarks/cold_start.py [--rounds 5] [--megapixels 1] [--model nano] [--cores 2]

Prints the median and the best of several fresh processes, what they spend it on (imports of torch
and the rest, weights, network, refining and writing), and `birefnet --help`. Bound of the project:
6 s for 1 megapixel with `nano` on 2 cores. Measure on a quiet machine: the processor's time, which
is printed too, counts what all threads did and suffers less from neighbours.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

SOURCE = Path(__file__).resolve().parents[1] / "src"
EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "coffee.jpg"

STEPS = """
import sys, time
start = time.perf_counter()
def lap(what):
    global start
    now = time.perf_counter()
    print(f"  {what:<28}{now - start:6.2f} s")
    start = now
import birefnet.cli.main, birefnet.cli.removal; lap("import numpy, OpenCV, Pillow")
import torch; lap("import torch")
from birefnet.api import load
predictor = load(sys.argv[2], device="cpu"); lap("load the model")
matte = predictor.predict(sys.argv[1]); lap("decode and run the network")
matte.foreground(); lap("refine the foreground")
matte.encode("png"); lap("encode")
unwanted = sorted({"torch._dynamo", "torch._inductor", "sympy", "numba"} & set(sys.modules))
print(f"  imported without need: {', '.join(unwanted) or 'nothing'}")
"""


def main() -> None:
    """Parse the command line and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--megapixels", type=float, default=1.0)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--cores", type=int, default=2)
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.cores])

    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "picture.jpg"
        height, width = write_picture(picture, options.megapixels)
        remove = ["remove", str(picture), "-o", str(Path(folder) / "out.png"), "--device", "cpu"]
        print(f"birefnet remove, {width}x{height}, {options.model}, {options.cores} cores")
        report(["-m", "birefnet", *remove, "--model", options.model], options.rounds)
        print("birefnet --help")
        report(["-m", "birefnet", "--help"], options.rounds)
        print("one process, step by step")
        print(python(["-c", STEPS, str(picture), options.model]), end="")


def write_picture(path: Path, megapixels: float) -> tuple[int, int]:
    """An example enlarged to this size; gives its height and width."""
    example = cv2.imread(str(EXAMPLE))
    scale = (megapixels * 1e6 / (example.shape[0] * example.shape[1])) ** 0.5
    enlarged = cv2.resize(example, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    cv2.imwrite(str(path), np.asarray(enlarged))
    return enlarged.shape[:2]


def report(arguments: list[str], rounds: int) -> None:
    """Time fresh interpreters; the first, which fills the disk cache, does not count."""
    python(arguments)
    wall, processor = [], []
    for _ in range(rounds):
        start, used = time.perf_counter(), children_seconds()
        python(arguments)
        wall.append(time.perf_counter() - start)
        processor.append(children_seconds() - used)
    print(
        f"  wall clock median {statistics.median(wall):.2f} s, best {min(wall):.2f} s; "
        f"processor median {statistics.median(processor):.2f} s"
    )


def python(arguments: list[str]) -> str:
    """Standard output of a fresh interpreter with this package."""
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    done = subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(done.stderr)
    return done.stdout


def children_seconds() -> float:
    """Processor time of the children that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
