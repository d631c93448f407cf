"""Boxes, points and coarse masks choose an object; the second pass redoes its edge alone."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from birefnet import Predictor
from birefnet.errors import BiRefNetError
from birefnet.imaging.box import Box
from birefnet.imaging.guided import guided_filter
from birefnet.imaging.objects import owners
from birefnet.imaging.picture import Picture
from birefnet.inference.guidance import (
    Guidance,
    Point,
    matte_at_points,
    matte_in_box,
    matte_near_mask,
    parse_box,
    parse_point,
    refine_detail,
)
from birefnet.inference.guidance.detail import levels
from birefnet.inference.guidance.regions import to_box
from fakes import PLAIN, BrightEngine


def picture_of(alpha: NDArray, ground: int = 20, subject: int = 235) -> Picture:
    grey = ground + (subject - ground) * alpha
    return Picture(pixels=np.round(grey)[..., None].repeat(3, axis=2).astype(np.uint8))


def discs(*places: tuple[int, int, int], height: int = 96, width: int = 160) -> NDArray[np.float32]:
    """Discs as (row, column, radius)."""
    out = np.zeros((height, width), np.float32)
    for row, column, radius in places:
        cv2.circle(out, (column, row), radius, 1, -1)
    return out


def bright(picture: Picture) -> NDArray[np.float32]:
    """What is bright is the subject, with soft edges as a network gives them."""
    grey = picture.pixels.mean(axis=2).astype(np.float32) / 255
    alpha: NDArray[np.float32] = 1 / (1 + np.exp(-20 * (cv2.blur(grey, (3, 3)) - 0.5)))
    return alpha.astype(np.float32)


def iou(alpha: NDArray, truth: NDArray) -> float:
    a, b = alpha >= 0.5, truth >= 0.5
    return float((a & b).sum() / (a | b).sum())


LEFT, RIGHT = (48, 40, 24), (48, 118, 26)
TWO = picture_of(discs(LEFT, RIGHT))


def test_a_box_chooses() -> None:
    box = Box(20, 12, 56, 56)
    alpha = matte_in_box(bright, TWO, box)
    assert alpha.shape == (96, 160)
    assert iou(alpha, discs(LEFT)) > 0.97
    assert alpha[:, 90:].max() == 0
    # Drawn a little too small, the object is still whole.
    assert iou(matte_in_box(bright, TWO, Box(26, 18, 44, 44)), discs(LEFT)) > 0.97


def test_several_boxes_are_united() -> None:
    predictor = Predictor(BrightEngine(), PLAIN)
    boxes = ((0.05, 0.2, 0.45, 0.8), (88, 18, 148, 78))
    both = predictor.predict_guided(TWO, Guidance(boxes=boxes))
    assert iou(both.alpha, discs(LEFT, RIGHT)) > 0.95
    one = predictor.predict_guided(TWO, Guidance(boxes=boxes[:1]))
    assert iou(one.alpha, discs(LEFT)) > 0.95


@pytest.mark.parametrize(
    ("points", "meant"),
    [
        ([Point(40, 48)], [LEFT]),
        ([Point(0.74, 0.5)], [RIGHT]),
        ([Point(40, 48), Point(118, 48)], [LEFT, RIGHT]),
        ([Point(118, 48), Point(40, 48, False)], [RIGHT]),
        ([Point(13, 48)], [LEFT]),  # just beside it
    ],
)
def test_points_choose(points: list[Point], meant: list[tuple[int, int, int]]) -> None:
    assert iou(matte_at_points(bright, TWO, points), discs(*meant)) > 0.95


def test_touching_objects_are_divided() -> None:
    truth = discs((48, 50, 28))
    pixels = picture_of(discs((48, 50, 28), (48, 104, 28))).pixels.copy()
    pixels[..., 2][discs((48, 104, 28)) > 0] = 120  # another colour
    picture = Picture(pixels=pixels)
    assert owners(bright(picture))[0] == 1
    alpha = matte_at_points(bright, picture, [Point(50, 48), Point(104, 48, False)])
    assert iou(alpha, truth) > 0.85


def test_points_on_nothing_give_nothing() -> None:
    assert matte_at_points(bright, TWO, [Point(80, 4)]).max() == 0


def test_a_closer_view_finds_what_the_first_one_missed() -> None:
    def near_sighted(picture: Picture) -> NDArray[np.float32]:
        alpha = bright(picture)
        return alpha * (alpha.mean() > 0.1)  # sees only what takes a tenth of its view

    small = (70, 140, 9)
    picture = picture_of(discs(small))
    assert near_sighted(picture).max() == 0
    assert iou(matte_at_points(near_sighted, picture, [Point(140, 70)]), discs(small)) > 0.9


@pytest.mark.parametrize("kind", ["scribble", "blob", "bool", "small", "uint8", "int64", "uint16"])
def test_a_coarse_mask_chooses(kind: str) -> None:
    mask: NDArray = cv2.blur(discs((52, 42, 28)), (15, 15))
    if kind == "scribble":
        mask = np.zeros((96, 160), np.uint8)
        cv2.line(mask, (24, 48), (56, 50), 255, 3)
    elif kind == "bool":
        mask = mask > 0.5
    elif kind == "small":
        mask = cv2.resize(mask, (40, 24))
    elif kind != "blob":  # 0 and 1, as segmenters give them
        mask = (mask > 0.5).astype(kind)
    mask = Guidance(mask=mask).mask
    alpha = matte_near_mask(bright, TWO, mask)
    assert iou(alpha, discs(LEFT)) > (0.75 if kind == "scribble" else 0.95)
    assert alpha[:, 90:].max() == 0
    assert matte_near_mask(bright, TWO, np.zeros((5, 5))).max() == 0


def test_a_mask_the_network_does_not_see_is_fitted_to_the_edges() -> None:
    def blind(picture: Picture) -> NDArray[np.float32]:
        return np.zeros(picture.pixels.shape[:2], np.float32)

    coarse = cv2.blur(discs((50, 42, 25)), (7, 7))
    fitted = matte_near_mask(blind, TWO, coarse)
    assert iou(fitted, discs(LEFT)) > iou(coarse, discs(LEFT)) > 0.5


def test_the_guided_filter_follows_the_picture() -> None:
    truth = discs(LEFT)
    coarse: NDArray = cv2.blur(truth, (9, 9))
    fitted = guided_filter(picture_of(truth).pixels, coarse, radius=8)
    steepest = np.abs(np.diff(fitted, axis=1)).max()
    assert steepest > 4 * np.abs(np.diff(coarse, axis=1)).max()
    assert np.array_equal(fitted >= 0.5, truth >= 0.5)
    flat = np.full((40, 50, 3), 77, np.uint8)
    assert np.allclose(guided_filter(flat, np.full((40, 50), 0.4, np.float32), radius=4), 0.4)
    with pytest.raises(BiRefNetError, match="radius is 0"):
        guided_filter(flat, np.zeros((40, 50), np.float32), radius=0)


def test_without_guidance_nothing_changes() -> None:
    predictor = Predictor(BrightEngine(), PLAIN)
    assert np.array_equal(predictor.predict_guided(TWO).alpha, predictor.predict(TWO).alpha)


def seen_reduced(side: int):
    """A network of `side` pixels: it sees less of a larger picture."""

    def predict(picture: Picture) -> NDArray[np.float32]:
        height, width = picture.pixels.shape[:2]
        calls.append((height, width))
        small = cv2.resize(picture.pixels, (side, side), interpolation=cv2.INTER_AREA)
        alpha = bright(Picture(pixels=small))
        return cv2.resize(alpha, (width, height), interpolation=cv2.INTER_LINEAR)

    calls: list[tuple[int, int]] = []
    predict.calls = calls  # type: ignore[attr-defined]
    return predict


def fine_picture() -> tuple[Picture, NDArray[np.float32]]:
    """A disc with thin spokes, 640 x 640."""
    truth = discs((320, 320, 100), height=640, width=640)
    for angle in np.linspace(0, 2 * np.pi, 17):
        end = (round(320 + 200 * np.cos(angle)), round(320 + 200 * np.sin(angle)))
        cv2.line(truth, (320, 320), end, 1.0, 3)
    return picture_of(truth), truth


def test_the_second_pass_finds_what_the_first_one_blurs() -> None:
    picture, truth = fine_picture()
    predict = seen_reduced(128)
    first = predict(picture)
    predict.calls.clear()  # type: ignore[attr-defined]
    second = refine_detail(predict, picture, first, side=128)
    assert np.abs(second - truth).mean() < 0.5 * np.abs(first - truth).mean()
    far = np.hypot(*np.mgrid[-320:320, -320:320]) > 300
    assert np.array_equal(second[far], first[far])  # decided and flat: not touched
    assert len(predict.calls) < 100  # type: ignore[attr-defined]
    assert not np.shares_memory(first, second)


def test_no_seam_shows() -> None:
    """Tiles that each see another brightness still join smoothly."""
    _, truth = fine_picture()
    ramp = np.linspace(0, 60, 640)[None, :, None]
    picture = Picture(pixels=np.clip(picture_of(truth).pixels + ramp, 0, 255).astype(np.uint8))
    predict = seen_reduced(128)
    second = refine_detail(predict, picture, predict(picture), side=128)
    inside = np.hypot(*np.mgrid[-320:320, -320:320]) < 90
    assert second[inside].min() > 0.9


def test_a_tile_that_contradicts_is_not_believed() -> None:
    """A part that the first pass did not see stays away, and one that it saw stays."""
    truth = discs((160, 160, 60), (160, 480, 60), height=320, width=640)
    picture = picture_of(truth)
    first = truth.copy()
    first[:, 320:] *= 0.08  # hardly seen: looked at again, and there is a disc

    for sees in (bright, lambda part: np.zeros_like(bright(part))):
        second = refine_detail(sees, picture, first, side=128)
        assert second[:, 320:].max() < 0.5
        assert second[:, 320:].mean() < 0.05
        assert second[120:200, 120:200].min() > 0.95


def test_the_work_follows_the_edge() -> None:
    predict = seen_reduced(64)
    alpha = discs((32, 32, 20), height=1024, width=1024)
    refine_detail(predict, picture_of(alpha), alpha, side=64)
    few = len(predict.calls)  # type: ignore[attr-defined]
    assert 0 < few < 40
    empty = np.zeros((1024, 1024), np.float32)
    refine_detail(predict, picture_of(empty), empty, side=64)
    assert len(predict.calls) == few  # type: ignore[attr-defined]


@pytest.mark.parametrize("size", [(1, 300), (300, 1), (33, 47), (700, 90), (200, 200)])
def test_any_shape(size: tuple[int, int]) -> None:
    alpha = np.zeros(size, np.float32)
    alpha[size[0] // 3 :, size[1] // 3 :] = 1
    picture = picture_of(alpha)
    for guidance in (Guidance(boxes=((0.2, 0.2, 1, 1),)), Guidance(points=(Point(0.9, 0.9),))):
        matte = Predictor(BrightEngine(), PLAIN).predict_guided(picture, guidance, passes=2)
        assert matte.alpha.shape == size
        assert matte.alpha[-1, -1] > 0.9


def test_levels_halve_down_to_one() -> None:
    assert levels(0.5) == levels(1.1) == []
    assert levels(2) == [1.0]
    assert levels(8) == pytest.approx([4, 2, 1])
    assert levels(7.5)[-1] == 1


def test_what_is_typed() -> None:
    assert parse_box("1,2,30,40") == (1, 2, 30, 40)
    assert to_box((0.25, 0, 0.5, 1), 100, 200) == Box(0, 50, 100, 50)
    assert to_box((-5, 10.2, 700, 20), 100, 200) == Box(10, 0, 10, 200)
    assert parse_point("12,30") == Point(12, 30)
    assert parse_point("0.5,1.0").at(100, 200) == (99, 100)
    for text in ("1,2,3", "a,b,c,d", ""):
        with pytest.raises(BiRefNetError, match="is not a box"):
            parse_box(text)
    for box in ((10, 10, 10, 20), (300, 0, 400, 50)):
        with pytest.raises(BiRefNetError, match="holds no pixel"):
            to_box(box, 100, 200)
    with pytest.raises(BiRefNetError, match="outside the picture of 200 x 100"):
        Point(200, 5).at(100, 200)
    with pytest.raises(BiRefNetError, match="one kind of guidance"):
        Guidance(boxes=((0, 0, 1, 1),), points=(Point(1, 1),))
    with pytest.raises(BiRefNetError, match="passes is 3"):
        Predictor(BrightEngine(), PLAIN).predict_guided(TWO, passes=3)


@pytest.mark.parametrize(
    "mask",
    [
        np.zeros((0, 4), np.uint8),
        *(np.full((9, 9), value, np.float32) for value in (np.nan, np.inf, -1, 255)),
        np.full((9, 9), 255),
        np.where(np.eye(9), 1, -1),
        np.full((9, 9), "x"),
    ],
)
def test_masks_that_are_none_are_refused(mask: NDArray) -> None:
    with pytest.raises(BiRefNetError, match="mask"):
        Predictor(BrightEngine(), PLAIN).predict_guided(fine_picture()[0], Guidance(mask=mask))


@pytest.mark.parametrize("kind", [bool, "uint8", "int64", "float32"])
def test_an_empty_mask_chooses_nothing(kind: str) -> None:
    guidance = Guidance(mask=np.zeros((9, 9), kind))
    matte = Predictor(BrightEngine(), PLAIN).predict_guided(fine_picture()[0], guidance)
    assert not matte.alpha.any()
