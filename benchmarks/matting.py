"""Matting in the unknown region: gain over the initial matte, and time.

python benchmarks/matting.py CUTOUTS BACKGROUNDS [--model nano] [--size 512] [--each 6]

Composites with exact alpha over photographs: fur, thin structures, smoke and glass drawn by this
script, and cut-outs of the validation split (RGBA). Each method starts from two mattes: the ground
truth, reduced to a quarter of the resolution, and the matte of the model. SAD, MSE, Grad and Conn
as in `birefnet.evaluation.matting`, means over the pictures; lower is better. `--seconds` times the
methods on pictures of several sizes instead, `--sheet FILE` draws picture, ground truth and the
result of each method for the matte of the model.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
from held_out import is_held_out
from numpy.typing import NDArray

import birefnet
from birefnet import Predictor
from birefnet.evaluation import evaluate_pair
from birefnet.imaging.matting import METHODS, refine_alpha
from birefnet.imaging.picture import to_uint8
from birefnet.training.data.thin_structures import thin_structure

SCORES = ("sad", "matte_mse", "gradient", "connectivity")
Alpha = NDArray[np.float32]


def noise(size: int, lump: int, draw: np.random.Generator) -> Alpha:
    """Smooth noise of variance about 1 whose lumps are `lump` pixels wide."""
    coarse = draw.normal(0, 1.3, (size // lump + 3,) * 2).astype(np.float32)
    return np.asarray(cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC))


def fur(size: int, draw: np.random.Generator) -> Alpha:
    """A ball with some thousand short hairs, thinner than a pixel, mostly combed one way."""
    side, scale = 3 * size, 3 * size / 512
    canvas = np.zeros((side, side), np.uint8)
    centre, radius = np.array([side / 2, side / 2]), 0.27 * side
    cv2.circle(canvas, (side // 2, side // 2), int(radius), 255, -1)
    for angle in draw.uniform(0, 2 * np.pi, 2500):
        out = np.array([np.cos(angle), np.sin(angle)])
        start = centre + out * radius * 0.97
        end = start + (out + np.array([0.5, 0.4])) * draw.uniform(4, 26) * scale
        middle = (start + end) / 2 + draw.normal(0, 1.5, 2) * scale
        points = np.round(np.stack([start, middle, end]) * 16).astype(np.int32)
        cv2.polylines(canvas, [points], False, 255, draw.integers(1, 3), cv2.LINE_AA, 4)
    small = cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA)
    return small.astype(np.float32) / 255


def smoke(size: int, draw: np.random.Generator) -> Alpha:
    """Soft everywhere."""
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    lumps = sum(noise(size, size // n, draw) / n**0.5 for n in (3, 6, 12, 24))
    return np.clip(1.1 - 1.6 * np.hypot(x, y) + 0.3 * lumps, 0, 0.95).astype(np.float32)


def glass(size: int, draw: np.random.Generator) -> Alpha:
    """A vessel: a clear wall with an opaque rim, foot and highlights."""
    canvas = np.zeros((3 * size, 3 * size), np.float32)
    middle, side = 3 * size // 2, 3 * size
    axes = int(draw.uniform(0.2, 0.28) * side), int(draw.uniform(0.28, 0.34) * side)
    cv2.ellipse(canvas, (middle, middle), axes, 0, 0, 360, float(draw.uniform(0.2, 0.4)), -1)
    cv2.ellipse(canvas, (middle, middle), axes, 0, 0, 360, 0.9, side // 100)
    for turn in draw.uniform(0, 360, 4):
        inner = int(0.8 * axes[0]), int(0.8 * axes[1])
        cv2.ellipse(canvas, (middle, middle), inner, 0, turn, turn + 25, 0.95, side // 60)
    foot = middle + axes[1]
    cv2.rectangle(canvas, (middle - axes[0] // 2, foot), (middle + axes[0] // 2, foot + 40), 1, -1)
    return np.asarray(cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA))


DRAWN: dict[str, Callable[[int, np.random.Generator], Alpha]] = {
    "fur": fur,
    "thin structures": thin_structure,
    "smoke": smoke,
    "glass": glass,
}


def read(path: Path, size: int) -> NDArray[np.float32]:
    """RGB or RGBA in [0, 1], cut to a square of `size`; a cut-out is fitted in whole."""
    pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    order = cv2.COLOR_BGRA2RGBA if pixels.shape[2] == 4 else cv2.COLOR_BGR2RGB
    pixels = np.asarray(cv2.cvtColor(pixels, order))
    height, width = pixels.shape[:2]
    if pixels.shape[2] == 3:
        side = min(height, width)
        pixels = pixels[(height - side) // 2 :, (width - side) // 2 :][:side, :side]
        return cv2.resize(pixels, (size, size), interpolation=cv2.INTER_AREA) / np.float32(255)
    scale = 0.8 * size / max(height, width)
    small = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    canvas = np.zeros((size, size, 4), np.float32)
    top, left = (size - small.shape[0]) // 2, (size - small.shape[1]) // 2
    canvas[top : top + small.shape[0], left : left + small.shape[1]] = small / np.float32(255)
    return canvas


def pictures(
    kind: str, cutouts: list[Path], grounds: list[Path], size: int, each: int
) -> Iterator[tuple[NDArray[np.uint8], Alpha]]:
    """Composites and their alpha."""
    draw = np.random.default_rng(1)
    for _ in range(each):
        ground = read(grounds[draw.integers(len(grounds))], size)
        if kind == "cut-outs":
            cutout = read(cutouts[draw.integers(len(cutouts))], size)
            colours, alpha = cutout[..., :3], cutout[..., 3]
        else:
            alpha = DRAWN[kind](size, draw)
            colour = draw.uniform(0.05, 0.95, 3)
            shade = 0.05 * noise(size, 8, draw) + 0.08 * noise(size, 80, draw)
            colours = np.clip(colour + shade[..., None], 0, 1)
        mixed = alpha[..., None] * colours + (1 - alpha[..., None]) * ground
        mixed = mixed + draw.normal(0, 0.01, mixed.shape)
        yield to_uint8(mixed.astype(np.float32)), alpha.astype(np.float32)


def degraded(alpha: Alpha) -> Alpha:
    """What a network says that sees a quarter of the resolution and is fairly sure of itself."""
    size = alpha.shape[0]
    small = cv2.resize(alpha, (size // 4, size // 4), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), 1.0)
    sure = 1 / (1 + np.exp(-7 * (small - 0.45)))
    sure = (sure - sure.min()) / max(1e-6, float(sure.max() - sure.min()))
    return np.asarray(cv2.resize(sure.astype(np.float32), (size, size)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cutouts", type=Path)
    parser.add_argument("backgrounds", type=Path)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--each", type=int, default=6)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--seconds", action="store_true")
    parser.add_argument("--sheet", type=Path, metavar="FILE", help="draw one picture of each kind")
    asked = parser.parse_args()
    cutouts = [path for path in sorted(asked.cutouts.rglob("*.*")) if is_held_out(path.name)]
    grounds = sorted(asked.backgrounds.iterdir())
    methods = asked.methods.split(",")
    if asked.seconds:
        time_methods(methods, grounds)
        return
    predictor = birefnet.load(asked.model)
    if asked.sheet:
        draw_sheet(asked.sheet, predictor, methods, grounds, asked.size)
        return
    for start in ("degraded ground truth", asked.model):
        print(f"\nfrom {start}\n\n| kind | method | SAD | MSE | Grad | Conn | s |")
        print("|---|---|--:|--:|--:|--:|--:|")
        for kind in (*DRAWN, "cut-outs"):
            rows: dict[str, list[list[float]]] = {method: [] for method in methods}
            for pixels, truth in pictures(kind, cutouts, grounds, asked.size, asked.each):
                first = degraded(truth) if start != asked.model else predictor.predict(pixels).alpha
                for method in methods:
                    begin = time.perf_counter()
                    alpha = refine_alpha(pixels, first, method)
                    spent = time.perf_counter() - begin
                    scores = evaluate_pair(to_uint8(alpha), to_uint8(truth), metrics=SCORES)
                    rows[method].append([*(float(scores[name]) for name in SCORES), spent])
            for method, values in rows.items():
                sad, mse, grad, conn, spent = np.mean(values, axis=0)
                print(
                    f"| {kind} | {method} | {sad:.2f} | {mse:.4f} | {grad:.2f} | {conn:.2f} "
                    f"| {spent:.2f} |"
                )


def draw_sheet(
    path: Path, predictor: Predictor, methods: list[str], grounds: list[Path], size: int
) -> None:
    """A row for each drawn kind: picture, ground truth, and the results of the methods."""
    rows = []
    for kind in DRAWN:
        pixels, truth = next(pictures(kind, [], grounds, size, 1))
        first = predictor.predict(pixels).alpha
        panels = {kind: pixels, "ground truth": truth}
        panels |= {method: refine_alpha(pixels, first, method) for method in methods}
        rows.append(np.hstack([labelled(label, panel) for label, panel in panels.items()]))
    cv2.imwrite(
        str(path), cv2.cvtColor(np.vstack(rows), cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 88]
    )


def labelled(label: str, panel: NDArray, side: int = 200) -> NDArray[np.uint8]:
    """RGB or alpha, small, with its name below."""
    levels = panel if panel.dtype == np.uint8 else to_uint8(panel)
    small = cv2.resize(levels, (side, side), interpolation=cv2.INTER_AREA)
    rgb = np.dstack([small] * 3) if small.ndim == 2 else small
    canvas = np.full((side + 24, side + 8, 3), 255, np.uint8)
    canvas[:side, :side] = rgb
    cv2.putText(canvas, label, (2, side + 16), 0, 0.45, (0, 0, 0), 1, cv2.LINE_AA)
    return canvas


def time_methods(methods: list[str], grounds: list[Path]) -> None:
    """Seconds on one ball of fur at several sizes, after a first call that compiles."""
    sizes = (512, 1024, 2048, 4096)
    print("| method | " + " | ".join(f"{size}²" for size in sizes) + " |")
    print("|---|" + "--:|" * len(sizes))
    scenes = [next(pictures("fur", [], grounds, size, 1)) for size in sizes]
    for method in methods:
        times = []
        refine_alpha(scenes[0][0], degraded(scenes[0][1]), method)
        for pixels, truth in scenes:
            first = degraded(truth)
            begin = time.perf_counter()
            refine_alpha(pixels, first, method)
            times.append(f"{time.perf_counter() - begin:.2f}")
            if float(times[-1]) > 20:  # the next size would take four times as long
                break
        print(f"| {method} | " + " | ".join(times) + " |" * (1 + len(sizes) - len(times)))


if __name__ == "__main__":
    main()
