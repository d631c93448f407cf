"""`birefnet data`, as typed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data_sets import make_pairs, save


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return make_pairs(tmp_path / "set", 3)


def test_check_says_what_it_found_and_exits_so(command: Any, photos: Path) -> None:
    clean = command("data", "check", photos, "--smallest", 50, "--jobs", 1)
    assert clean.status == 0, clean.stderr
    assert b"3 pairs, shorter side 60 to 60 px" in clean.stdout
    assert b"Nothing was found." in clean.stdout
    save(photos / "gt" / "p1.png", np.zeros((60, 90), np.uint8))
    dirty = command("data", "check", photos, "--smallest", 50, "--jobs", 1)
    assert dirty.status == 1
    assert b"1 empty mask  [empty]" in dirty.stdout
    assert b"p1.png" in dirty.stdout
    ignored = command("data", "check", photos, "--smallest", 50, "--ignore", "empty", "--jobs", 1)
    assert ignored.status == 0


def test_check_lists_five_or_all(command: Any, tmp_path: Path) -> None:
    make_pairs(tmp_path, 7)
    some = command("data", "check", tmp_path, "--jobs", 1).stdout.decode()
    assert "and 2 more (--all)" in some
    whole = command("data", "check", tmp_path, "--all", "--jobs", 1).stdout.decode()
    assert "more (--all)" not in whole
    assert whole.count("(90 x 60)") == 7


def test_check_as_json(command: Any, photos: Path) -> None:
    done = command("data", "check", photos, "--json", "--jobs", 1)
    report = json.loads(done.stdout)
    assert done.status == 1
    assert report["sets"][0]["count"] == 3
    (small,) = report["findings"]
    assert (small["kind"], small["count"], len(small["files"])) == ("small", 3, 3)


@pytest.mark.parametrize("suffix", [".html", ".png"])
def test_check_writes_a_sheet(command: Any, photos: Path, tmp_path: Path, suffix: str) -> None:
    sheet = tmp_path / f"sheet{suffix}"
    done = command("data", "check", photos, "--sheet", sheet, "--jobs", 1)
    assert done.status == 1
    assert sheet.stat().st_size > 1000
    assert f"Wrote {sheet}" in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("nowhere",), "there is no folder 'nowhere'"),
        ((".", "--task", "other"), "choose segmentation or matting"),
        ((".", "--sheet", "a.pdf"), "end it in .html or .png"),
        ((".", "--ignore", "typo"), "--ignore is 'typo'"),
    ],
)
def test_wrong_commands_exit_2(command: Any, words: tuple[str, ...], message: str) -> None:
    done = command("data", "check", *words)
    assert done.status == 2
    assert message in " ".join(done.stderr.replace("│", " ").split())


def test_preview_shows_samples(command: Any, photos: Path, tmp_path: Path) -> None:
    target = tmp_path / "preview.png"
    words = ("--count", 10, "--size", 64, "--recipe", "dis5k:official", "-o", target)
    done = command("data", "preview", photos, *words, "--set", "data.augment.rotate=1")
    assert done.status == 0, done.stderr
    assert "10 of 3 samples of an epoch" in done.stderr
    picture = np.array(Image.open(target))
    assert picture.shape == (2 * (128 + 6), 8 * (64 + 6), 3)
    assert picture[:64, :64].std() > 5
    assert command("data", "preview", photos, "-o", tmp_path / "a.jpg").status == 2
    unknown = command("data", "preview", photos, "-o", target, "--set", "data.augment.turn=1")
    assert unknown.status == 2
    assert "data.augment.turn" in unknown.stderr
