"""`birefnet bench`, on the smallest network there is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from birefnet.cli.bench import run as bench_run
from birefnet.cli.bench.run import Cell, Result
from birefnet.cli.main import app

FEW = ["--sizes", "64", "--rounds", "1"]


def test_torch_is_measured_and_counted() -> None:
    done = CliRunner().invoke(app, ["bench", "tiny", "--engines", "torch", *FEW, "--json"])
    assert done.exit_code == 0, done.stderr
    full, half = json.loads(done.stdout)
    assert (full["engine"], full["precision"]) == ("torch", "fp32")
    assert (full["width"], full["height"]) == (64, 64)
    assert len(full["milliseconds"]) == 1
    assert full["milliseconds"][0] > 0
    assert full["parameters"] > 1e6
    assert full["macs"] > 1e6
    assert full["peak_mb"] > 50
    assert full["difference"] == 0
    assert half["precision"] == "bf16"
    assert half["difference"] < 0.1


def test_openvino_stands_beside_torch() -> None:
    pytest.importorskip("openvino")
    command = ["bench", "tiny", "--engines", "openvino,torch", "--precisions", "fp32", *FEW]
    done = CliRunner().invoke(app, [*command, "--markdown"])
    assert done.exit_code == 0, done.stderr
    head, _, torch, openvino = done.stdout.strip().splitlines()
    assert head.startswith("| model | engine | precision | size | ms |")
    assert torch.startswith("| tiny | torch | fp32 | 64x64 |")
    assert openvino.startswith("| tiny | openvino | fp32 | 64x64 |")
    assert float(openvino.split("|")[-2]) < 1e-4


def test_what_is_not_there_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    cells = bench_run.plan(["tiny"], ["onnx"], ["fp32"], ["64"])
    (result,) = bench_run.run(cells)
    assert result.missing == 'not installed: pip install "birefnet[onnx]"'
    assert result.missing in bench_run.to_markdown([result])
    bench_run.print_table([result])
    assert "birefnet[onnx]" in "".join(capsys.readouterr().out.split())
    monkeypatch.undo()
    (result,) = bench_run.run(bench_run.plan(["tiny"], ["torch"], ["int8"], ["64"]))
    assert result.missing == "no int8 in this engine"


def test_a_failure_is_a_row(tmp_path: Path) -> None:
    broken = tmp_path / "broken.pth"
    broken.write_text("hello")
    cells = bench_run.plan([str(broken)], ["torch"], ["fp32"], ["64"], rounds=1)
    (result,) = bench_run.run(cells)
    assert "broken.pth holds no weights" in result.missing


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--engines", "tensorrt"], "engine 'tensorrt' is unknown; choose of torch"),
        (["--precisions", "fp8"], "precision 'fp8' is unknown"),
        (["--sizes", "100"], "give multiples of 32"),
    ],
)
def test_usage(options: list[str], said: str) -> None:
    done = CliRunner().invoke(app, ["bench", "tiny", *options])
    assert done.exit_code == 2
    assert said in " ".join(done.stderr.replace("│", " ").split())


def test_the_order_of_cells(tmp_path: Path) -> None:
    (exported := tmp_path / "b.onnx").touch()
    cells = bench_run.plan(["tiny", str(exported)], ["onnx", "torch"], ["int8", "fp32"], None)
    assert [(cell.model, cell.engine, cell.precision) for cell in cells] == [
        ("tiny", "torch", "fp32"),
        ("tiny", "torch", "int8"),
        ("tiny", "onnx", "fp32"),
        ("tiny", "onnx", "int8"),
        (str(exported), "file", "own"),
    ]


def test_rows_say_median_and_spread() -> None:
    result = Result(Cell("a", "torch", "fp32"), 64, 32, (30.0, 10.0, 20.0), 100.0, 2000000, 10**9)
    assert bench_run.row(result) == [
        *("a", "torch", "fp32", "64x32"),
        *("20", "10", "50.00", "100", "2.0 M", "1.0", ""),
    ]
