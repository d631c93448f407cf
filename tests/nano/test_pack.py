"""A pack holds what a store of the same data would: kinds, names, exact truths, near colours."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from discs import disc
from tools.nano import pack
from tools.nano.store import PictureStore, decode_all


@pytest.fixture
def data(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    for part in ("photos/cats/im", "photos/cats/gt", "cutouts/emoji", "backgrounds"):
        (root / part).mkdir(parents=True)
    for number in range(3):
        pixels = disc(number)
        cv2.imwrite(str(root / f"photos/cats/im/{number}.png"), pixels[..., 2::-1])
        cv2.imwrite(str(root / f"photos/cats/gt/{number}.png"), pixels[..., 3])
        cv2.imwrite(str(root / f"cutouts/emoji/e{number}.png"), pixels[..., (2, 1, 0, 3)])
        cv2.imwrite(str(root / f"backgrounds/b{number}.png"), pixels[..., 2::-1])
    return root


def test_a_store_from_a_pack_is_that_of_the_data(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "pack.zip"
    pack.main([str(data), str(file), "--longest", "64", "--quality", "90"])
    assert capsys.readouterr().out.startswith("9 pictures, ")
    packed = PictureStore.write(pack.unpack(file), tmp_path / "packed", origin=file)
    direct = PictureStore.build(data, tmp_path / "direct", longest=64)
    assert packed.entries == direct.entries
    for entry in direct.entries:
        ours, theirs = packed.pixels(entry), direct.pixels(entry)
        # Also outside the truth, where a picture format may drop colours that nobody sees.
        near, exact = (cv2.blur(pixels[..., :3], (9, 9)).astype(int) for pixels in (ours, theirs))
        assert np.abs(near - exact).mean() < 5
        if entry.channels == 4:
            np.testing.assert_array_equal(ours[..., 3], theirs[..., 3])


def test_pictures_are_shrunk(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "pack.zip"
    assert pack.pack(data, file, longest=24) == len(list(decode_all(data, 24)))
    assert (
        max(max(pixels.shape[:2]) for kind, _, pixels in pack.unpack(file) if kind != "backgrounds")
        == 24
    )


def test_what_is_no_pack_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("no zip")
    with pytest.raises(ValueError, match="is no pack; write one"):
        list(pack.unpack(tmp_path / "a.txt"))
