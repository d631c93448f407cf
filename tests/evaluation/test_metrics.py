"""Metrics against plain definitions, on degenerate pairs, and their bad input."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from birefnet.errors import BiRefNetError, ImageError
from birefnet.evaluation import (
    COLUMNS,
    Pair,
    Thresholds,
    ber,
    boundary_iou_curve,
    connectivity_error,
    dice,
    evaluate_pair,
    f_measure_curve,
    gradient_error,
    iou,
    matte_mae,
    matte_mse,
    mean_boundary_accuracy,
    precision_recall,
    resolve,
    s_measure,
    sad,
    weighted_f_measure,
)


def noisy_pair(seed: int, height: int = 61, width: int = 83) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    field = cv2.GaussianBlur(generator.standard_normal((height, width)), (0, 0), 3)
    field += 0.1 * generator.standard_normal((height, width))
    truth = np.where(cv2.GaussianBlur(field, (0, 0), 1) > 0, 255, 0).astype(np.uint8)
    prediction = (255 / (1 + np.exp(-field * 6))).astype(np.uint8)
    return prediction, truth


def test_curves_follow_their_definition_at_every_threshold() -> None:
    prediction, truth = noisy_pair(0)
    stretched = (prediction / 255 - prediction.min() / 255) / (
        prediction.max() / 255 - prediction.min() / 255
    )
    levels = (stretched * 255).astype(np.uint8)
    precision, recall = precision_recall(prediction, truth)
    curve = f_measure_curve(prediction, truth)
    for threshold in (0, 1, 77, 128, 254, 255):
        chosen, wanted = levels >= threshold, truth > 128
        hits = (chosen & wanted).sum()
        p, r = hits / max(chosen.sum(), 1), hits / wanted.sum()
        assert precision[threshold] == pytest.approx(p)
        assert recall[threshold] == pytest.approx(r)
        expected = 1.3 * p * r / (0.3 * p + r) if hits else 0
        assert curve[threshold] == pytest.approx(expected)


@pytest.mark.parametrize("shape", [(150, 150), (700, 900), (40, 1200)])
def test_mean_boundary_accuracy_equals_opencv_morphology(shape: tuple[int, int]) -> None:
    prediction, truth = noisy_pair(1, *shape)
    object_, decision = truth > 128, prediction > 128
    accuracies = []
    for step in range(5):
        radius = 1 + int((sum(shape) / 300 - 1) / 5 * step)
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1,) * 2)
        band = cv2.morphologyEx(object_.astype(np.uint8), cv2.MORPH_GRADIENT, kernel) > 0
        accuracies.append((object_ == decision)[band].mean())
    assert mean_boundary_accuracy(prediction, truth) == pytest.approx(np.mean(accuracies))


def test_boundary_iou_equals_an_iterated_erosion() -> None:
    prediction, truth = noisy_pair(2, 90, 200)

    def band(image: np.ndarray) -> np.ndarray:
        padded = cv2.copyMakeBorder(image, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
        steps = round(0.02 * math.hypot(90, 200))
        eroded = cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=steps)
        return image - eroded[1:-1, 1:-1]

    prediction_band = band(Pair(prediction, truth).quantised[prediction])
    truth_band = band(truth) > 128
    expected = [
        ((prediction_band >= t) & truth_band).sum()
        / (truth_band.sum() + ((prediction_band >= t) & ~truth_band).sum())
        for t in (0, 1, 100, 255)
    ]
    assert boundary_iou_curve(prediction, truth)[[0, 1, 100, 255]] == pytest.approx(expected)


def test_weighted_f_measure_equals_its_definition_on_a_small_pair() -> None:
    prediction, truth = noisy_pair(3, 23, 31)
    wanted = truth > 128
    levels = Pair(prediction, truth).levels[prediction]
    rows, columns = np.nonzero(wanted)
    error = np.abs(levels - wanted)
    spread, distance = error.copy(), np.zeros(wanted.shape)
    for y, x in zip(*np.nonzero(~wanted), strict=True):
        squares = (rows - y) ** 2 + (columns - x) ** 2
        nearest = min(range(len(rows)), key=lambda i: (squares[i], columns[i], rows[i]))
        spread[y, x] = error[rows[nearest], columns[nearest]]
        distance[y, x] = math.sqrt(squares[nearest])
    profile = np.exp(-(np.arange(-3, 4) ** 2) / 50)
    kernel = np.outer(profile, profile) / profile.sum() ** 2
    smoothed = cv2.filter2D(spread, cv2.CV_64F, kernel, borderType=cv2.BORDER_CONSTANT)
    eased = np.where(wanted & (smoothed < error), smoothed, error)
    eased *= np.where(wanted, 1, 2 - np.exp(np.log(0.5) / 5 * distance))
    hits = wanted.sum() - eased[wanted].sum()
    recall, precision = 1 - eased[wanted].mean(), hits / (hits + eased[~wanted].sum())
    expected = 2 * recall * precision / (recall + precision)
    assert weighted_f_measure(prediction, truth) == pytest.approx(expected, abs=1e-6)


def test_overlaps_by_hand() -> None:
    truth = np.array([[255, 255, 0, 0]], np.uint8)
    prediction = np.array([[255, 0, 255, 0]], np.uint8)
    assert iou(prediction, truth) == pytest.approx(1 / 3)
    assert dice(prediction, truth) == pytest.approx(1 / 2)
    assert ber(prediction, truth) == pytest.approx(1 / 2)


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (2, 2), (5, 1), (64, 64)])
@pytest.mark.parametrize("truth_level", [0, 255])
@pytest.mark.parametrize("prediction_level", [0, 90, 128, 255])
def test_degenerate_pairs_have_defined_values(
    shape: tuple[int, int], truth_level: int, prediction_level: int
) -> None:
    truth = np.full(shape, truth_level, np.uint8)
    prediction = np.full(shape, prediction_level, np.uint8)
    one_pixel = np.zeros(shape, np.uint8)
    one_pixel[0, 0] = 255
    for target in (truth, one_pixel):
        values = evaluate_pair(prediction, target, metrics="all")
        assert all(np.isfinite(value).all() for value in values.values())


def test_a_perfect_prediction_of_an_empty_or_full_truth_is_right_everywhere() -> None:
    for level in (0, 255):
        image = np.full((20, 30), level, np.uint8)
        values = evaluate_pair(image, image)
        assert values["s_measure"] == values["iou"] == values["mean_boundary_accuracy"] == 1
        assert values["mae"] == values["hce"] == values["ber"] == 0


def test_s_measure_of_an_object_of_one_pixel_is_zero_as_published() -> None:
    truth = np.zeros((9, 9), np.uint8)
    truth[4, 4] = 255
    assert s_measure(truth, truth) == 0


def test_matting_metrics_by_their_definitions() -> None:
    prediction, _ = noisy_pair(4)
    truth = cv2.GaussianBlur(noisy_pair(4)[1], (0, 0), 2)
    trimap = np.where((truth > 10) & (truth < 245), 128, truth).astype(np.uint8)
    unknown = trimap == 128
    p, t = prediction / 255, truth / 255
    assert sad(prediction, truth) == pytest.approx(np.abs(p - t).sum() / 1000)
    assert sad(prediction, truth, trimap) == pytest.approx(np.abs(p - t)[unknown].sum() / 1000)
    assert matte_mae(prediction, truth, trimap) == pytest.approx(np.abs(p - t)[unknown].mean())
    assert matte_mse(prediction, truth, trimap) == pytest.approx(((p - t)[unknown] ** 2).mean())
    assert matte_mse(prediction, truth) == pytest.approx(((p - t) ** 2).mean())


def test_gradient_error_equals_a_full_two_dimensional_filter() -> None:
    prediction, truth = noisy_pair(5)
    sigma = 1.4
    reach = math.ceil(sigma * math.sqrt(-2 * math.log(math.sqrt(2 * math.pi) * sigma * 0.01)))
    x = np.arange(-reach, reach + 1)
    gauss = np.exp(-(x**2) / (2 * sigma**2)) / (sigma * math.sqrt(2 * math.pi))
    kernel = np.outer(gauss, -x * gauss / sigma**2)
    kernel /= math.sqrt((kernel**2).sum())

    def magnitude(image: np.ndarray) -> np.ndarray:
        edge = cv2.BORDER_REPLICATE
        across = cv2.filter2D(image / 255, cv2.CV_64F, kernel, borderType=edge)
        down = cv2.filter2D(image / 255, cv2.CV_64F, kernel.T, borderType=edge)
        return np.hypot(across, down)

    expected = ((magnitude(prediction) - magnitude(truth)) ** 2).sum() / 1000
    assert gradient_error(prediction, truth) == pytest.approx(expected, rel=1e-5)


def test_connectivity_counts_what_is_cut_off_from_the_main_part() -> None:
    truth = np.zeros((10, 30), np.uint8)
    truth[:, :20] = 255
    truth[:, 25:] = 255
    joined = truth.copy()
    assert connectivity_error(joined, truth) == 0
    # The small part is connected to nothing at any level, so its full opacity counts as missing.
    lost = truth.copy()
    lost[:, 25:] = 0
    assert connectivity_error(lost, truth) == pytest.approx(50 / 1000)


@pytest.mark.parametrize("seed", range(6))
def test_connectivity_equals_its_definition(seed: int) -> None:
    prediction, truth = noisy_pair(seed, 40 + seed, 50)
    truth = cv2.GaussianBlur(truth, (0, 0), 1 + seed / 2)
    trimap = np.where(np.arange(50) < 30, 128, 0).astype(np.uint8) + np.zeros_like(truth)
    p, t = prediction / 255, truth / 255
    level = np.full(p.shape, -1.0)
    for step in range(1, 11):
        # Thresholds are compared exactly: v / 255 >= step / 10.
        both = (10 * prediction.astype(int) >= 255 * step) & (10 * truth.astype(int) >= 255 * step)
        _, labels = cv2.connectedComponents(both.astype(np.uint8), connectivity=4)
        sizes = np.bincount(labels[both], minlength=2)
        source = both & (labels == sizes.argmax())
        level[(level == -1) & ~source] = (step - 1) / 10
    level[level == -1] = 1
    degrees = [1 - np.where(a - level >= 0.15, a - level, 0) for a in (p, t)]
    expected = np.abs(degrees[0] - degrees[1])
    assert connectivity_error(prediction, truth) == pytest.approx(expected.sum() / 1000)
    narrowed = expected[trimap == 128].sum() / 1000
    assert connectivity_error(prediction, truth, trimap) == pytest.approx(narrowed)


def test_chosen_metrics_equal_those_of_the_whole_set() -> None:
    prediction, truth = noisy_pair(6)
    by_group = evaluate_pair(prediction, truth, metrics=["hce", "f_measure_max"])
    assert {"hce", "f_measure_max"} <= set(by_group)
    whole = evaluate_pair(prediction, truth)
    assert by_group["hce"] == whole["hce"]


def test_threshold_sets_narrow_the_curves() -> None:
    prediction, truth = noisy_pair(7)
    curve = f_measure_curve(prediction, truth)
    some = evaluate_pair(
        prediction, truth, metrics=["f_measure_mean"], thresholds=Thresholds.parse("0.2,0.6")
    )
    assert some["f_measure_mean"] == pytest.approx((curve[51] + curve[153]) / 2)
    assert len(Thresholds.parse("tenths").levels) == 9
    for text in ("half", "", "0.5,", "1.5", "-0.1", "nan", "inf", "128"):
        with pytest.raises(BiRefNetError, match=f"came as '{text}'; give .* from 0 to 1"):
            Thresholds.parse(text)
    with pytest.raises(BiRefNetError, match="from 0 to 255"):
        Thresholds((256,))


def test_names_are_looked_up_and_listed_on_a_miss() -> None:
    assert resolve(["mae", "dis"])[:2] == ("mae", "f_measure_max")
    with pytest.raises(BiRefNetError, match=r"no metric 'psnr'.*weighted_f_measure"):
        resolve("psnr")
    assert COLUMNS["hce"].higher_is_better is False
    assert COLUMNS["s_measure"].higher_is_better is True


@pytest.mark.parametrize(
    ("prediction", "truth", "message"),
    [
        (np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint8), "prediction is uint8 with"),
        (np.zeros((4, 4), np.float32), np.zeros((4, 4), np.uint8), "prediction is float32"),
        (
            np.zeros((4, 5), np.uint8),
            np.zeros((4, 4), np.uint8),
            "is 5 x 4, but the ground truth is 4 x 4",
        ),
        (np.zeros((0, 4), np.uint8), np.zeros((0, 4), np.uint8), "no pixels"),
    ],
)
def test_bad_arrays_are_refused_in_a_sentence(
    prediction: np.ndarray, truth: np.ndarray, message: str
) -> None:
    with pytest.raises(ImageError, match=message):
        evaluate_pair(prediction, truth)


def test_evaluation_needs_no_torch_and_no_numba() -> None:
    code = (
        "import sys, birefnet.evaluation, birefnet.evaluation.benchmark\n"
        "import birefnet.evaluation.report, birefnet.evaluation.published\n"
        "sys.exit(bool({'torch', 'numba', 'matplotlib'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_documentation_names_every_metric() -> None:
    text = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text(encoding="utf-8")
    assert [name for name in COLUMNS if f"`{name}`" not in text] == []
