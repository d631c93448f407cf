"""The released numbers: every metric equals the official programs on the sixteen pairs."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from birefnet.evaluation import evaluate_pair

REFERENCE = Path(__file__).parents[1] / "reference" / "metrics"
EXPECTED = json.loads((REFERENCE / "expected.json").read_text())
OLD_OPENCV = tuple(map(int, cv2.__version__.split(".")[:2])) < (4, 13)
"""Its `findContours` and `approxPolyDP`, the official program's too, give fewer points."""


def read(name: str, part: str) -> np.ndarray:
    image = cv2.imread(str(REFERENCE / "pairs" / f"{name}.{part}.png"), cv2.IMREAD_GRAYSCALE)
    assert image is not None
    return image


@pytest.mark.parametrize("name", EXPECTED)
def test_every_number_equals_the_official_one(name: str) -> None:
    result = evaluate_pair(read(name, "prediction"), read(name, "truth"))
    for key, expected in EXPECTED[name].items():
        if expected is None:
            assert np.isfinite(result[key])
        elif key.startswith("hce"):
            assert OLD_OPENCV or result[key] == expected
        else:
            assert result[key] == pytest.approx(expected, abs=1e-6), key


@pytest.mark.parametrize("name", ["empty_truth", "full_truth"])
def test_without_a_boundary_accuracy_is_that_of_the_whole_picture(name: str) -> None:
    prediction, truth = read(name, "prediction"), read(name, "truth")
    right = ((prediction > 128) == (truth > 128)).mean()
    assert evaluate_pair(prediction, truth)["mean_boundary_accuracy"] == pytest.approx(right)
