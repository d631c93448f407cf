"""Truths that are mirrored or of another picture are found, in sets of any size, and no others."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from birefnet.training.data.findings import check
from data_sets import photo, save

SIDES = (100, 150)


def pair(seed: int) -> tuple[NDArray, NDArray]:
    """A bright disc and a bright bar on a dim, rough ground, both of them the subject."""
    rgb, truth = photo(seed, *SIDES)
    rng = np.random.default_rng(1000 + seed)
    bar = np.zeros(SIDES, np.uint8)
    ends = [(int(rng.integers(150)), int(rng.integers(100))) for _ in range(2)]
    cv2.line(bar, *ends, 255, 9, cv2.LINE_AA)
    share = bar[..., None] / 255
    rgb = np.rint(rgb * (1 - share) + (210, 235, 220) * share).astype(np.uint8)
    noise = rng.normal(0, 12, rgb.shape)
    return np.clip(rgb + noise, 0, 255).astype(np.uint8), np.maximum(truth, bar)


def make_set(root: Path, count: int) -> Path:
    for i in range(count):
        rgb, truth = pair(i)
        save(root / "im" / f"{i:02}.png", rgb)
        save(root / "gt" / f"{i:02}.png", truth)
    return root


def found(root: Path) -> dict[str, dict[str, str]]:
    """Findings by key: file name and detail."""
    report = check([str(root)], smallest=1)
    return {f.kind.key: {item.path.name: item.detail for item in f.items} for f in report.findings}


@pytest.fixture(params=[4, 8, 10, 25])
def count(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def clean(tmp_path: Path, count: int) -> Path:
    return make_set(tmp_path / "set", count)


def test_nothing_is_found_in_a_set_that_fits(clean: Path) -> None:
    assert found(clean) == {}


@pytest.mark.parametrize(
    ("axis", "words"),
    [(1, "left to right"), (0, "upside down"), ((0, 1), "both ways")],
)
def test_mirrored_masks(clean: Path, axis: int | tuple[int, int], words: str) -> None:
    save(clean / "gt" / "02.png", np.flip(pair(2)[1], axis))
    assert found(clean) == {"mirrored": {"02.png": f"it fits when turned {words}"}}


def test_a_set_that_is_mirrored_throughout(clean: Path, count: int) -> None:
    for i in range(count):
        save(clean / "gt" / f"{i:02}.png", np.flip(pair(i)[1], 1))
    assert len(found(clean)["mirrored"]) == count


@pytest.mark.parametrize("length", [2, 3])
def test_masks_of_each_other(clean: Path, length: int) -> None:
    for i in range(length):
        save(clean / "gt" / f"{i:02}.png", pair((i + 1) % length)[1])
    names = {f"{i:02}.png": f"{(i - 1) % length:02}.png fits" for i in range(length)}
    swapped = found(clean)["swapped"]
    assert {name: Path(detail).name for name, detail in swapped.items()} == names


def test_masks_that_are_one_number_off(clean: Path, count: int) -> None:
    for i in range(count):
        save(clean / "gt" / f"{i:02}.png", pair((i + 1) % count)[1])
    assert len(found(clean)["swapped"]) == count


def test_a_mask_of_a_picture_that_is_not_there(clean: Path, count: int) -> None:
    save(clean / "gt" / "01.png", pair(99)[1])
    assert found(clean) == ({"swapped": {"01.png": ""}} if count >= 10 else {})


@pytest.mark.parametrize("whole", [False, True])
def test_a_picture_and_its_mask_exchanged(clean: Path, count: int, whole: bool) -> None:
    for i in range(count if whole else 1):
        rgb, truth = pair(i)
        truth = np.where(truth > 127, 255, 0).astype(np.uint8)
        grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
        save(clean / "im" / f"{i:02}.png", truth)
        save(clean / "gt" / f"{i:02}.png", grey if i % 2 else rgb)
    assert list(found(clean)) == ["exchanged"]
    assert len(found(clean)["exchanged"]) == (count if whole else 1)


def test_inverted_and_small_masks_still_fit(clean: Path) -> None:
    """Neither the sign nor the size of a truth matters to its outline; levels 0 and 1 neither."""
    save(clean / "gt" / "00.png", 255 - pair(0)[1])
    save(clean / "gt" / "01.png", cv2.resize(pair(1)[1], (75, 50), interpolation=cv2.INTER_AREA))
    save(clean / "gt" / "02.png", np.where(pair(2)[1] > 127, 1, 0).astype(np.uint8))
    assert set(found(clean)) <= {"inverted", "levels-0-1"}


def test_masks_without_relation_to_their_pictures_are_left_alone(tmp_path: Path) -> None:
    """A drawn set in which nothing fits anything: no truth is worse than the others."""
    root = make_set(tmp_path / "set", 12)
    shutil.rmtree(root / "im")
    for i in range(12):
        rough = np.random.default_rng(i).integers(0, 255, (5, 6, 3), np.uint8)
        rgb = cv2.resize(rough, SIDES[::-1], interpolation=cv2.INTER_CUBIC)
        save(root / "im" / f"{i:02}.png", rgb)
    assert found(root) == {}
