"""Memory and time of very large pictures, from the file to the cut-out.

python benchmarks/large.py [--megapixels 100] [--model nano] [--engine auto] [--kind cutout]

A synthetic picture (a disc with spokes of all widths before a gradient) is written as JPEG; then,
in a process of its own for one pass and for two, read, predicted, and encoded as PNG. For each step
the peak of resident memory above what the process held once its weights were loaded.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MEGA = 10**6
LIMIT = 2 * 2**30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megapixels", type=float, default=100)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--kind", default="cutout")
    parser.add_argument("--passes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.measure:
        print(json.dumps(measure(asked.measure, asked)))
        return
    side = round((asked.megapixels * MEGA) ** 0.5)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.jpg"
        draw(path, side)
        print(f"{side} x {side} pixels, {asked.model}\n")
        print("| passes | step | seconds | peak above the weights [GB] |\n|---|---|--:|--:|")
        fits = True
        for passes in asked.passes:
            command = [sys.executable, __file__, "--measure", str(path), "--passes", str(passes)]
            options = ["--model", asked.model, "--engine", asked.engine, "--kind", asked.kind]
            done = subprocess.run([*command, *options], capture_output=True, text=True, check=True)
            for step, seconds, peak in json.loads(done.stdout.splitlines()[-1]):
                fits &= peak <= LIMIT
                print(f"| {passes} | {step} | {seconds:.1f} | {peak / 2**30:.2f} |")
    print("\nwithin 2 GB" if fits else "\nmore than 2 GB")


def draw(path: Path, side: int) -> None:
    """Write the picture, a strip of rows at a time: this process need not be small, but it is."""
    import cv2
    import numpy as np

    pixels = np.empty((side, side, 3), np.uint8)
    ramp = np.linspace(30, 110, side).astype(np.uint8)
    pixels[...] = ramp[:, None, None]
    centre, colour = (side // 2, side // 2), (190, 220, 235)
    cv2.circle(pixels, centre, side // 8, colour, -1, cv2.LINE_AA)
    for number, angle in enumerate(np.linspace(0, 2 * np.pi, 8, endpoint=False)):
        end = centre[0] + 0.25 * side * np.array([np.cos(angle), np.sin(angle)])
        width = max(1, round(side * (0.0003 + 0.0006 * number)))
        cv2.line(pixels, centre, (int(end[0]), int(end[1])), colour, width, cv2.LINE_AA)
    cv2.imwrite(str(path), pixels, [cv2.IMWRITE_JPEG_QUALITY, 90])


def measure(path: Path, asked: argparse.Namespace) -> list[tuple[str, float, int]]:
    """Step, seconds and peak above the start [bytes]."""
    import numpy as np

    import birefnet
    from birefnet.imaging.io import decode

    predictor = birefnet.load(asked.model, engine=asked.engine)
    predictor.predict(np.zeros((64, 64, 3), np.uint8)).encode()
    start = resident("VmRSS")
    steps: list[tuple[str, float, int]] = []

    def step(name: str, work):  # type: ignore[no-untyped-def]
        forget_peak()
        before = time.perf_counter()
        result = work()
        steps.append((name, time.perf_counter() - before, resident("VmHWM") - start))
        return result

    picture = step("decode", lambda: decode(path, limits=predictor.limits))
    passes = asked.passes[0]
    matte = step("predict", lambda: predictor.predict_guided(picture, passes=passes))
    step("encode", lambda: matte.encode("png", asked.kind))
    return steps


def resident(name: str) -> int:
    """Bytes: `VmRSS` now, `VmHWM` at the peak (Linux)."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    raise SystemExit("this system does not tell a process's peak of memory")


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


if __name__ == "__main__":
    main()
