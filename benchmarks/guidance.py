"""Guidance and the second pass on composites with exact alpha.

python benchmarks/guidance.py CUTOUTS BACKGROUNDS [--model nano] [--pairs 40] [--large 8]

Two cut-outs beside each other on a photograph: which one a box, points or a coarse mask choose, as
IoU beside that of the same cut-out alone. One cut-out on a photograph of 4 megapixels: boundary
scores of one pass and of two. CUTOUTS (RGBA) and BACKGROUNDS are folders; of the cut-outs a tenth
is used, chosen by a hash of the name: those that the training of `nano` leaves out, or with
`--held-out train` those that `birefnet train` does.

A network with a guidance channel is also asked for its matte of the whole picture, which nothing
but the channel tells what is meant.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

import birefnet
from birefnet.engines.base import takes_guidance
from birefnet.evaluation import evaluate_pair
from birefnet.guidance import Guidance, Guide, Point, refine_detail
from birefnet.imaging.box import Box
from birefnet.imaging.picture import Picture
from birefnet.training.data.sources import hold_out, open_source
from birefnet.training.store import is_held_out

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
    side = min(predictor.preprocess.width, predictor.preprocess.height)
    draw = np.random.default_rng(0)
    cutouts = [path for path in sorted(asked.cutouts.iterdir()) if is_held_out(path.name)]
    if asked.held_out == "train":
        kept = hold_out(open_source(str(asked.cutouts)), 0.1)[1]
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

    table = []
    for _ in range(asked.large):
        canvas = ground(2400, 1680)
        truth = put(canvas, read(cutouts[draw.integers(len(cutouts))]), 240, 1920)
        large = picture(canvas, draw)
        start = time.perf_counter()
        first = predict(large)
        middle_time = time.perf_counter()
        second = refine_detail(predict, large, first, side=side)
        times = middle_time - start, time.perf_counter() - middle_time
        truth8 = np.round(truth * 255).astype(np.uint8)
        scores = [
            evaluate_pair(np.round(alpha * 255).astype(np.uint8), truth8, metrics=SCORES)
            for alpha in (first, second)
        ]
        table.append((times, scores))
    if table:
        print(f"\n{len(table)} pictures of 2400 x 1680\n")
        print("| passes | " + " | ".join(SCORES) + " | s |\n|---|" + "--:|" * (len(SCORES) + 1))
        for index in range(2):
            means = [np.mean([float(s[index][name]) for _, s in table]) for name in SCORES]
            seconds = np.mean([sum(times[: index + 1]) for times, _ in table])
            figures = " | ".join(f"{mean:.4g}" for mean in means)
            print(f"| {index + 1} | {figures} | {seconds:.2f} |")


if __name__ == "__main__":
    main()
