"""A pack holds smaller copies of the pictures to train on: exact masks, near colours."""

from __future__ import annotations

import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from birefnet.training.data.opening import open_source
from birefnet.training.data.render import premultiplied
from tools.nano import pack
from tools.nano.split import split


def test_unpacked_it_is_a_smaller_copy(
    nano_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, small = tmp_path / "split", tmp_path / "small"
    split(nano_data, whole)
    pack.main([str(whole), str(tmp_path / "p"), "--parts", "2"])
    assert capsys.readouterr().out.count("MiB") == 2
    for part in (1, 2):
        zipfile.ZipFile(tmp_path / f"p.{part}.zip").extractall(small)
    for folder in ("photos/cats", "cutouts/renders", "backgrounds"):
        ours, theirs = (open_source(str(root / "train" / folder)) for root in (small, whole))
        assert (ours.kind, len(ours)) == (theirs.kind, len(theirs)) != (ours.kind, 0)
        for index in range(len(ours)):
            assert ours.name_of(index) == theirs.name_of(index)
            one, other = ours.read(index), theirs.read(index)
            if ours.kind == "cutouts":  # colours that nobody sees are not kept
                one, other = premultiplied(one), premultiplied(other)
            near, exact = (cv2.blur(pixels[..., :3], (9, 9)).astype(int) for pixels in (one, other))
            assert np.abs(near - exact).mean() < 8
            if one.shape[2] == 4:
                np.testing.assert_array_equal(one[..., 3], other[..., 3])


def test_pictures_are_shrunk(nano_data: Path, tmp_path: Path) -> None:
    split(nano_data, tmp_path / "split")
    (packed,) = pack.pack(tmp_path / "split", tmp_path / "p", longest=24)
    zipfile.ZipFile(packed).extractall(tmp_path)
    assert max(open_source(str(tmp_path / "train/photos/cats")).read(0).shape) == 24
