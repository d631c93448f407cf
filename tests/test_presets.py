"""Presets: each is a line of options, in the program and in a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from birefnet.cli.remove.command import line_of
from birefnet.errors import BiRefNetError
from birefnet.imaging.picture import Picture
from birefnet.matte import Matte
from birefnet.options import Options
from birefnet.presets import PRESETS, find_preset, options_of, read_presets


def disc(side: int = 96, dtype: type = np.uint8) -> Matte:
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    alpha = np.clip(side / 4 - np.hypot(y, x), 0, 1).astype(np.float32)
    pixels = np.full((side, side, 3), np.iinfo(dtype).max // 3, dtype)
    return Matte(alpha, Picture(pixels))


@pytest.mark.parametrize("name", PRESETS)
def test_presets_make_sense(name: str) -> None:
    options = options_of(PRESETS[name]).prepared()
    matte = options.finish(disc())
    assert options.format is not None
    assert options.encode(matte, options.format)


def test_what_is_given_comes_before_the_preset() -> None:
    options = options_of(PRESETS["shop"], {"background": "navy", "format": None})
    assert (options.background, options.format, options.crop) == ("navy", None, True)


def test_a_line_says_a_preset() -> None:
    preset = {"boxes": ["0,0,1,1"], "refine": False, "crop": True, "crop_margin": "5%"}
    assert line_of(preset) == "--box 0,0,1,1 --no-refine --crop --crop-margin 5%"
    assert options_of(preset).boxes == ("0,0,1,1",)


def test_own_presets_come_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "presets.toml"
    path.write_text('[shop]\nbackground = "#f4f4f4"\n[plain]\nboxes = ["0,0,9,9"]\n')
    found = read_presets(path)
    assert set(found) == {*PRESETS, "plain"}
    assert found["shop"] == {"background": "#f4f4f4"}
    assert find_preset("plain", found) == {"boxes": ["0,0,9,9"]}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[a]\ncolor = 1", "[a]: 'color' is not an option; choose from"),
        ('[a]\nmatting = "hard"', "[a]: matting is 'hard'; choose one of"),
        ("[a]\nband = 3", "[a]: band does nothing without"),
        ("[a]\nboxes = 3", "[a]: boxes is 3; give a list of texts"),
        ('[a]\ncrop = "yes"', "[a]: crop is 'yes'; give true or false"),
        ("crop = true", "crop is outside a preset"),
        ("[a\n", "is not a TOML file"),
        (None, "cannot be read"),
    ],
)
def test_files_that_make_no_sense(text: str | None, words: str, tmp_path: Path) -> None:
    path = tmp_path / "presets.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(BiRefNetError) as caught:
        read_presets(path)
    assert words in str(caught.value)
    assert str(path) in str(caught.value)


def test_no_such_preset() -> None:
    with pytest.raises(BiRefNetError, match="no preset 'shoop'; choose one of shop, sticker"):
        find_preset("shoop", PRESETS)


# The outline


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_an_outline_is_a_round_line_of_its_width(dtype: type) -> None:
    matte = disc(96, dtype).outlined(6, "#ff0000")
    made = matte.cutout()
    top = np.iinfo(dtype).max
    y, x = np.mgrid[:96, :96] - 47.5
    radius = np.hypot(y, x)
    line = (radius > 25) & (radius < 28)
    assert (made[line] == (top, 0, 0, top)).all()
    assert (made[radius > 31, 3] == 0).all()
    assert (made[radius < 22, :3] == top // 3).all()
    # As wide in every direction: the area of the ring, to a twentieth.
    ring = made[..., 3].astype(float).sum() / top - matte.alpha.sum()
    assert ring == pytest.approx(np.pi * (29.5**2 - 23.5**2), rel=0.05)


def test_an_outline_is_a_share_of_the_subject_and_shows_beyond_the_picture() -> None:
    whole = Matte(np.ones((40, 80), np.float32), Picture(np.zeros((40, 80, 3), np.uint8)))
    matte = whole.outlined("10%", "white").cropped()
    assert matte.alpha.shape == (40 + 2 * 9, 80 + 2 * 9)  # and a pixel that fades
    assert (matte.cutout()[4, 40] == 255).all()
    assert matte.cutout()[0, 0, 3] == 0


def test_no_outline_around_nothing_and_of_no_width() -> None:
    empty = Matte(np.zeros((40, 80), np.float32), Picture(np.zeros((40, 80, 3), np.uint8)))
    assert empty.outlined("10%").outline is None
    assert disc().outlined(0).outline is None
    options = Options(outline="3", kind="mask")
    with pytest.raises(BiRefNetError, match="outline does not go with kind mask"):
        options.checked()
