"""Every finding of `check`, on sets with one defect each, and none on clean ones."""

from __future__ import annotations

import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from birefnet.training.data.findings import KINDS, CheckReport, check
from birefnet.training.data.findings_report import write_html, write_png
from birefnet.training.data.folders import DataError
from birefnet.training.data.inspection import PerceptualHash, mask_facts, perceptual_hash
from birefnet.training.data.near_duplicates import _count_bits, duplicates_within
from data_sets import cutout, photo, save


def scene(seed: int, side: int = 300) -> tuple[NDArray, NDArray]:
    """A large picture unlike the others, and a soft truth away from the border."""
    rng = np.random.default_rng(seed)
    rough = rng.integers(0, 255, (7, 7, 3), dtype=np.uint8)
    rgb = cv2.resize(rough, (side, side), interpolation=cv2.INTER_CUBIC)
    truth = np.zeros((side, side), np.uint8)
    centre = (int(rng.integers(100, 200)), int(rng.integers(100, 200)))
    cv2.ellipse(truth, centre, (70, 40), int(rng.integers(180)), 0, 360, 255, -1)
    return rgb, np.asarray(cv2.GaussianBlur(truth, (0, 0), 1.5), np.uint8)


@pytest.fixture
def clean(tmp_path: Path) -> Path:
    for i in range(8):
        rgb, truth = scene(i)
        save(tmp_path / "set" / "im" / f"{i}.jpg", rgb, quality=90)
        save(tmp_path / "set" / "gt" / f"{i}.png", truth)
    return tmp_path / "set"


def found(report: CheckReport) -> dict[str, list[str]]:
    return {f.kind.key: [item.path.name for item in f.items] for f in report.findings}


@pytest.mark.parametrize("task", ["segmentation", "matting"])
def test_a_clean_set_has_no_findings(clean: Path, task: str) -> None:
    report = check([str(clean)], task=task)  # type: ignore[arg-type]
    assert report.is_clean, [str(finding) for finding in report.findings]
    (one,) = report.sets
    assert (one.kind, one.count, one.sizes, one.soft) == ("pairs", 8, (300, 300, 300), 1.0)
    assert 0.05 < one.share < 0.2


