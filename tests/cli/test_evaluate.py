"""`birefnet evaluate`, as typed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from birefnet.cli.evaluate import register
from birefnet.errors import BiRefNetError
from birefnet.evaluation.compare import FEWEST

app = typer.Typer(pretty_exceptions_enable=False)
app.callback()(lambda: None)
register(app)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    generator = np.random.default_rng(1)
    for part in ("set/gt", "good", "poor"):
        (tmp_path / part).mkdir(parents=True)
    for index in range(FEWEST):
        truth = np.zeros((32, 32), np.uint8)
        truth[4 : 20 + index, 6:26] = 255
        Image.fromarray(truth).save(tmp_path / "set" / "gt" / f"{index}.png")
        for method, strength in (("good", 30), ("poor", 90)):
            noisy = np.clip(truth + generator.normal(0, strength, truth.shape), 0, 255)
            Image.fromarray(noisy.astype(np.uint8)).save(tmp_path / method / f"{index}.png")
    return tmp_path


def evaluate(
    data: Path, *options: str, predictions: tuple[str, ...] = ("good",), status: int = 0
) -> str:
    folders = [word for name in predictions for word in ("--prediction", str(data / name))]
    words = ["evaluate", *folders, "--truth", str(data / "set" / "gt"), "--jobs", "1", *options]
    result = CliRunner().invoke(app, words, catch_exceptions=True)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == status, result.output
    return result.output


def test_one_folder_prints_a_table(data: Path) -> None:
    text = evaluate(data, "--metrics", "dis")
    assert f"{FEWEST} pictures" in text
    assert all(word in text for word in ("good", "wF", "HCE", "set"))


def test_a_narrow_terminal_gets_a_line_for_each_metric(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("birefnet.terminal._WIDTH_OF_FILES", 80)
    text = evaluate(data)
    assert "mean boundary accuracy ↑" in text
    assert "…" not in text


def test_two_folders_come_with_intervals(data: Path) -> None:
    text = evaluate(data, "--metrics", "s_measure,mae", predictions=("good", "poor"))
    assert "good minus poor, 95 % interval" in text
    assert text.count("good is better") == 2
    for index in range(2, FEWEST):
        for name in ("set/gt", "good", "poor"):
            (data / name / f"{index}.png").unlink()
    text = evaluate(data, "--metrics", "s_measure,mae", predictions=("good", "poor"))
    assert "2 pictures are too few to tell which is better; give at least 10" in text
    assert "is better\n" not in text
    assert "95 %" not in text


def test_an_unreadable_file_costs_one_line(data: Path) -> None:
    (data / "good" / "2.png").write_bytes(b"no picture")
    files = [str(data / name) for name in ("t.json", "i.csv", "s.html")]
    options = ("--metrics", "mae", "-o", files[0], "--per-image", files[1], "--sheet", files[2])
    text = evaluate(data, *options, predictions=("good", "poor"), status=1)
    assert "good/2.png is not a picture" in text.replace("\n", "")
    assert f"the numbers are of {FEWEST - 1} of {FEWEST} pictures" in text
    assert f"{FEWEST - 1} pictures are too few to tell" in text
    found = json.loads((data / "t.json").read_text())["results"]
    assert list(found[0]["failed"]) == ["2"]
    assert (found[0]["count"], found[1]["count"]) == (FEWEST - 1, FEWEST)
    assert "set,good,2,\n" in (data / "i.csv").read_text()
    assert "Not scored" in (data / "s.html").read_text()


def test_a_method_without_a_score_leaves_the_other(data: Path) -> None:
    for path in (data / "poor").iterdir():
        path.write_bytes(b"")
    text = evaluate(data, "--metrics", "mae", predictions=("good", "poor"), status=1)
    assert "none of 10 pairs can be scored" in text
    assert f"{FEWEST} pictures" in text


def test_every_file_is_written_and_none_replaced_unasked(data: Path) -> None:
    names = ("t.csv", "t.json", "t.md", "t.tex")
    files = [word for name in names for word in ("-o", str(data / name))]
    more = ["--per-image", str(data / "i.csv"), "--sheet", str(data / "s.html"), "--worst", "2"]
    text = evaluate(data, "--metrics", "mae,iou", *files, *more)
    assert "Worst 2 of good by mae" in text
    assert all((data / name).stat().st_size for name in (*names, "i.csv", "s.html"))
    assert len(json.loads((data / "t.json").read_text())["results"][0]["images"]) == FEWEST
    with pytest.raises(AssertionError) as caught:
        evaluate(data, "--metrics", "mae,iou", *files)
    # The terminal breaks lines, long paths within words.
    said = "".join(str(caught.value).replace("│", " ").split())
    assert "t.csvexists;give--overwrite" in said


def test_forms_on_standard_output(data: Path) -> None:
    assert evaluate(data, "--metrics", "mae", "--format", "csv").startswith("dataset,method,mae\n")
    assert json.loads(evaluate(data, "--metrics", "mae", "--format", "json"))["results"]


def test_threshold_sets(data: Path) -> None:
    whole = evaluate(data, "--metrics", "f_measure_mean", "--format", "csv")
    tenths = evaluate(
        data, "--metrics", "f_measure_mean", "--format", "csv", "--threshold-set", "tenths"
    )
    assert whole != tenths


def test_missing_predictions(data: Path) -> None:
    (data / "good" / "2.png").unlink()
    with pytest.raises(BiRefNetError, match=r"lacks 1 of 10 predictions \(2\)"):
        evaluate(data)
    assert "counted as all black" in evaluate(data, "--missing", "black", "--metrics", "mae")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--format", "xml"), "--format is 'xml'"),
        (("--sort", "mae", "--metrics", "hce"), "--sort is 'mae'"),
        (("-o", "table.xlsx"), "end it in .csv"),
    ],
)
def test_contradictions_are_usage_errors(
    data: Path, options: tuple[str, ...], message: str
) -> None:
    with pytest.raises(AssertionError) as caught:
        evaluate(data, *options)
    assert message in " ".join(str(caught.value).replace("│", " ").split())


def test_files_are_written_though_nobody_reads_the_table(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def leave(**options: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr("birefnet.cli.evaluate.console", leave)
    options = [
        "--output",
        data / "o.csv",
        "--per-image",
        data / "each.csv",
        "--sheet",
        data / "s.html",
    ]
    with pytest.raises(BrokenPipeError):
        evaluate(data, *map(str, options))
    assert all((data / name).stat().st_size for name in ("o.csv", "each.csv", "s.html"))
