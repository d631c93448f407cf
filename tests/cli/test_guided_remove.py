"""`birefnet remove` with boxes, points, masks and a second pass."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fakes import disc

pytestmark = pytest.mark.usefixtures("bright")


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """Two discs beside each other, 128 x 48."""
    path = tmp_path / "two.png"
    Image.fromarray(np.hstack([disc(), disc()])).save(path)
    return path


def halves(path: Path) -> tuple[float, float]:
    mask = np.asarray(Image.open(path)) / 255
    return float(mask[:, :64].mean()), float(mask[:, 64:].mean())


@pytest.mark.parametrize(
    "options",
    [
        ("--box", "4,4,60,44"),
        ("--box", "0.03,0.1,0.47,0.9"),
        ("--point", "32,24"),
        ("--point", "0.25,0.5", "--not-point", "0.75,0.5"),
        ("--point", "32,24", "--refine-passes", 2),
        ("--guide", "mask.png"),
    ],
)
def test_what_is_meant(command, two: Path, tmp_path: Path, options: tuple[str, ...]) -> None:
    coarse = np.zeros((12, 32), np.uint8)
    coarse[2:10, 4:12] = 255
    Image.fromarray(coarse).save(tmp_path / "mask.png")
    options = tuple(str(tmp_path / o) if o == "mask.png" else o for o in options)
    out = tmp_path / "out.png"
    result = command("remove", two, "-t", "mask", "-o", out, *options)
    assert result.status == 0, result.stderr
    left, right = halves(out)
    assert left == pytest.approx(0.26, abs=0.05)
    assert right < 0.01


def test_both_boxes(command, two: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.png"
    boxes = ("--box", "4,4,60,44", "--box", "68,4,124,44")
    assert command("remove", two, "-t", "mask", "-o", out, *boxes).status == 0
    assert min(halves(out)) > 0.2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--box", "1,2,3"), "is not a box"),
        (("--point", "a"), "is not a point"),
        (("--not-point", "1,1"), "--not-point does nothing without --point"),
        (("--box", "0,0,1,1", "--point", "1,1"), "--point does not go with --box"),
        (("--guide", "none.png"), "does not exist"),
    ],
)
def test_typing_errors(command, two: Path, options: tuple[str, ...], message: str) -> None:
    result = command("remove", two, *options)
    assert result.status == 2
    assert message in " ".join(result.stderr.split())


def test_a_box_outside_is_that_pictures_failure(command, two: Path, tmp_path: Path) -> None:
    Image.fromarray(disc()).save(tmp_path / "one.png")
    files = (two, tmp_path / "one.png")
    result = command("remove", *files, "-o", tmp_path / "out", "--box", "70,4,120,40", "--json")
    assert result.status == 1
    assert [entry["status"] for entry in json.loads(result.stdout)["results"]] == ["done", "failed"]
    assert "holds no pixel of a picture of 64 x 48" in result.stderr
