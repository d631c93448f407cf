"""Wide and tall pictures: stretched, padded or at their own size, with one network.

python benchmarks/shapes.py CUTOUTS BACKGROUNDS [--model nano] [--pictures 24]

One cut-out (of the tenth that training leaves out) on photographs of several shapes; IoU and the
mean error of alpha for each way to fit them into the network's input, with about as many pixels.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from held_out import is_held_out
from numpy.typing import NDArray

import birefnet
from birefnet import Predictor
from birefnet.imaging.geometry import Preprocess
from birefnet.imaging.picture import Picture

SHAPES = {"1:1": (640, 640), "3:2": (780, 520), "3:1": (1080, 360), "6:1": (1560, 260)}
FITS = ("stretch", "pad", "native")


def read(path: Path) -> NDArray[np.uint8]:
    pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    order = cv2.COLOR_BGRA2RGBA if pixels.shape[2] == 4 else cv2.COLOR_BGR2RGB
    return np.asarray(cv2.cvtColor(pixels, order))


def composite(
    cutout: NDArray, ground: NDArray, width: int, height: int, draw: np.random.Generator
) -> tuple[Picture, NDArray[np.float32]]:
    """The cut-out somewhere on the ground, three quarters as high or wide; its alpha."""
    side = max(width / ground.shape[1], height / ground.shape[0])
    size = (max(width, round(ground.shape[1] * side)), max(height, round(ground.shape[0] * side)))
    canvas = cv2.resize(ground, size)[:height, :width].astype(np.float32)
    scale = 0.75 * min(height / cutout.shape[0], width / cutout.shape[1])
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    layer = cv2.resize(cutout, None, fx=scale, fy=scale, interpolation=how).astype(np.float32)
    high, wide = layer.shape[:2]
    top, left = int(draw.integers(height - high + 1)), int(draw.integers(width - wide + 1))
    place = slice(top, top + high), slice(left, left + wide)
    alpha = layer[..., 3:] / 255
    canvas[place] += alpha * (layer[..., :3] - canvas[place])
    truth = np.zeros((height, width), np.float32)
    truth[place] = alpha[..., 0]
    noisy = canvas + draw.normal(0, 3, canvas.shape)
    return Picture(pixels=np.clip(noisy, 0, 255).astype(np.uint8)), truth


def fitted(preprocess: Preprocess, fit: str, height: int, width: int) -> Preprocess:
    """One view of the weights' own pixels, spread as `fit` wants; `native` keeps the shape."""
    preprocess = replace(preprocess, views=())
    if fit != "native":
        return replace(preprocess, fit=fit)
    area = preprocess.width * preprocess.height
    scale = (area / (height * width)) ** 0.5
    sides = [max(32, round(side * scale / 32) * 32) for side in (width, height)]
    return replace(preprocess, fit="stretch", width=sides[0], height=sides[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cutouts", type=Path)
    parser.add_argument("backgrounds", type=Path)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--pictures", type=int, default=24)
    asked = parser.parse_args()
    loaded = birefnet.load(asked.model)
    draw = np.random.default_rng(0)
    cutouts = [path for path in sorted(asked.cutouts.iterdir()) if is_held_out(path.name)]
    if not cutouts:
        parser.error(f"none of the files in {asked.cutouts} is of the tenth that is left out")
    grounds = sorted(asked.backgrounds.iterdir())
    print("IoU (mean error of alpha)\n")
    print(f"| width : height | {' | '.join(FITS)} |\n|---|" + "--:|" * len(FITS))
    for shape, (long, short) in SHAPES.items():
        for turned in (False, True) if long != short else (False,):
            width, height = (short, long) if turned else (long, short)
            scores: dict[str, list[tuple[float, float]]] = {fit: [] for fit in FITS}
            for _ in range(asked.pictures):
                cutout = read(cutouts[draw.integers(len(cutouts))])
                ground = read(grounds[draw.integers(len(grounds))])[..., :3]
                picture, truth = composite(cutout, ground, width, height, draw)
                for fit in FITS:
                    preprocess = fitted(loaded.preprocess, fit, height, width)
                    alpha = Predictor(loaded.engine, preprocess).predict(picture).alpha
                    a, b = alpha >= 0.5, truth >= 0.5
                    iou = float((a & b).sum() / max(1, (a | b).sum()))
                    scores[fit].append((iou, float(np.abs(alpha - truth).mean())))
            means = (np.mean(scores[fit], axis=0) for fit in FITS)
            cells = " | ".join(f"{iou:.3f} ({mae:.3f})" for iou, mae in means)
            name = ":".join(shape.split(":")[::-1]) if turned else shape
            print(f"| {name} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
