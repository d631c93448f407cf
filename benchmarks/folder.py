"""A folder of many small files: throughput against the network alone, and memory.

python benchmarks/folder.py --pictures 10000

The folder is made of links to a few pictures, so that it takes no space; each is decoded, cut out,
encoded and written. The network alone runs the same engine on one prepared input, in this process,
before and after: one by one, as a loop of single predictions does, and side by side, as folders are
done.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

DIFFERENT = 50


def make_folder(folder: Path, pictures: int, side: int) -> None:
    """Noise over a gradient with a disc: JPEG files of about `side` pixels, 1,000 to a folder."""
    draw = np.random.default_rng(0)
    originals = folder.parent / "originals"
    originals.mkdir()
    y, x = np.mgrid[:side, :side]
    for index in range(DIFFERENT):
        picture = np.stack([x, y, x + y], axis=2) * (120 / side) + draw.normal(
            60, 12, (side, side, 3)
        )
        inside = (x - side / 2) ** 2 + (y - side / 2) ** 2 < (
            side * (0.2 + 0.2 * draw.random())
        ) ** 2
        picture[inside] = draw.integers(0, 256, 3)
        cv2.imwrite(str(originals / f"{index}.jpg"), np.clip(picture, 0, 255).astype(np.uint8))
    for index in range(pictures):
        here = folder / f"{index // 1000:03}"
        here.mkdir(parents=True, exist_ok=True)
        os.link(originals / f"{index % DIFFERENT}.jpg", here / f"{index:06}.jpg")


def network_alone(asked: argparse.Namespace, *, many: bool) -> float:
    """Pictures a second of `infer` on a prepared input: one by one, or side by side."""
    import birefnet
    from birefnet.inference.engines.base import concurrent
    from birefnet.inference.stream import infer

    predictor = birefnet.load(asked.model, engine=asked.engine)
    noise = np.random.default_rng(0).integers(0, 256, (asked.side, asked.side, 3), np.uint8)
    prepared = predictor.prepare(noise, asked.resolution)
    batch, views = prepared.input[None], prepared.views
    found, concurrency = (
        concurrent(predictor.engine, batch[0, 0].size) if many else (predictor.engine, 1)
    )
    counts = [0] * concurrency

    def call(caller: int) -> None:
        while time.perf_counter() < end:
            infer(found, batch, views)
            counts[caller] += 1

    end = time.perf_counter() + 1  # warm-up
    _together(call, concurrency)
    counts[:] = [0] * concurrency
    start = time.perf_counter()
    end = start + asked.seconds
    _together(call, concurrency)
    return sum(counts) / (time.perf_counter() - start)


def _together(call: Callable[[int], None], concurrency: int) -> None:
    threads = [threading.Thread(target=call, args=(caller,)) for caller in range(concurrency)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def whole_folder(folder: Path, out: Path, asked: argparse.Namespace) -> tuple[float, list[int]]:
    """Seconds of `birefnet remove`, and its resident memory [kB] at each tenth of the way."""
    command = [sys.executable, "-m", "birefnet", "remove", str(folder), "-o", str(out)]
    command += ["-m", asked.model, "--engine", asked.engine]
    if asked.resolution:
        command += ["--resolution", str(asked.resolution)]
    process = subprocess.Popen(command)
    total = sum(len(files) for _, _, files in os.walk(folder))
    memory: list[int] = []
    first: float | None = None
    while process.poll() is None:
        time.sleep(0.05)
        manifest = out / "manifest.jsonl"
        done = manifest.read_bytes().count(b"\n") if manifest.exists() else 0
        if done and first is None:
            first = time.perf_counter()
        if done * 10 >= total * (len(memory) + 1):
            status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
            memory += [int(x.split()[1]) for x in status.splitlines() if x.startswith("VmRSS")]
    assert process.returncode == 0
    assert first is not None
    return time.perf_counter() - first, memory


def _both(asked: argparse.Namespace) -> list[float]:
    return [network_alone(asked, many=many) for many in (False, True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=10_000)
    parser.add_argument("--side", type=int, default=160, help="of each picture [px]")
    parser.add_argument("--model", default="nano")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--resolution", type=int, help="of the network; default: the weights' own")
    parser.add_argument("--seconds", type=float, default=10, help="of each network alone")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "in"
        make_folder(folder, asked.pictures, asked.side)
        before = _both(asked)
        seconds, memory = whole_folder(folder, Path(place) / "out", asked)
        after = _both(asked)
    speed = asked.pictures / seconds
    print(f"birefnet remove          {speed:8.2f} pictures/s")
    for name, one, two in zip(("one by one", "side by side"), before, after, strict=True):
        alone = (one + two) / 2
        print(
            f"network, {name:12}    {alone:8.2f} pictures/s  ({one:.2f} before, {two:.2f} after): "
            f"{speed / alone:.0%}"
        )
    print("memory [MB] at each tenth: " + " ".join(f"{kb / 1024:.0f}" for kb in memory))


if __name__ == "__main__":
    main()
