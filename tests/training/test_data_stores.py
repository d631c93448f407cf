"""Hugging Face data sets and WebDataset shards, written to disk and read back."""

from __future__ import annotations

import io
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from birefnet.errors import MissingExtraError
from birefnet.training.data.dataset import build_dataset
from birefnet.training.data.findings import check
from birefnet.training.data.findings_report import write_html
from birefnet.training.data.folders import DataError
from birefnet.training.data.opening import open_source
from birefnet.training.data.settings import DataSettings
from data_sets import cutout, make_pairs, photo


def encoded(pixels: NDArray, format: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format)
    return buffer.getvalue()


def write_shard(path: Path, files: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Three shards of two pairs each, JPEG and PNG."""
    for number in range(3):
        files = {}
        for i in range(2):
            rgb, truth = photo(2 * number + i)
            key = f"set/p{2 * number + i}"
            files |= {f"{key}.png": encoded(truth), f"{key}.jpg": encoded(rgb, "JPEG"),
                      f"{key}.json": b"{}"}  # fmt: skip
        write_shard(tmp_path / f"s-{number:03}.tar", files)
    return tmp_path


def test_shards_are_read_in_any_order(shards: Path) -> None:
    pytest.importorskip("braceexpand")
    source = open_source(f"wds:{shards}/s-{{000..002}}.tar")
    assert (source.kind, len(source)) == ("pairs", 6)
    for index in (5, 0, 3):
        assert source.name_of(index) == f"set/p{index}"
        pixels = source.read(index)
        np.testing.assert_array_equal(pixels[..., 3], photo(index)[1])
        assert np.abs(pixels[..., :3].astype(int) - photo(index)[0]).mean() < 6


def test_shards_name_their_members(shards: Path, tmp_path: Path) -> None:
    shard = tmp_path / "other.tar"
    rgb, truth = photo(0)
    write_shard(shard, {"a.image.webp": encoded(rgb, "WEBP"), "a.alpha.png": encoded(truth),
                        "a.trimap.png": encoded(truth)})  # fmt: skip
    with pytest.raises(DataError, match="name the picture and its mask"):
        open_source(f"wds:{shard}")
    source = open_source(f"wds:{shard}?image=image.webp&mask=alpha.png")
    np.testing.assert_array_equal(source.read(0)[..., 3], truth)
    with pytest.raises(DataError, match=r"have no \.gt\.png"):
        open_source(f"wds:{shard}?mask=gt.png")
    with pytest.raises(DataError, match="asks for 'masks'"):
        open_source(f"wds:{shard}?masks=x")


def test_shards_of_cutouts(tmp_path: Path) -> None:
    write_shard(tmp_path / "c.tar", {f"c{i}.png": encoded(cutout(i)) for i in range(3)})
    source = open_source(f"wds:{tmp_path / 'c.tar'}?cutout=png")
    assert source.kind == "cutouts"
    np.testing.assert_array_equal(source.read(2)[..., 3], cutout(2)[..., 3])


def test_broken_shards_say_so(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no shard"):
        open_source(f"wds:{tmp_path / 'none.tar'}")
    with pytest.raises(DataError, match="not on this disk"):
        open_source("wds:https://example.org/a.tar")
    (tmp_path / "a.tar").write_bytes(b"no tar at all" * 100)
    with pytest.raises(DataError, match="cannot be read as an uncompressed tar"):
        open_source(f"wds:{tmp_path / 'a.tar'}")
    rgb, truth = photo(0)
    write_shard(tmp_path / "b.tar", {"a.jpg": encoded(rgb, "JPEG"), "a.png": encoded(truth),
                                     "b.jpg": encoded(rgb, "JPEG")})  # fmt: skip
    with pytest.raises(DataError, match=r"1 of 2 samples .* is b in .* lacks \.png"):
        open_source(f"wds:{tmp_path / 'b.tar'}")


def test_a_pattern_without_the_extra(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "braceexpand", None)
    with pytest.raises(MissingExtraError, match=r"birefnet\[data\]"):
        open_source(f"wds:{shards}/s-{{000..002}}.tar")
    assert len(open_source(f"wds:{shards}/s-000.tar")) == 2


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A data set with two splits, saved to disk: pictures as features, one with EXIF."""
    datasets = pytest.importorskip("datasets")
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = io.BytesIO()
    rgb, truth = photo(0)
    Image.fromarray(rgb).save(turned, "JPEG", quality=95, exif=exif)
    upright = np.ascontiguousarray(np.rot90(truth, -1))
    rows = {
        "image": [{"bytes": turned.getvalue(), "path": None}]
        + [{"bytes": encoded(photo(i)[0]), "path": None} for i in range(1, 4)],
        "mask": [{"bytes": encoded(upright), "path": None}]
        + [{"bytes": encoded(photo(i)[1]), "path": None} for i in range(1, 4)],
        "file_name": [f"1#A#1#C{i}#x" for i in range(4)],
    }
    features = datasets.Features(
        image=datasets.Image(), mask=datasets.Image(), file_name=datasets.Value("string")
    )
    whole = datasets.Dataset.from_dict(rows, features=features)
    splits = datasets.DatasetDict(train=whole, test=whole.select([1]))
    splits.save_to_disk(str(tmp_path / "set"))
    return tmp_path / "set"


def test_a_saved_data_set_is_read_like_files(saved: Path) -> None:
    source = open_source(f"hf:{saved}:train")
    assert (source.kind, len(source), source.name_of(2)) == ("pairs", 4, "1#A#1#C2#x")
    np.testing.assert_array_equal(source.read(3), np.dstack(photo(3)))
    assert source.read(0).shape == (90, 60, 4)  # upright, as its EXIF says
    assert len(open_source(f"hf:{saved}:test?image=image&mask=mask")) == 1
    settings = DataSettings((f"hf:{saved}:train",), width=32, height=32, classes="dis5k")
    data = build_dataset(settings, seed=0)
    assert {data[i].label for i in range(4)} == {0, 1, 2, 3}


def test_columns_and_splits_are_named(saved: Path) -> None:
    with pytest.raises(DataError, match="has the splits train, test; name one"):
        open_source(f"hf:{saved}")
    with pytest.raises(DataError, match="has no column 'matte'; it has image, mask, file_name"):
        open_source(f"hf:{saved}:train?mask=matte")
    with pytest.raises(DataError, match="cannot be opened"):
        open_source(f"hf:{saved.parent / 'nothing'}:train")


def test_a_hub_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtraError, match=r"birefnet\[data\]"):
        open_source("hf:somebody/something:train")


