"""Thinning against a plain pass-by-pass version, and clicks against the program's own loops."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from birefnet.evaluation import hce_parts, skeletonize
from birefnet.evaluation.bits import dilate_cross, erode_cross, pack, unpack, valid
from birefnet.evaluation.skeleton import _NEIGHBOURS, _REMOVERS


def blobs(seed: int, height: int, width: int, sigma: float) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal((height, width)).astype(np.float32)
    return (cv2.GaussianBlur(noise, (0, 0), sigma) > 0).astype(np.uint8)


def thin_pass_by_pass(mask: np.ndarray) -> np.ndarray:
    image = np.pad(mask, 1)
    changed = True
    while changed:
        changed = False
        for bit_of_pass in (1, 2):
            patterns = np.zeros_like(image)
            for bit, (row, column) in enumerate(_NEIGHBOURS):
                patterns |= np.roll(image, (-row, -column), (0, 1)) << bit
            goes = (image > 0) & (_REMOVERS[patterns] & bit_of_pass > 0)
            image[goes] = 0
            changed |= bool(goes.any())
    return image[1:-1, 1:-1].astype(bool)


@pytest.mark.parametrize("seed", range(12))
def test_skeleton_equals_whole_picture_passes(seed: int) -> None:
    mask = blobs(seed, 20 + 9 * seed, 90 - 5 * seed, 0.5 + seed / 2)
    assert np.array_equal(skeletonize(mask), thin_pass_by_pass(mask))


def test_skeleton_of_a_known_shape() -> None:
    rows, columns = np.mgrid[0:9, 0:9]
    ellipse = (1 / 3) * (rows - 4) ** 2 + (columns - 4) ** 2 < 9
    expected = np.zeros((9, 9), bool)
    expected[3:7, 4] = True  # as printed in the documentation of scikit-image
    assert np.array_equal(skeletonize(ellipse), expected)


@pytest.mark.parametrize("width", [1, 63, 64, 65, 130])
def test_packed_morphology_equals_opencv(width: int) -> None:
    mask = blobs(width, 40, width, 2)
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    inside = valid(*mask.shape)
    assert np.array_equal(unpack(pack(mask), width), mask)
    assert np.array_equal(unpack(dilate_cross(pack(mask), inside), width), cv2.dilate(mask, cross))
    assert np.array_equal(
        unpack(erode_cross(pack(mask), inside, 3), width), cv2.erode(mask, cross, iterations=3)
    )


def clicks_by_loops(prediction: np.ndarray, truth: np.ndarray) -> list[float]:
    """The published rules, pixel by pixel."""
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    right, wrong_in, wrong_out = truth & prediction, prediction & ~truth, truth & ~prediction
    core = cv2.erode((truth | prediction).astype(np.uint8), cross, iterations=5) > 0

    def relaxed(errors: np.ndarray, closed: np.ndarray) -> np.ndarray:
        grown = errors & core
        for _ in range(5):
            grown = (cv2.dilate(grown.astype(np.uint8), cross) > 0) & ~closed
        return grown & errors

    positives = relaxed(wrong_in, truth)
    negatives = relaxed(wrong_out, prediction) | (skeletonize(truth) & ~right)
    parts = []
    for errors, beside in (
        (positives, right | negatives),
        (negatives, ~(right | positives | negatives)),
    ):
        near = cv2.dilate(beside.astype(np.uint8), cross)
        count, labels = cv2.connectedComponents(errors.astype(np.uint8), connectivity=8)
        alone, visited, points = set(range(1, count)), set(), 0
        contours, _ = cv2.findContours(
            errors.astype(np.uint8), cv2.RETR_TREE, cv2.CHAIN_APPROX_NONE
        )
        for contour in contours:
            runs: list[list[tuple[int, int]]] = [[]]
            for x, y in contour[:, 0].tolist():
                if not near[y, x] or (x, y) in visited:
                    runs.append([])
                    continue
                runs[-1].append((x, y))
                visited.add((x, y))
                alone.discard(int(labels[y, x]))
            runs = [run for run in runs if run]
            if len(runs) > 1:
                (ax, ay), (bx, by) = runs[0][0], runs[-1][-1]
                if max(abs(ax - bx), abs(ay - by)) == 1:
                    runs[-1] += runs.pop(0)[::-1]
            points += sum(len(cv2.approxPolyDP(np.array(run)[:, None], 2.0, False)) for run in runs)
        parts += [float(points), float(len(alone))]
    return parts


@pytest.mark.parametrize("seed", range(16))
def test_clicks_equal_the_published_rules(seed: int) -> None:
    sigma = 1 + seed % 5
    truth = blobs(seed, 90, 110, sigma)
    prediction = truth ^ (blobs(seed + 99, 90, 110, sigma) & blobs(seed + 199, 90, 110, 3))
    result = hce_parts(prediction * np.uint8(255), truth * np.uint8(255))
    assert list(result) == clicks_by_loops(prediction > 0, truth > 0)
