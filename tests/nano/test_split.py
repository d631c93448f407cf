"""The split of nano's pictures: a tenth by name, links of the same layout, composites of it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from birefnet.training.data.dataset import build_dataset
from birefnet.training.data.settings import DataSettings
from tools.nano.split import COMPOSED, COUNT, is_held_out, main, pairs, split
from tools.nano.train import THIN, settings_for, sources


def test_a_tenth_is_held_out_by_the_stem_of_the_name_alone() -> None:
    names = [f"picture{i}.jpg" for i in range(3000)]
    assert 0.08 < np.mean([is_held_out(name) for name in names]) < 0.12
    assert all(is_held_out(name) == is_held_out(name[:-4] + ".png") for name in names[:100])


def test_recoloured_copies_of_one_photo_are_held_out_together() -> None:
    for i in range(200):
        copies = {
            is_held_out(f"group{i}_png.rf.{digest}.jpg") for digest in ("11f8", "c6f4", "f9d0")
        }
        assert copies == {is_held_out(f"group{i}_png.jpg")}


def test_the_names_that_nano_was_never_trained_on_stay_the_same() -> None:
    held_out = [i for i in range(60) if is_held_out(f"scene_{i:03d}.jpg")]
    assert held_out == [16, 44, 50]


def test_a_photo_without_a_mask_is_named(tmp_path: Path) -> None:
    for name in ("im", "gt"):
        (tmp_path / name).mkdir()
    cv2.imwrite(str(tmp_path / "im" / "lonely.png"), np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(ValueError, match=r"lonely\.png has no mask"):
        pairs(tmp_path)


def test_an_empty_root_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no pictures"):
        split(tmp_path / "nothing", tmp_path / "split")


def test_parts_share_no_picture_and_composites_are_of_the_validation_part(
    nano_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "split"
    for _ in range(2):  # again into the same folder
        main([str(nano_data), str(target)])
    files = {p.relative_to(nano_data): p for p in nano_data.rglob("*.png")}
    found = {"train": set(), "validation": set()}
    for part, paths in found.items():
        for path in (target / part).rglob("*.png"):
            assert path.resolve().is_file()
            if "scenes" not in path.parts:
                paths.add(path.relative_to(target / part))
                assert is_held_out(path.name) == (part == "validation")
    assert not found["train"] & found["validation"]
    assert found["train"] | found["validation"] == set(files)
    counts = f"{len(found['train'])} files to train on, {len(found['validation'])} for validation\n"
    assert capsys.readouterr().out == 2 * counts
    assert len(pairs(target / "train" / "scenes")) >= 1
    for name in set(COMPOSED) - {"drawings"}:  # of which there are none
        masks = [cv2.imread(str(mask), cv2.IMREAD_GRAYSCALE) for _, mask in
                 pairs(target / "composed" / name)]  # fmt: skip
        assert len(masks) == COUNT
        assert (max(mask.max() for mask in masks) == 0) == (name == "empty")


def test_the_mixture_has_the_kinds_that_are_there(nano_data: Path, tmp_path: Path) -> None:
    split(nano_data, tmp_path)
    named = sources(tmp_path / "train")
    assert [Path(name.split("=")[0]).name for name in named] == ["cats", "renders", THIN]
    shares = [float(name.split("=")[1].rstrip("%")) for name in named]
    assert sum(shares) == pytest.approx(100, abs=0.01)
    data = build_dataset(
        settings_for(tmp_path / "train", DataSettings(width=64, height=64)), seed=1
    )
    drawn = {data[number].name for number in range(150)}
    assert not any(is_held_out(name) for name in drawn if name[0] in "pr")
    assert len(drawn) > 40
    with pytest.raises(ValueError, match="holds no photos and no cut-outs"):
        sources(tmp_path / "elsewhere")
