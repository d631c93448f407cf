"""Tables in every form, files that read back, curves and the HTML report."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from birefnet.errors import BiRefNetError
from birefnet.evaluation.dataset import SetResult, evaluate_folder
from birefnet.evaluation.report import error_map, html_report, plot_curves
from birefnet.evaluation.tables import (
    Row,
    format_value,
    images_to_csv,
    read_json,
    render,
    to_latex,
    to_markdown,
    to_terminal,
)

COLUMNS = ("s_measure", "mae", "hce")
ROWS = [
    Row("DIS_VD", "ours & co", {"s_measure": 1.0, "mae": 0.0301, "hce": 989.4}),
    Row("DIS_VD", "other", {"s_measure": 0.9, "mae": 0.0299}),
    Row("TE4", "other", {"s_measure": 0.8, "mae": 0.1, "hce": 5.0}),
]


def test_markdown_marks_the_best_of_each_set_as_printed() -> None:
    lines = to_markdown(ROWS, COLUMNS).splitlines()
    assert lines[0] == "| data set | method | S ↑ | MAE ↓ | HCE ↓ |"
    # 0.0301 and 0.0299 print alike, so both are best; a lone number is not marked.
    assert lines[2] == "| DIS_VD | ours & co | **1.000** | **0.030** | 989 |"
    assert lines[3] == "| DIS_VD | other | 0.900 | **0.030** | - |"
    assert lines[4] == "| TE4 | other | 0.800 | 0.100 | 5 |"


def test_latex_escapes_names() -> None:
    text = to_latex(ROWS, COLUMNS)
    assert r"DIS\_VD & ours \& co & \textbf{1.000} & \textbf{0.030} & 989 \\" in text
    assert text.count(r"\midrule") == 2


def test_terminal_table_has_every_number() -> None:
    console = Console(width=100, file=io.StringIO())
    console.print(to_terminal(ROWS, COLUMNS))
    text = console.file.getvalue()
    assert all(number in text for number in ("1.000", "0.030", "989", "0.800"))


def test_a_perfect_score_prints_whole() -> None:
    assert format_value("s_measure", 1.0) == "1.000"
    assert format_value("hce", None) == "-"


@pytest.fixture
def results(tmp_path: Path) -> list[SetResult]:
    generator = np.random.default_rng(0)
    for part in ("truth", "image", "one", "two"):
        (tmp_path / part).mkdir()
    for index in range(3):
        truth = np.zeros((30, 40), np.uint8)
        truth[5:25, 8 : 14 + 8 * index] = 255
        noise = generator.normal(0, 40, truth.shape)
        Image.fromarray(truth).save(tmp_path / "truth" / f"a<b{index}.png")
        image = generator.integers(0, 256, (30, 40, 3), np.uint8)
        Image.fromarray(image).save(tmp_path / "image" / f"a<b{index}.jpg")
        for method, strength in (("one", 1), ("two", 2)):
            noisy = np.clip(truth + strength * noise, 0, 255).astype(np.uint8)
            Image.fromarray(noisy).save(tmp_path / method / f"a<b{index}.png")
    return [
        evaluate_folder(
            tmp_path / method,
            tmp_path / "truth",
            image=tmp_path / "image",
            metrics=["s_measure", "f_measure_max", "mae"],
        )
        for method in ("one", "two")
    ]


def test_files_read_back(results: list[SetResult], tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(render(results, "json"))
    rows = read_json(path)
    assert [(row.method, row.values) for row in rows] == [
        (result.method, result.values) for result in results
    ]
    table = list(csv.DictReader(io.StringIO(render(results, "csv"))))
    assert float(table[1]["mae"]) == results[1].values["mae"]
    images = list(csv.DictReader(io.StringIO(images_to_csv(results))))
    assert len(images) == 6
    assert float(images[2]["s_measure"]) == results[0].images[2].values["s_measure"]
    assert "**" in render(results, "md")
    assert "textbf" in render(results, "latex")


def test_other_files_and_forms_are_refused(results: list[SetResult], tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_text(json.dumps({"format": "other"}))
    with pytest.raises(BiRefNetError, match=r"other\.json is not a result file"):
        read_json(path)
    with pytest.raises(BiRefNetError, match="no table format 'xlsx'"):
        render(results, "xlsx")


def test_report_is_one_page_with_every_picture(results: list[SetResult]) -> None:
    page = html_report(results, sort_by="s_measure", limit=2).decode()
    pictures = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', page)
    assert len(pictures) == 2 * 2 * 4  # methods, pictures, and image, truth, prediction, error
    assert "a&lt;b0" in page
    assert page.count(f"<td>{results[1].method}</td>") == 1  # in the table
    first = cv2.imdecode(np.frombuffer(base64.b64decode(pictures[0]), np.uint8), cv2.IMREAD_COLOR)
    assert first.shape == (30, 40, 3)
    with pytest.raises(BiRefNetError, match="sorted by 'hce', which was not evaluated"):
        html_report(results, sort_by="hce")


def test_error_map_colours() -> None:
    truth = np.array([[255, 0, 0, 255]], np.uint8)
    prediction = np.array([[0, 255, 0, 255]], np.uint8)
    missing, added, ground, right = error_map(prediction, truth)[0].astype(int)
    assert missing[0] > missing[2]  # red
    assert added[2] > added[0]  # blue
    assert list(ground) == [255] * 3
    assert len(set(right)) == 1  # grey


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_curves_are_drawn(results: list[SetResult], tmp_path: Path, suffix: str) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / f"curves{suffix}"
    plot_curves(results, path)
    head = path.read_bytes()[:200]
    assert head.startswith(b"\x89PNG") if suffix == ".png" else b"<?xml" in head
    with pytest.raises(BiRefNetError, match=r"ending in \.png"):
        plot_curves(results, tmp_path / "curves.txt")
