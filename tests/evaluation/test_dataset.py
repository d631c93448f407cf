"""Folders: pairing, strictness, what is said of odd files, and equal numbers whatever the jobs."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from birefnet.errors import BiRefNetError, ImageError
from birefnet.evaluation import evaluate_pair
from birefnet.evaluation.compare import bootstrap
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
        "1 of the files are missing or unreadable predictions, counted as all black."
    ]


def test_an_unreadable_prediction_is_named(folders: tuple[Path, Path]) -> None:
    (folders[0] / "1.png").write_bytes(b"\x89PNG\r\n\x1a\n no picture")
    with pytest.raises(BiRefNetError, match=r"1 of 5 pairs cannot be evaluated: .*1\.png"):
        evaluate_folder(*folders, metrics=METRICS)
    evaluate_folder(*folders, metrics=METRICS, missing="black")


def test_predictions_without_truth_are_told(folders: tuple[Path, Path]) -> None:
    save(folders[0] / "stray.png", scene(0)[0])
    result = evaluate_folder(*folders, metrics="mae")
    assert result.warnings == ["1 predictions have no truth: stray."]


def test_inverted_predictions_are_warned_of(folders: tuple[Path, Path]) -> None:
    for seed in range(5):
        save(folders[0] / f"{seed}.png", 255 - scene(seed)[0])
    result = evaluate_folder(*folders, metrics="mae")
    assert result.warnings == ["5 of the files look inverted: the object should be white."]
    assert not looks_inverted((0, 0, 60, 40))  # an empty prediction is not an inverted one


def test_predictions_are_resized_bilinearly(folders: tuple[Path, Path]) -> None:
    small = {seed: cv2.resize(scene(seed)[0], (28, 20)) for seed in range(5)}
    for seed, prediction in small.items():
        save(folders[0] / f"{seed}.png", prediction)
    result = evaluate_folder(*folders, metrics="mae")
    resized = cv2.resize(small[2], (56, 40), interpolation=cv2.INTER_LINEAR)
    expected = evaluate_pair(resized, scene(2)[1], metrics="mae")
    assert result.images[2].values == expected


def test_another_aspect_is_an_error(folders: tuple[Path, Path]) -> None:
    save(folders[0] / "0.png", np.zeros((64, 64), np.uint8))
    with pytest.raises(BiRefNetError, match="is 64 x 64 and its truth 56 x 40, another aspect"):
        evaluate_folder(*folders, metrics="mae")
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
    with pytest.raises(BiRefNetError, match="both fit the truth '1'"):
        pair_files(tmp_path / "prediction", tmp_path / "truth")
    save(tmp_path / "truth" / "1.bmp", np.zeros((4, 4), np.uint8))
    with pytest.raises(BiRefNetError, match="have the same name"):
        pair_files(tmp_path / "prediction", tmp_path / "truth")


def test_folders_that_hold_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BiRefNetError, match="is not a folder"):
        pair_files(tmp_path / "nowhere", tmp_path / "nowhere")
    with pytest.raises(BiRefNetError, match="holds no pictures"):
        pair_files(tmp_path, tmp_path)


def test_masks_of_odd_modes(tmp_path: Path) -> None:
    prediction, truth = scene(0)
    path = tmp_path / "mask.png"

    colour = np.stack([truth, truth, 255 - truth], axis=-1)
    save(path, colour)
    with pytest.raises(ImageError, match="is a colour picture"):
        read_mask(path)

    save(path, truth // 255)
    with pytest.raises(ImageError, match="only the levels 0 and 1"):
        read_mask(path)

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
    (tmp_path / "trimap" / "2.png").unlink()
    with pytest.raises(BiRefNetError, match="lacks 1 of 5 trimaps"):
        evaluate_folder(*folders, metrics="sad", trimap=tmp_path / "trimap")


def test_bootstrap_of_a_method_against_a_worse_one(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    for seed in range(5):
        blurred = cv2.GaussianBlur(scene(seed)[0], (0, 0), 3)
        save(tmp_path / "worse" / f"{seed}.png", blurred)
    good = evaluate_folder(*folders, metrics=METRICS, keep_curves=True)
    worse = evaluate_folder(tmp_path / "worse", folders[1], metrics=METRICS, keep_curves=True)
    for column, sign in (("mae", -1), ("f_measure_max", 1), ("hce", -1)):
        found = bootstrap(good, worse, column, resamples=300)
        assert found.value == good.values[column] - worse.values[column]
        assert found.low <= found.value <= found.high
        if column != "hce":
            assert found.is_clear
            assert np.sign(found.low) == np.sign(found.high) == sign
    same = bootstrap(good, good, "mae", resamples=50)
    assert (same.low, same.high, same.is_clear) == (0, 0, False)
    with pytest.raises(BiRefNetError, match="keep_curves"):
        bootstrap(*[evaluate_folder(*folders, metrics=METRICS)] * 2, "f_measure_max")
