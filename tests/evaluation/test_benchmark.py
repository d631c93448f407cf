"""The standard test sets: found, predicted once, evaluated, and set beside published rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

import birefnet.api
from birefnet.cli.benchmark import register
from birefnet.errors import BiRefNetError
from birefnet.evaluation.benchmark import claim_folder, mean_row, predict_set
from birefnet.evaluation.dataset import evaluate_folder
from birefnet.evaluation.published import published_rows
from birefnet.evaluation.selection import rank
from birefnet.evaluation.suites import SUITES, LocalTestSet, find_test_set, get_suite
from birefnet.evaluation.tables import Row, read_json
from birefnet.imaging.geometry import Preprocess
from birefnet.inference.predictor import Predictor


class BrightnessEngine:
    """Logits that follow the brightness: a network for pictures of white things."""

    name = "brightness"
    batch_size = 2

    def __init__(self) -> None:
        self.pictures = 0

    def infer(self, batch: np.ndarray) -> np.ndarray:
        self.pictures += len(batch)
        return (8 * batch.mean(axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def engine() -> BrightnessEngine:
    return BrightnessEngine()


@pytest.fixture
def predictor(engine: BrightnessEngine) -> Predictor:
    return Predictor(engine, Preprocess(width=64, height=64))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for name in ("DIS-VD", "DIS-TE1", "DIS-TE2", "DIS-TE3", "DIS-TE4"):
        folder = tmp_path / "data" / "DIS5K" / name
        for part in ("im", "gt"):
            (folder / part).mkdir(parents=True)
        for index in range(2):
            truth = np.zeros((48, 64), np.uint8)
            truth[8:40, 10 : 30 + 10 * index] = 255
            Image.fromarray(truth).save(folder / "gt" / f"{index}.png")
            picture = np.dstack([np.where(truth, 250, 20).astype(np.uint8)] * 3)
            Image.fromarray(picture).save(folder / "im" / f"{index}.jpg", quality=95)
    return tmp_path / "data"


def found(name: str, data: Path) -> LocalTestSet:
    suite = get_suite("dis5k")
    located = find_test_set(next(one for one in suite.sets if one.name == name), data)
    assert located is not None
    return located


def test_sets_are_found_by_their_folders_in_any_case(data: Path, tmp_path: Path) -> None:
    assert found("DIS-TE2", data).truth == data / "DIS5K" / "DIS-TE2" / "gt"
    for part in ("Imgs", "GT"):
        (tmp_path / "other" / "duts-te" / part).mkdir(parents=True)
    test_set = next(one for one in SUITES["hrsod"].sets if one.name == "TE-DUTS")
    located = find_test_set(test_set, tmp_path / "other")
    assert located is not None
    assert located.image.name == "Imgs"
    assert find_test_set(test_set, data) is None
    with pytest.raises(BiRefNetError, match="no suite 'coco'; take one of dis5k"):
        get_suite("coco")


def test_a_stopped_run_goes_on(
    data: Path, tmp_path: Path, predictor: Predictor, engine: BrightnessEngine
) -> None:
    located = found("DIS-VD", data)
    assert predict_set(lambda: predictor, located, tmp_path / "out") == 2
    (tmp_path / "out" / "1.png").unlink()
    assert predict_set(lambda: predictor, located, tmp_path / "out") == 1
    assert engine.pictures == 3

    def unwanted() -> Predictor:
        raise AssertionError("a model was loaded though nothing was left to predict")

    assert predict_set(unwanted, located, tmp_path / "out") == 0
    result = evaluate_folder(tmp_path / "out", located.truth, metrics="dis")
    assert result.values["f_measure_max"] > 0.98


def test_predictions_of_other_settings_are_not_mixed(tmp_path: Path) -> None:
    claim_folder(tmp_path / "out", {"model": "a"})
    claim_folder(tmp_path / "out", {"model": "a"})
    with pytest.raises(BiRefNetError, match="has predictions with the settings"):
        claim_folder(tmp_path / "out", {"model": "b"})


def test_truths_without_a_picture_are_named(
    data: Path, tmp_path: Path, predictor: Predictor
) -> None:
    (data / "DIS5K" / "DIS-VD" / "im" / "0.jpg").unlink()
    with pytest.raises(BiRefNetError, match=r"lacks 1 of 2 pictures \(0\)"):
        predict_set(lambda: predictor, found("DIS-VD", data), tmp_path / "out")


def test_the_command_prints_measured_and_published_rows(
    data: Path, tmp_path: Path, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(birefnet.api, "load", lambda *_, **__: predictor)
    app = typer.Typer(pretty_exceptions_enable=False)
    register(app)
    words = ["benchmark", "--suite", "dis5k", "--data", str(data), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, [*words, "--model", "nano", "--jobs", "1"])
    assert result.exit_code == 0, result.output
    assert "DIS-VD has 2 of 470 pictures here" in result.output
    assert "DIS-TE (1-4)" in result.output
    assert "BiRefNet (paper)" in result.output
    results = tmp_path / "out" / "nano" / "dis5k.json"
    assert (tmp_path / "out" / "nano" / "DIS-TE4" / "1.png").exists()

    best = CliRunner().invoke(app, ["select-best", str(results), "--by", "hce"])
    assert best.exit_code == 0, best.output
    assert best.stdout.strip().splitlines()[-1] == "nano"


def test_what_cannot_be_read_costs_one_picture_each_time(
    data: Path, tmp_path: Path, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    (data / "DIS5K" / "DIS-VD" / "im" / "1.jpg").write_bytes(b"no picture")
    (data / "DIS5K" / "DIS-TE1" / "gt" / "0.png").write_bytes(b"no picture")
    for index in range(2):
        (data / "DIS5K" / "DIS-TE4" / "im" / f"{index}.jpg").write_bytes(b"no picture")
    monkeypatch.setattr(birefnet.api, "load", lambda *_, **__: predictor)
    app = typer.Typer(pretty_exceptions_enable=False)
    register(app)
    words = ["benchmark", "--suite", "dis5k", "--data", str(data), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, [*words, "--model", "nano", "--jobs", "1"])
    assert result.exit_code == 1, result.output
    said = result.output.replace("\n", "")
    for words_said in ("im/1.jpg is not a picture", "1 has no prediction", "gt/0.png is not a"):
        assert words_said in said
    results = tmp_path / "out" / "nano" / "dis5k.json"
    rows = {row.dataset: row for row in read_json(results)}
    assert sorted(rows) == ["DIS-TE1", "DIS-TE2", "DIS-TE3", "DIS-VD"]
    assert (rows["DIS-VD"].count, rows["DIS-VD"].failed, rows["DIS-TE2"].failed) == (1, 1, 0)

    broken = tmp_path / "broken.json"
    broken.write_text("{}")
    other = tmp_path / "other.json"
    other.write_text(results.read_text().replace('"nano"', '"theirs"'))
    best = CliRunner().invoke(app, ["select-best", *map(str, (results, broken, other))])
    assert best.exit_code == 1
    assert best.stdout.strip().splitlines()[-1] == "nano"
    assert "broken.json is not a result file" in best.output.replace("\n", "")
    assert "1 picture could not be scored" in best.output
    assert "too few to tell which is better" in best.output
    assert CliRunner().invoke(app, ["select-best", str(broken)]).exit_code == 1


def test_absent_sets_are_told_with_their_source(
    data: Path, tmp_path: Path, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(birefnet.api, "load", lambda *_, **__: predictor)
    app = typer.Typer(pretty_exceptions_enable=False)
    register(app)
    words = ["benchmark", "--suite", "cod", "--data", str(data), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, words)
    assert "NC4K is not under" in result.output
    assert "https://github.com/DengPingFan/SINet" in result.output
    assert isinstance(result.exception, BiRefNetError)


def test_published_means_agree_with_their_sets() -> None:
    """Table 4 gives the mean over DIS-TE1 to 4 too: a check that the scan was read rightly."""
    suite = SUITES["dis5k"]
    for row in published_rows(suite.mean_name):
        members = [
            next(one for one in published_rows(name) if one.method == row.method)
            for name in suite.mean_of
        ]
        for column, value in row.values.items():
            mean = np.mean([member.values[column] for member in members])
            assert value == pytest.approx(mean, abs=1 if column == "hce" else 0.0011), row


def test_every_suite_has_its_published_rows() -> None:
    for suite in SUITES.values():
        for test_set in suite.sets:
            for row in published_rows(test_set.name):
                assert set(row.values) <= set(suite.columns)
    without = [
        s.name for suite in SUITES.values() for s in suite.sets if not published_rows(s.name)
    ]
    assert without == ["CHAMELEON", "TE-P3M-500-NP", "TE-AM-2k"]


def test_mean_row_needs_all_its_sets(data: Path, tmp_path: Path, predictor: Predictor) -> None:
    results = []
    for name in SUITES["dis5k"].mean_of:
        assert mean_row(SUITES["dis5k"], results) is None
        located = found(name, data)
        predict_set(lambda: predictor, located, tmp_path / name)
        results.append(evaluate_folder(tmp_path / name, located.truth, metrics="mae", dataset=name))
    row = mean_row(SUITES["dis5k"], results)
    assert row is not None
    assert row.values["mae"] == pytest.approx(np.mean([r.values["mae"] for r in results]))


def test_ranking_by_the_mean_over_sets() -> None:
    rows = [
        Row("A", "early", {"hce": 100, "s_measure": 0.9}),
        Row("B", "early", {"hce": 300, "s_measure": 0.7}),
        Row("A", "late", {"hce": 120, "s_measure": 0.88}),
        Row("B", "late", {"hce": 200, "s_measure": 0.8}),
    ]
    assert [one.method for one in rank(rows, "hce")] == ["late", "early"]
    assert [one.method for one in rank(rows, "s_measure", ["A"])] == ["early", "late"]
    with pytest.raises(BiRefNetError, match="'late' was not evaluated on B"):
        rank(rows[:3], "hce")
    with pytest.raises(BiRefNetError, match="came twice"):
        rank([*rows, rows[0]], "hce")
    with pytest.raises(BiRefNetError, match="--metrics mae"):
        rank(rows, "mae")
    with pytest.raises(BiRefNetError, match="no metric 'x'"):
        rank(rows, "x")
    with pytest.raises(BiRefNetError, match="no result is for C"):
        rank(rows, "hce", ["C"])
