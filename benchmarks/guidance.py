"""Guidance and the second pass on composites with exact alpha.

python benchmarks/guidance.py CUTOUTS BACKGROUNDS [--model nano] [--pairs 40] [--large 8]

Two cut-outs beside each other on a photograph: which one a box, points or a coarse mask choose, as
IoU beside that of the same cut-out alone. One cut-out, and drawn things with thin parts, on
photographs of 4 megapixels: boundary scores of one pass and of two; how the time follows the edge;
and whether the borders of tiles show. Seconds are those of the processor,
with one thread (OMP_NUM_THREADS=1) also those of the clock.

CUTOUTS (RGBA) and BACKGROUNDS are folders; of the cut-outs a tenth is used, chosen by a hash of the
name: those that the training of `nano` leaves out, or with `--held-out train` those that
`birefnet train` does.

A network with a guidance channel is also asked for its matte of the whole picture, which nothing
but the channel tells what is meant.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import cv2
import numpy as np
from held_out import is_held_out
from matting import fur, noise
from numpy.typing import NDArray

import birefnet
from birefnet.evaluation import evaluate_pair
from birefnet.imaging.box import Box, Tiles
from birefnet.imaging.picture import Picture
from birefnet.inference.engines.base import takes_guidance
from birefnet.inference.guidance import Guidance, Guide, Point, refine_detail
from birefnet.inference.guidance.detail import OVERLAP
from birefnet.training.data.opening import open_source
from birefnet.training.data.sources import split_for_validation

SCORES = ("iou", "matte_mae", "boundary_iou_mean", "mean_boundary_accuracy", "hce")


def read(path: Path) -> NDArray[np.uint8]:
    """RGB or RGBA."""
    pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    order = cv2.COLOR_BGRA2RGBA if pixels.shape[2] == 4 else cv2.COLOR_BGR2RGB
    return np.asarray(cv2.cvtColor(pixels, order))


def put(canvas: NDArray, cutout: NDArray, left: int, width: int) -> NDArray[np.float32]:
    """Set a cut-out into columns of the canvas, as large as it fits; its alpha on the canvas."""
    height = canvas.shape[0]
    scale = min(width / cutout.shape[1], 0.8 * height / cutout.shape[0])
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    scaled = cv2.resize(cutout, None, fx=scale, fy=scale, interpolation=how)[:height, :width]
    alpha = scaled[..., 3].astype(np.float32) / 255
    if scale > 1:  # as sharp as a photograph's edge
        alpha = np.clip((alpha - 0.5) * scale + 0.5, 0, 1)
    top, left = (height - len(scaled)) // 2, left + (width - scaled.shape[1]) // 2
    place = slice(top, top + len(scaled)), slice(left, left + scaled.shape[1])
    canvas[place] += alpha[..., None] * (scaled[..., :3] - canvas[place])
    truth = np.zeros(canvas.shape[:2], np.float32)
    truth[place] = alpha
    return truth


def picture(canvas: NDArray, draw: np.random.Generator) -> Picture:
    """With a little noise."""
    noisy = canvas + draw.normal(0, 3, canvas.shape)
    return Picture(pixels=np.clip(noisy, 0, 255).astype(np.uint8))


def overlap(alpha: NDArray, truth: NDArray) -> float:
    a, b = alpha >= 0.5, truth >= 0.5
    return float((a & b).sum() / max(1, (a | b).sum()))


def middle(alpha: NDArray) -> tuple[int, int]:
    """Row and column of the pixel that is farthest from the edge."""
    solid = np.pad((alpha > 0.9).astype(np.uint8), 1)
    distance = cv2.distanceTransform(solid, cv2.DIST_L2, 5)
    row, column = np.unravel_index(distance.argmax(), distance.shape)
    return max(0, int(row) - 1), max(0, int(column) - 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cutouts", type=Path)
    parser.add_argument("backgrounds", type=Path)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--large", type=int, default=8)
    parser.add_argument("--held-out", choices=("nano", "train"), default="nano")
    asked = parser.parse_args()
    predictor = birefnet.load(asked.model)
    side = min(predictor.plan(Picture(pixels=np.zeros((9, 9, 3), np.uint8))).input)
    draw = np.random.default_rng(0)
    cutouts = [path for path in sorted(asked.cutouts.iterdir()) if is_held_out(path.name)]
    if asked.held_out == "train":
        kept = split_for_validation(open_source(str(asked.cutouts)), 0.1)[1]
        names = {Path(kept.name_of(i)).stem for i in range(len(kept))}
        cutouts = [path for path in sorted(asked.cutouts.iterdir()) if path.stem in names]
    grounds = sorted(asked.backgrounds.iterdir())

    def predict(part: Picture) -> NDArray[np.float32]:
        return predictor.predict(part).alpha

    def guided(part: Picture, **meant) -> NDArray[np.float32]:  # type: ignore[no-untyped-def]
        return predictor.predict_guided(part, Guidance(**meant)).alpha

    def channel_alone(part: Picture, guide: Guide) -> NDArray[np.float32]:
        prepared = predictor.prepare(part)
        seen = np.concatenate([prepared.input, guide.draw(prepared.geometry)[None]])
        return prepared.restore(predictor.engine.infer(seen[None])[0, 0]).alpha

    def ground(width: int, height: int) -> NDArray[np.float32]:
        pixels = read(grounds[draw.integers(len(grounds))])[..., :3]
        return cv2.resize(pixels, (width, height)).astype(np.float32)

    rows = []
    for _ in range(asked.pairs):
        one, other = (read(cutouts[i]) for i in draw.choice(len(cutouts), 2, replace=False))
        canvas = ground(720, 480)
        truth = put(canvas, one, 20, 320)
        alone = picture(canvas, draw)
        distractor = put(canvas, other, 380, 320)
        both = picture(canvas, draw)
        (row, column), (other_row, other_column) = middle(truth), middle(distractor)
        box = Box.around(truth)
        assert box is not None
        coarse = cv2.blur(cv2.dilate(truth, np.ones((15, 15))), (21, 21))
        on, off = Point(column, row), Point(other_column, other_row, False)
        mattes = {
            "alone": predict(alone),
            "both, unguided": predict(both),
            "box": guided(both, boxes=((box.left, box.top, box.right, box.bottom),)),
            "point": guided(both, points=(on,)),
            "points on and off": guided(both, points=(on, off)),
            "coarse mask": guided(both, mask=coarse),
        }
        if takes_guidance(predictor.engine):
            marks = ((row, column, True), (other_row, other_column, False))
            mattes |= {
                "channel alone: box": channel_alone(both, Guide(boxes=(box,))),
                "channel alone: point": channel_alone(both, Guide(marks=marks[:1])),
                "channel alone: points on and off": channel_alone(both, Guide(marks=marks)),
                "channel alone: coarse mask": channel_alone(both, Guide(mask=coarse)),
            }
        rows.append({name: overlap(alpha, truth) for name, alpha in mattes.items()})
    if rows:
        print(f"IoU, mean of {len(rows)} pairs\n")
        print("| | IoU | of the single-object score |\n|---|--:|--:|")
        single = np.mean([row["alone"] for row in rows])
        for name in rows[0]:
            mean = np.mean([row[name] for row in rows])
            print(f"| {name} | {mean:.3f} | {mean / single:.2f} |")

    if not asked.large:
        return
    print(f"\n{asked.large} pictures each of 4 megapixels\n")
    names = " | ".join(SCORES)
    print(f"| subject | passes | {names} | s | seam |\n|---|" + "--:|" * (len(SCORES) + 3))
    for kind in ("cut-outs", "fur", "wheels"):
        table = []
        for _ in range(asked.large):
            if kind == "cut-outs":
                canvas = ground(2400, 1680)
                truth = put(canvas, read(cutouts[draw.integers(len(cutouts))]), 240, 1920)
            else:
                canvas = ground(2000, 2000)
                truth = (fur if kind == "fur" else wheel)(2000, draw)
                paint(canvas, truth, draw)
            large = picture(canvas, draw)
            start = time.process_time()
            first = predict(large)
            halfway = time.process_time()
            second = refine_detail(predict, large, first, side=side)
            times = halfway - start, time.process_time() - halfway
            truth8 = np.round(truth * 255).astype(np.uint8)
            rows_of = [
                evaluate_pair(np.round(alpha * 255).astype(np.uint8), truth8, metrics=SCORES)
                for alpha in (first, second)
            ]
            table.append((times, rows_of, seam(second, side)))
        for index in range(2):
            means = [np.mean([float(s[index][name]) for _, s, _ in table]) for name in SCORES]
            seconds = np.mean([sum(times[: index + 1]) for times, _, _ in table])
            figures = " | ".join(f"{mean:.4g}" for mean in means)
            shown = f"{np.mean([s for _, _, s in table]):.2f}" if index else ""
            print(f"| {kind} | {index + 1} | {figures} | {seconds:.2f} | {shown} |", flush=True)

    print("\nOne disc in 16 megapixels\n\n| undecided or edge | views | s |\n|--:|--:|--:|")
    for radius in (100, 200, 400, 800, 1600):
        canvas = ground(4000, 4000)
        truth = np.zeros((4000, 4000), np.float32)
        cv2.circle(truth, (2000, 2000), radius, 1, -1, cv2.LINE_AA)
        paint(canvas, truth, draw)
        large, soft = picture(canvas, draw), cv2.GaussianBlur(truth, (0, 0), 8)
        views = 0

        def counted(part: Picture) -> NDArray[np.float32]:
            nonlocal views
            views += 1
            return predict(part)

        start = time.process_time()
        refine_detail(counted, large, soft, side=side)
        share = ((soft > 0.04) & (soft < 0.96)).mean()
        print(f"| {share:.2%} | {views} | {time.process_time() - start:.2f} |", flush=True)


def wheel(size: int, draw: np.random.Generator) -> NDArray[np.float32]:
    """A rim, a hub and thin spokes."""
    canvas = np.zeros((size, size), np.uint8)
    middle, radius = size // 2, int(size * draw.uniform(0.3, 0.4))
    cv2.circle(canvas, (middle, middle), radius, 255, size // 45, cv2.LINE_AA)
    cv2.circle(canvas, (middle, middle), radius // 7, 255, -1, cv2.LINE_AA)
    thick = 1 + int(draw.uniform(0.0025, 0.0075) * size)
    for angle in np.linspace(0, 2 * np.pi, int(draw.integers(10, 22)), endpoint=False):
        end = int(middle + radius * np.cos(angle)), int(middle + radius * np.sin(angle))
        cv2.line(canvas, (middle, middle), end, 255, thick, cv2.LINE_AA)
    return canvas.astype(np.float32) / 255


def paint(canvas: NDArray, alpha: NDArray[np.float32], draw: np.random.Generator) -> None:
    """A thing of this alpha, in one uneven colour, over a square canvas, in place."""
    size = len(alpha)
    uneven = 12 * noise(size, size // 70, draw) + 20 * noise(size, size // 7, draw)
    colours = np.clip(draw.uniform(10, 245, 3) + uneven[..., None], 0, 255)
    canvas += alpha[..., None] * (colours - canvas)


def seam(alpha: NDArray[np.float32], side: int) -> float:
    """Mean step across the borders of the last level's tiles, over that of the columns around."""
    height, width = alpha.shape
    tiles = Tiles.plan(height, width, side, round(OVERLAP * side))
    steps = np.abs(np.diff(alpha, axis=1)).mean(axis=0)
    borders = {x for left in tiles.lefts for x in (left - 1, left + tiles.tile[1] - 1)}
    inside = [x for x in borders if 16 <= x < width - 17]
    around = np.mean([steps[x - 16 : x + 17].mean() for x in inside])
    return float(np.mean([steps[x] for x in inside]) / max(1e-9, around))


if __name__ == "__main__":
    main()