def test_all_kinds_of_sources_mix(saved: Path, shards: Path, tmp_path: Path) -> None:
    make_pairs(tmp_path / "folder", 3)
    sources = (str(tmp_path / "folder"), f"hf:{saved}:train=0.5", f"wds:{shards}/s-001.tar=2")
    data = build_dataset(DataSettings(sources, width=32, height=32), seed=0)
    assert data.order.quotas == [3, 2, 4]
    data.batch((32, 32), range(9))


def test_rows_and_members_are_checked_too(saved: Path, shards: Path) -> None:
    rgb, _ = photo(9)
    write_shard(shards / "bad.tar", {"x.jpg": encoded(rgb, "JPEG"), "x.png": encoded(rgb)})
    paths = [f"hf:{saved}:train", f"wds:{shards}/bad.tar"]
    report = check(paths, smallest=50, against=[f"wds:{shards}/s-001.tar"])
    found = {f.kind.key: [item.path.name for item in f.items] for f in report.findings}
    assert [one.count for one in report.sets] == [4, 1]
    assert found["unreadable"] == ["x"]
    assert "colour picture" in report.findings[0].items[0].detail
    assert found["near-leak"] == ["1#A#1#C2#x", "1#A#1#C3#x"]  # the shards hold them as JPEG
    assert b"x in" in write_html(report)
