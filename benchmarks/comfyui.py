"""What ComfyUI's nodes cost around the network: `python benchmarks/comfyui.py PICTURE…`.

A batch goes through the node that removes backgrounds, and the same pictures through the network
alone; the ratio is what conversions, mattes at full size and clean edge colours add.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from birefnet.inference.stream import infer
from birefnet.integrations.comfyui.nodes import LoadModel, RemoveBackground
from birefnet.integrations.comfyui.tensors import batch, pictures_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pictures", nargs="+", type=Path)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--side", type=int, default=1024, help="of the pictures [px]")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    images = torch.from_numpy(np.stack([read(path, arguments.side) for path in arguments.pictures]))
    model, _ = LoadModel().run(arguments.model, arguments.device, "auto", arguments.engine)
    predictor = model.predictor
    prepared = [predictor.prepare(picture) for picture in pictures_of(images)]
    inputs, views = np.stack([one.input for one in prepared]), prepared[0].views
    node = RemoveBackground()

    def network() -> None:
        for index in range(0, len(inputs), predictor.engine.batch_size):
            infer(predictor.engine, inputs[index : index + predictor.engine.batch_size], views)

    steps: dict[str, Callable[[], Any]] = {
        "network alone": network,
        "node, mask": lambda: node.run(images, "mask", model=model),
        "node, cutout": lambda: node.run(images, "cutout", model=model),
        "IMAGE to pictures and back": lambda: batch(
            (picture.pixels for picture in pictures_of(images)), len(images)
        ),
    }
    best = {name: quickest(step, arguments.rounds) for name, step in steps.items()}
    print(f"{len(images)} pictures of {arguments.side}x{arguments.side}, {predictor.engine.name}")
    for name, seconds in best.items():
        each = 1000 * seconds / len(images)
        print(f"{name:<28}{each:8.1f} ms a picture {seconds / best['network alone']:6.2f}x")


def read(path: Path, side: int) -> np.ndarray:
    """A picture as LoadImage gives it, side x side x 3 in [0, 1]."""
    picture = Image.open(path).convert("RGB").resize((side, side))
    return np.asarray(picture, np.float32) / 255


def quickest(step: Callable[[], Any], rounds: int) -> float:
    """Seconds of the quickest of some runs, after one to warm up."""
    times = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return min(times[1:])


if __name__ == "__main__":
    main()