def spoil_mask(key: str, truth: NDArray) -> NDArray:
    hard = np.where(truth > 127, 255, 0).astype(np.uint8)
    trimap = hard.copy()
    trimap[cv2.dilate(hard, np.ones((25, 25))) > hard] = 128
    return {
        "colour-truth": np.dstack([truth, truth // 2, truth // 3]),
        "wrong-size": np.ascontiguousarray(truth[:, :150]),
        "inverted": 255 - truth,
        "levels-0-1": (hard // 255).astype(np.uint8),
        "odd-levels": trimap,
        "binary-matte": hard,
        "empty": np.zeros_like(truth),
        "full": np.full_like(truth, 255),
    }[key]


@pytest.mark.parametrize(
    "key",
    ["colour-truth", "wrong-size", "inverted", "levels-0-1", "odd-levels", "binary-matte", "empty",
     "full"],
)  # fmt: skip
def test_defects_of_a_mask(clean: Path, key: str) -> None:
    save(clean / "gt" / "3.png", spoil_mask(key, scene(3)[1]))
    task = "matting" if key == "binary-matte" else "segmentation"
    report = check([str(clean)], task=task)  # type: ignore[arg-type]
    assert found(report) == {key: ["3.png"]}
    assert check([str(clean)], task=task, ignore=[key]).is_clean  # type: ignore[arg-type]


def test_hard_edges_are_fine_for_segmentation(clean: Path) -> None:
    save(clean / "gt" / "3.png", spoil_mask("binary-matte", scene(3)[1]))
    assert check([str(clean)]).is_clean


def test_a_set_that_is_inverted_throughout(clean: Path) -> None:
    for i in range(8):
        truth = 255 - scene(i)[1]
        truth[:60] = 0  # so that single masks leave a doubt
        save(clean / "gt" / f"{i}.png", truth)
    assert len(found(check([str(clean)]))["inverted"]) == 8


def test_a_subject_that_fills_the_frame_is_not_inverted(clean: Path) -> None:
    truth = np.full((300, 300), 255, np.uint8)
    truth[:120] = 0
    save(clean / "gt" / "3.png", cv2.GaussianBlur(truth, (0, 0), 2))
    assert check([str(clean)]).is_clean


def test_unmatched_files(clean: Path) -> None:
    (clean / "gt" / "2.png").rename(clean / "gt" / "other.png")
    save(clean / "im" / "5.png", scene(99)[0])
    assert found(check([str(clean)])) == {
        "no-truth": ["2.jpg"], "no-picture": ["other.png"], "name-clash": ["5.png"],
    }  # fmt: skip


def test_unreadable_files(clean: Path) -> None:
    whole = (clean / "im" / "1.jpg").read_bytes()
    (clean / "im" / "1.jpg").write_bytes(whole[: len(whole) // 2])
    (clean / "gt" / "2.png").write_bytes(b"")
    report = check([str(clean)])
    assert found(report) == {"unreadable": ["1.jpg", "2.png"]}
    assert all(item.detail for item in report.findings[0].items)


def test_a_mask_drawn_before_the_exif_rotation(clean: Path) -> None:
    rgb, truth = scene(20)
    exif = Image.Exif()
    exif[0x0112] = 8
    save(clean / "im" / "x.jpg", np.ascontiguousarray(rgb[:260]), exif=exif)
    save(clean / "gt" / "x.png", np.ascontiguousarray(truth[:260]))
    assert found(check([str(clean)])) == {"turned": ["x.png"]}


def test_masks_through_jpeg(clean: Path) -> None:
    hard = spoil_mask("binary-matte", scene(3)[1])
    (clean / "gt" / "3.png").unlink()
    jpeg = save(clean / "gt" / "3.jpg", hard, quality=60)
    assert found(check([str(clean)])) == {"jpeg-truth": ["3.jpg"]}
    save(clean / "gt" / "3.png", np.array(Image.open(jpeg)))
    jpeg.unlink()
    assert found(check([str(clean)])) == {"jpeg-truth": ["3.png"]}


def test_copies_and_leaks(clean: Path, tmp_path: Path) -> None:
    for part in ("im", "gt"):
        (tmp_path / "test" / part).mkdir(parents=True)
    exact = (clean / "im" / "1.jpg").read_bytes()
    (clean / "im" / "copy.jpg").write_bytes(exact)
    (tmp_path / "test" / "im" / "t.jpg").write_bytes((clean / "im" / "4.jpg").read_bytes())
    smaller = cv2.resize(np.array(Image.open(clean / "im" / "6.jpg")), (270, 280))
    save(tmp_path / "test" / "im" / "u.png", smaller)
    warmer = np.clip(scene(2)[0] * [1.1, 1.0, 0.85] + 8, 0, 255).astype(np.uint8)
    save(clean / "im" / "warmer.jpg", warmer, quality=60)
    for name, seed in (("copy", 1), ("warmer", 2)):
        save(clean / "gt" / f"{name}.png", scene(seed)[1])
    for name in ("t", "u"):
        save(tmp_path / "test" / "gt" / f"{name}.png", scene(4)[1])
    report = check([str(clean)], against=[str(tmp_path / "test")])
    assert found(report) == {
        "leak": ["4.jpg"], "near-leak": ["6.jpg"], "duplicate": ["copy.jpg"],
        "near-duplicate": ["warmer.jpg"],
    }  # fmt: skip


def test_cutouts_and_alpha(clean: Path, tmp_path: Path) -> None:
    for i in range(3):
        save(tmp_path / "cutouts" / f"{i}.png", cv2.resize(cutout(i), (300 + 40 * i, 300)))
    save(tmp_path / "cutouts" / "opaque.png", scene(30)[0])
    report = check([str(tmp_path / "cutouts")], ignore=["near-duplicate"])
    assert found(report) == {"no-alpha": ["opaque.png"]}
    rgb, truth = scene(3)
    (clean / "im" / "3.jpg").unlink()
    save(clean / "im" / "3.png", np.dstack([rgb, truth]))
    assert found(check([str(clean)])) == {"alpha-picture": ["3.png"]}


def test_small_pictures(clean: Path) -> None:
    rgb, truth = photo(0)
    save(clean / "im" / "s.png", rgb)
    save(clean / "gt" / "s.png", truth)
    assert found(check([str(clean)])) == {"small": ["s.png"]}
    assert check([str(clean)], smallest=60).is_clean


def test_many_processes_see_the_same(clean: Path) -> None:
    for key, name in (("inverted", "1"), ("full", "6")):
        save(clean / "gt" / f"{name}.png", spoil_mask(key, scene(0)[1]))
    calls: list[tuple[int, int]] = []
    report = check([str(clean)], jobs=2, progress=lambda done, total: calls.append((done, total)))
    assert found(report) == found(check([str(clean)]))
    assert calls == [(i, 8) for i in range(1, 9)]


def test_wrong_arguments(tmp_path: Path, clean: Path) -> None:
    with pytest.raises(DataError, match="there is no folder"):
        check([str(tmp_path / "nothing")])
    with pytest.raises(DataError, match="there is no finding 'typo'"):
        check([str(clean)], ignore=["typo"])


def test_findings_read_as_sentences(clean: Path) -> None:
    for i in range(2):
        save(clean / "gt" / f"{i}.png", np.zeros((300, 300), np.uint8))
    (finding,) = check([str(clean)]).findings
    assert str(finding).startswith("2 empty masks: correct if there is no subject")
    for kind in KINDS.values():
        words = dict.fromkeys(("picture", "mask", "file", "copy", "is", "cutout"), "x")
        assert "{" not in kind.sentence.format(n=1, **words)
        assert kind.cure
        assert not kind.cure.endswith(".")


def test_plain_pictures_are_not_each_other_s_copies() -> None:
    hashes = [perceptual_hash(np.full((64, 64, 3), level, np.uint8)) for level in (20, 120, 220)]
    assert duplicates_within(hashes) == []
    assert [t.is_exact for t in duplicates_within([hashes[0], hashes[0]])] == [True]


def test_thousands_are_compared_in_seconds() -> None:
    bits = np.random.default_rng(0).integers(0, 2**63, 5000, dtype=np.uint64)
    hashes = [PerceptualHash(bytes(8), one, np.zeros(576, np.float16)) for one in bits]
    start = time.perf_counter()
    assert duplicates_within(hashes) == []
    assert time.perf_counter() - start < 5


def test_bits_are_counted_without_numpy_2_too(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(1).integers(0, 2**63, 200, dtype=np.uint64)
    expected = [int(value).bit_count() for value in values]
    monkeypatch.delattr(np, "bitwise_count", raising=False)
    assert _count_bits(values).tolist() == expected


def test_the_documents_explain_every_finding() -> None:
    text = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
    for kind in KINDS.values():
        assert f"| `{kind.key}` |" in text
        assert f"| {kind.cure} |" in text


def test_numbers_of_a_mask() -> None:
    levels = np.zeros((100, 100), np.uint8)
    levels[20:80, 20:80] = 255
    levels[20:80, 50:60] = 128
    facts = mask_facts(levels)
    assert facts.share == pytest.approx(0.30 + 0.06 * 128 / 255, abs=1e-6)
    assert facts.between == pytest.approx(0.06)
    assert facts.areas == pytest.approx(54 * 4 / 10_000)  # 54 x 4 of 60 x 10
    assert (facts.border, facts.smeared, facts.levels) == (0, 0, (128,))


def test_sheets_show_examples_of_everything(clean: Path) -> None:
    save(clean / "gt" / "1.png", spoil_mask("inverted", scene(1)[1]))
    (clean / "im" / "2.jpg").write_bytes(b"nothing")
    (clean / "gt" / "4.png").unlink()
    report = check([str(clean)])
    page = write_html(report).decode()
    for finding in report.findings:
        assert finding.title in page
        assert finding.advice in page
    assert page.count("data:image/jpeg;base64,") == 4  # image and truth, a truth, a picture
    import io

    picture = Image.open(io.BytesIO(write_png(report)))
    assert picture.width > 1000
    assert picture.height > 600
    assert np.array(picture).std() > 10
    assert b"Nothing was found" in write_html(CheckReport("segmentation"))
    assert write_png(CheckReport("segmentation"))[:4] == b"\x89PNG"
