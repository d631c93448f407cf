"""Folders: pairing, strictness, what is said of odd files, and equal numbers whatever the jobs."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from birefnet.errors import BiRefNetError, ImageError
from birefnet.evaluation import evaluate_pair
from birefnet.evaluation.compare import FEWEST, bootstrap
from birefnet.evaluation.dataset import evaluate_folder
from birefnet.evaluation.masks import fit_to_truth, looks_inverted, read_mask
from birefnet.evaluation.pairing import pair_files

METRICS = ["mae", "f_measure_max", "hce"]


def scene(seed: int, height: int = 40, width: int = 56) -> tuple[np.ndarray, np.ndarray]:
    noise = np.random.default_rng(seed).standard_normal((height, width))
    field = cv2.GaussianBlur(noise, (0, 0), 4)
    truth = np.where(field > 0, 255, 0).astype(np.uint8)
    return (255 / (1 + np.exp(-40 * field - 0.5 * noise))).astype(np.uint8), truth


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    for seed in range(5):
        prediction, truth = scene(seed)
        save(tmp_path / "prediction" / f"{seed}.png", prediction)
        save(tmp_path / "truth" / "deep" / f"{seed}.bmp", truth)
    return tmp_path / "prediction", tmp_path / "truth"


def test_numbers_are_those_of_the_pairs_with_any_number_of_jobs(
    folders: tuple[Path, Path],
) -> None:
    alone = evaluate_folder(*folders, metrics=METRICS)
    assert [image.files.name for image in alone.images] == [f"deep/{seed}" for seed in range(5)]
    for seed, image in enumerate(alone.images):
        expected = evaluate_pair(*scene(seed), metrics=METRICS)
        assert image.values == {name: expected[name] for name in METRICS}
    together = evaluate_folder(*folders, metrics=METRICS, jobs=2)
    assert together.values == alone.values
    assert alone.values["hce"] == np.mean([image.values["hce"] for image in alone.images])


def test_progress_counts_up(folders: tuple[Path, Path]) -> None:
    seen: list[tuple[int, int]] = []
    evaluate_folder(*folders, metrics="mae", progress=lambda *step: seen.append(step))
    assert seen == [(step, 5) for step in range(1, 6)]


def test_a_missing_prediction_is_named_or_counts_as_black(folders: tuple[Path, Path]) -> None:
    (folders[0] / "3.png").unlink()
    with pytest.raises(BiRefNetError, match=r"lacks 1 of 5 predictions \(deep/3\)"):
        evaluate_folder(*folders, metrics=METRICS)
    result = evaluate_folder(*folders, metrics=METRICS, missing="black")
    truth = scene(3)[1]
    assert result.images[3].values["mae"] == pytest.approx((truth > 128).mean())
    assert result.warnings == [
        "Files that are missing or unreadable predictions, counted as all black: 1."
    ]


def test_what_cannot_be_scored_is_listed_and_the_others_count(folders: tuple[Path, Path]) -> None:
    whole = evaluate_folder(*folders, metrics=METRICS)
    (folders[0] / "0.png").unlink()
    (folders[0] / "0.png").symlink_to("nowhere")
    (folders[0] / "1.png").write_bytes(b"\x89PNG\r\n\x1a\n no picture")
    save(folders[0] / "2.png", np.zeros((64, 64), np.uint8))  # another aspect
    (folders[1] / "deep" / "3.bmp").write_bytes(b"")
    result = evaluate_folder(*folders, metrics=METRICS)
    assert list(result.failed) == ["deep/0", "deep/1", "deep/2", "deep/3"]
    assert "1.png" in result.failed["deep/1"]
    assert "another aspect" in result.failed["deep/2"]
    assert "3.bmp" in result.failed["deep/3"]
    assert result.values == whole.images[4].values
    assert evaluate_folder(*folders, metrics=METRICS, jobs=2).failed == result.failed
    black = evaluate_folder(*folders, metrics=METRICS, missing="black")
    assert list(black.failed) == ["deep/2", "deep/3"]  # only a prediction can count as black


def test_nothing_scored_is_an_error(folders: tuple[Path, Path]) -> None:
    for seed in range(5):
        (folders[0] / f"{seed}.png").write_bytes(b"no picture")
    with pytest.raises(BiRefNetError, match=r"none of 5 pairs can be scored: .*0\.png"):
        evaluate_folder(*folders, metrics=METRICS)


def test_a_missing_prediction_may_be_left_out(folders: tuple[Path, Path]) -> None:
    (folders[0] / "3.png").unlink()
    result = evaluate_folder(*folders, metrics=METRICS, missing="skip")
    assert list(result.failed) == ["deep/3"]
    assert len(result.images) == 4


def test_predictions_without_truth_are_told(folders: tuple[Path, Path]) -> None:
    save(folders[0] / "stray.png", scene(0)[0])
    result = evaluate_folder(*folders, metrics="mae")
    assert result.warnings == ["1 prediction without ground truth: stray."]


def test_inverted_predictions_are_warned_of(folders: tuple[Path, Path]) -> None:
    for seed in range(5):
        save(folders[0] / f"{seed}.png", 255 - scene(seed)[0])
    result = evaluate_folder(*folders, metrics="mae")
    assert result.warnings == ["Files that seem inverted (the object should be white): 5."]
    assert not looks_inverted((0, 0, 60, 40))  # an empty prediction is not an inverted one


def test_predictions_are_resized_bilinearly(folders: tuple[Path, Path]) -> None:
    small = {seed: cv2.resize(scene(seed)[0], (28, 20)) for seed in range(5)}
    for seed, prediction in small.items():
        save(folders[0] / f"{seed}.png", prediction)
    result = evaluate_folder(*folders, metrics="mae")
    resized = cv2.resize(small[2], (56, 40), interpolation=cv2.INTER_LINEAR)
    expected = evaluate_pair(resized, scene(2)[1], metrics="mae")
    assert result.images[2].values == expected


def test_another_aspect_is_not_resized(folders: tuple[Path, Path]) -> None:
    save(folders[0] / "0.png", np.zeros((64, 64), np.uint8))
    failed = evaluate_folder(*folders, metrics="mae").failed
    assert "is 64 x 64, but its ground truth is 56 x 40, another aspect" in failed["deep/0"]
    # One pixel of rounding is the same aspect.
    assert fit_to_truth(np.zeros((13, 19), np.uint8), 40, 56, "x").shape == (40, 56)


def test_same_names_in_subfolders_are_told_apart(tmp_path: Path) -> None:
    for part in ("prediction", "truth"):
        for folder in ("cats", "dogs"):
            save(tmp_path / part / folder / "1.png", np.zeros((4, 4), np.uint8))
    pairs, extra = pair_files(tmp_path / "prediction", tmp_path / "truth")
    assert [str(files.prediction.parent.name) for files in pairs] == ["cats", "dogs"]
    assert extra == []
    (tmp_path / "prediction" / "dogs" / "1.png").unlink()
    pairs, _ = pair_files(tmp_path / "prediction", tmp_path / "truth")
    assert pairs[1].prediction is None  # that of the cats is not taken for the dogs'


def test_two_files_for_one_truth_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "truth" / "1.png", np.zeros((4, 4), np.uint8))
    save(tmp_path / "prediction" / "a" / "1.png", np.zeros((4, 4), np.uint8))
    save(tmp_path / "prediction" / "b" / "1.png", np.zeros((4, 4), np.uint8))
    with pytest.raises(BiRefNetError, match="both match the ground truth '1'"):
        pair_files(tmp_path / "prediction", tmp_path / "truth")
    save(tmp_path / "truth" / "1.bmp", np.zeros((4, 4), np.uint8))
    with pytest.raises(BiRefNetError, match="have the same name"):
        pair_files(tmp_path / "prediction", tmp_path / "truth")


def test_folders_that_hold_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BiRefNetError, match="is not a folder"):
        pair_files(tmp_path / "nowhere", tmp_path / "nowhere")
    with pytest.raises(BiRefNetError, match="has no pictures"):
        pair_files(tmp_path, tmp_path)


def test_masks_of_odd_modes(tmp_path: Path) -> None:
    prediction, truth = scene(0)
    path = tmp_path / "mask.png"

    colour = np.stack([truth, truth, 255 - truth], axis=-1)
    save(path, colour)
    with pytest.raises(ImageError, match="is a colour picture"):
        read_mask(path)

    for levels in (truth // 255, (truth // 255).astype(np.uint16), (truth > 0) * np.uint16(255)):
        Image.fromarray(levels).save(path)
        assert read_mask(path).levels.max() <= 1  # a prediction is what it is
        read = read_mask(path, is_truth=True)
        assert np.array_equal(read.levels, truth)
        assert "levels 0 and 1" in read.notes[-1] or "no level above 255" in read.notes[-1]
    Image.fromarray(prediction.astype(np.uint16)).save(path)
    assert np.array_equal(read_mask(path, is_truth=True).levels, prediction)

    save(path, np.dstack([colour, prediction]))  # a cut-out
    assert np.array_equal(read_mask(path).levels, prediction)
    assert "alpha channel, which was taken" in read_mask(path).notes[0]

    save(path, np.dstack([truth, truth, truth, prediction]))  # a grey mask that has alpha too
    assert np.array_equal(read_mask(path).levels, truth)
    assert "alpha channel, which was ignored" in read_mask(path).notes[0]
    assert np.array_equal(read_mask(path, channel="alpha").levels, prediction)

    save(path, np.dstack([np.full_like(prediction, 255)] * 3 + [prediction]))
    assert np.array_equal(read_mask(path).levels, prediction)

    Image.fromarray(prediction.astype(np.uint16) * 257).save(path)
    assert np.array_equal(read_mask(path).levels, prediction)
    assert read_mask(path).notes == ("have 16 bits and were rounded to 8",)

    Image.fromarray(truth > 128).save(path)  # mode 1
    assert np.array_equal(read_mask(path).levels, truth)
    with pytest.raises(BiRefNetError, match="channel came as 'red'"):
        read_mask(path, channel="red")  # type: ignore[arg-type]


def test_trimaps_narrow_the_matting_metrics(folders: tuple[Path, Path], tmp_path: Path) -> None:
    for seed in range(5):
        truth = scene(seed)[1]
        trimap = truth.copy()
        trimap[:, :20] = 128
        save(tmp_path / "trimap" / f"{seed}.png", trimap)
    result = evaluate_folder(*folders, metrics="sad", trimap=tmp_path / "trimap")
    prediction, truth = (array[:, :20] / 255 for array in scene(4))
    assert result.images[4].values["sad"] == pytest.approx(np.abs(prediction - truth).sum() / 1000)
    assert not result.warnings
    save(tmp_path / "trimap" / "2.png", np.full_like(trimap, 127))
    result = evaluate_folder(*folders, metrics="sad", trimap=tmp_path / "trimap")
    assert result.warnings[0].startswith("Files that have a trimap with no pixel of 128")
    (tmp_path / "trimap" / "2.png").unlink()
    with pytest.raises(BiRefNetError, match="lacks 1 of 5 trimaps"):
        evaluate_folder(*folders, metrics="sad", trimap=tmp_path / "trimap")


def test_bootstrap_of_a_method_against_a_worse_one(
    tmp_path: Path,
) -> None:
    folders = tmp_path / "prediction", tmp_path / "truth"
    for seed in range(12):
        prediction, truth = scene(seed)
        save(folders[0] / f"{seed}.png", prediction)
        save(folders[1] / f"{seed}.png", truth)
        blurred = cv2.GaussianBlur(scene(seed)[0], (0, 0), 3)
        save(tmp_path / "worse" / f"{seed}.png", blurred)
    good = evaluate_folder(*folders, metrics=METRICS, keep_curves=True)
    worse = evaluate_folder(tmp_path / "worse", folders[1], metrics=METRICS, keep_curves=True)
    for column, sign in (("mae", -1), ("f_measure_max", 1), ("hce", -1)):
        found = bootstrap(good, worse, column, resamples=300)
        assert found.value == pytest.approx(good.values[column] - worse.values[column], abs=1e-12)
        assert found.count == 12
        assert found.low <= found.value <= found.high
        if column != "hce":
            assert found.is_clear
            assert np.sign(found.low) == np.sign(found.high) == sign
    same = bootstrap(good, good, "mae", resamples=50)
    assert (same.low, same.high, same.is_clear) == (0, 0, False)
    with pytest.raises(BiRefNetError, match="keep_curves"):
        bootstrap(*[evaluate_folder(*folders, metrics=METRICS)] * 2, "f_measure_max")


@pytest.mark.parametrize("count", [0, 1, 2, FEWEST - 1, FEWEST])
def test_few_pictures_give_no_interval(tmp_path: Path, count: int) -> None:
    """So many were scored for both; the others could be read in one folder only."""
    folders = [tmp_path / name for name in ("good", "worse", "truth")]
    for seed in range(FEWEST + 2):
        prediction, truth = scene(seed)
        for folder, mask in zip(folders, (prediction, prediction // 2, truth), strict=True):
            save(folder / f"{seed:02}.png", mask)
        if seed >= count:
            (folders[seed % 2] / f"{seed:02}.png").write_bytes(b"no picture")
    good, worse = (evaluate_folder(one, folders[2], metrics="iou") for one in folders[:2])
    found = bootstrap(good, worse, "iou", resamples=20)
    assert found.count == count
    assert np.isfinite(found.low) == np.isfinite(found.high) == (count >= FEWEST)
    assert found.is_clear == (count >= FEWEST)
    assert np.isfinite(found.value) == (count > 0)
    if count:
        both = [[one.values["iou"] for one in side.images[:count]] for side in (good, worse)]
        assert found.value == pytest.approx(np.mean(both[0]) - np.mean(both[1]))
