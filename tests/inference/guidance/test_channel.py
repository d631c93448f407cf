"""Networks with a guidance channel are shown what is meant; tiles go in batches and in place."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from birefnet import Predictor
from birefnet.imaging.box import Box
from birefnet.imaging.geometry import Preprocess
from birefnet.imaging.picture import Picture
from birefnet.inference.guidance import Guidance, Guide, Point, refine_detail
from birefnet.inference.guidance.channel import BOX, draw_boxes, draw_marks, draw_mask
from fakes import PLAIN, BrightEngine

STRIPES = np.full((96, 160, 3), 20, np.uint8)
STRIPES[20:76, 10:70] = 235  # two bright things that touch
STRIPES[20:76, 70:150] = 235
LEFT = np.zeros((96, 160), bool)
LEFT[20:76, 10:70] = True


class GuidedEngine(BrightEngine):
    """Sees what is bright, where the channel does not say that it is not meant."""

    takes_guidance = True

    def infer(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        logits = super().infer(batch[:, :3])
        self.channels = batch[:, 3:]
        return logits if batch.shape[1] == 3 else np.minimum(logits, 40 * batch[:, 3:] + 1)


def iou(alpha: NDArray, truth: NDArray) -> float:
    a, b = alpha >= 0.5, truth >= 0.5
    return float((a & b).sum() / (a | b).sum())


@pytest.mark.parametrize(
    "guidance",
    [Guidance(boxes=((10, 20, 70, 76),)), Guidance(mask=LEFT)],
    ids=["box", "mask"],
)
def test_the_channel_tells_what_the_picture_does_not(guidance: Guidance) -> None:
    picture = Picture(pixels=STRIPES)
    guided = Predictor(GuidedEngine(), PLAIN).predict_guided(picture, guidance)
    plain = Predictor(BrightEngine(), PLAIN).predict_guided(picture, guidance)
    assert iou(guided.alpha, LEFT) > 0.9 > iou(plain.alpha, LEFT)


def test_points_are_shown_in_every_view() -> None:
    engine = GuidedEngine()
    predictor = Predictor(engine, PLAIN)
    points = (Point(30, 40), Point(120, 50, is_object=False))
    predictor.predict_guided(Picture(pixels=STRIPES), Guidance(points=points))
    assert len(engine.batches) >= 1
    assert engine.channels.shape == (1, 1, 64, 64)
    assert engine.channels.max() > 0.9


def test_without_guidance_nothing_is_shown() -> None:
    engine = GuidedEngine()
    predictor = Predictor(engine, PLAIN)
    picture = Picture(pixels=STRIPES)
    both = predictor.predict_guided(picture), predictor.predict(picture)
    assert engine.batches == [(1, 3, 64, 64)] * 2
    assert np.array_equal(both[0].alpha, both[1].alpha)


@pytest.mark.parametrize("fit", ["stretch", "pad"])
def test_guides_lie_where_the_picture_does(fit: str) -> None:
    preprocess = Preprocess(64, 96, fit=fit)  # type: ignore[arg-type]
    geometry = preprocess.plan(100, 200)
    truth = np.zeros((100, 200), np.uint8)
    truth[10:40, 100:180] = 255
    seen = geometry.apply(np.repeat(truth[..., None], 3, axis=2))[0] > 0
    box = Guide(boxes=(Box(10, 100, 30, 80),)).draw(geometry)
    assert iou(box > 0, seen) > 0.85
    mask = Guide(mask=(truth / 255).astype(np.float32)).draw(geometry)
    assert iou(mask > 0, seen) > 0.95
    dots = Guide(marks=((25, 140, True), (80, 20, False))).draw(geometry)
    assert seen[np.unravel_index(dots.argmax(), dots.shape)]
    assert not seen[np.unravel_index(dots.argmin(), dots.shape)]
    for plane in (box, mask, dots):
        assert plane.dtype == np.float32
        assert plane.shape == geometry.input
        assert np.abs(plane).max() <= 1
        if fit == "pad":  # nothing is said of what is not a picture
            assert not plane[: geometry.box.top].any()


def test_parts_of_guides() -> None:
    mask = np.arange(12, dtype=np.float32).reshape(3, 4) / 12
    guide = Guide((Box(0, 0, 2, 2), Box(2, 3, 1, 1)), ((1, 2, True),), mask)
    part = guide.within(Box(1, 1, 2, 2))
    assert part.boxes == (Box(0, 0, 1, 1),)
    assert part.marks == ((0, 1, True),)
    assert part.mask is not None
    assert np.array_equal(part.mask, mask[1:3, 1:3])


def test_what_is_drawn() -> None:
    box = draw_boxes([(1.2, 2, 3.1, 4)], 6, 8)
    assert set(np.unique(box)) == {-1, BOX}
    assert np.argwhere(box > 0).min(axis=0).tolist() == [1, 2]
    assert np.argwhere(box > 0).max(axis=0).tolist() == [3, 3]
    assert (draw_boxes([(0, 0, 0, 0)], 2, 2) > 0).sum() == 1  # never empty
    dots = draw_marks([(5, 5, True), (5, 30, False), (-200, 5, True)], 40, 40)
    assert dots[4, 4] > 0.8
    assert dots[5, 30] < -0.8
    assert not draw_marks([], 4, 4).any()
    assert np.allclose(draw_mask(np.array([[0, 0.5, 1]], np.float32)), [[-1, 0, 1]])


def reduced(picture: Picture) -> NDArray[np.float32]:
    """A network of 64 pixels that sees brightness, and a little of the place in its input."""
    height, width = picture.pixels.shape[:2]
    grey = cv2.resize(picture.pixels[..., 0], (64, 64), interpolation=cv2.INTER_AREA)
    ramp = np.linspace(-4, 4, 64)[None] + np.linspace(-4, 4, 64)[:, None]
    alpha = 1 / (1 + np.exp(-(0.2 * (grey - 128.0) + ramp)))
    return np.clip(cv2.resize(alpha.astype(np.float32), (width, height)), 0, 1)


def scene(side: int = 500) -> Picture:
    y, x = np.mgrid[:side, :side]
    bright = 255 / (1 + np.exp(0.3 * (np.hypot(y - side / 2, x - side / 2) - side / 3)))
    return Picture(pixels=np.repeat(bright.astype(np.uint8)[..., None], 3, axis=2))


def test_tiles_go_together_and_the_memory_is_used_again() -> None:
    picture = scene()
    first = reduced(picture)
    calls: list[int] = []

    def many(parts: list[Picture]) -> list[NDArray[np.float32]]:
        assert len({part.pixels.shape for part in parts}) == 1
        calls.append(len(parts))
        return [reduced(part) for part in parts]

    expected = refine_detail(reduced, picture, first, side=64)
    kept = first.copy()
    again = refine_detail(reduced, picture, first, side=64, predict_many=many)  # type: ignore[arg-type]
    assert np.array_equal(again, expected)
    assert np.array_equal(first, kept)
    assert max(calls) > 3
    assert 0 not in calls
    assert refine_detail(reduced, picture, first, side=64, overwrite=True) is first
    assert np.array_equal(first, expected)


def test_predictors_run_tiles_in_batches_of_their_engine() -> None:
    engine = BrightEngine()
    engine.batch_size = 4
    Predictor(engine, PLAIN).predict_guided(scene(), passes=2)
    assert max(shape[0] for shape in engine.batches) == 4


def test_flat_regions_keep_every_bit() -> None:
    picture = scene()
    first = reduced(picture)
    first[:60], first[-60:] = 0.0123, 0.0321  # decided, and neither 0 nor 1
    picture.pixels[:60] = picture.pixels[-60:] = 0
    second = refine_detail(reduced, picture, first, side=64)
    y, x = np.mgrid[:500, :500]
    inside = np.hypot(y - 250, x - 250)
    flat = (inside < 60) | (inside > 290)
    assert np.array_equal(second[flat], first[flat])
    assert not np.array_equal(second, first)


def test_tile_borders_show_no_more_than_the_inside() -> None:
    """Each tile sees its right and lower parts as more of the subject, so seams would show."""
    picture = scene(700)
    second = refine_detail(reduced, picture, reduced(picture), side=64)
    from birefnet.imaging.box import Tiles

    tiles = Tiles.plan(700, 700, 64, 16)
    edges = np.zeros(699, bool)
    for start in (*tiles.lefts[1:], *(left + 64 for left in tiles.lefts[:-1])):
        edges[start - 1] = True
    # The second difference: how much steeper a step is than those beside it.
    bend = np.abs(np.diff(second, 2, axis=1))
    at_borders, elsewhere = bend[:, edges[1:]], bend[:, ~edges[1:]]
    changed = elsewhere > 1e-4
    assert at_borders[at_borders > 1e-4].mean() < 1.2 * elsewhere[changed].mean()
    assert at_borders.max() <= 1.2 * elsewhere.max()
