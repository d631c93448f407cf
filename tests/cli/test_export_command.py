"""`birefnet export` from the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from birefnet.cli.main import app
from birefnet.errors import BiRefNetError

EXAMPLES = Path(__file__).parents[2] / "examples"

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A file, and what the command said."""
    path = tmp_path_factory.mktemp("exported") / "small.onnx"
    words = ["export", "nano", "-o", str(path), "--size", "64", "--tensorrt"]
    done = CliRunner().invoke(app, [*words, "--calibrate", str(EXAMPLES)])
    assert done.exit_code == 0, done.output
    return path, done.output


def test_export_reports_and_lists_for_tensorrt(exported: tuple[Path, str]) -> None:
    path, output = exported
    assert "passed" in output
    assert "trtexec --onnx=" in output
    report = json.loads(path.with_name("small.onnx.json").read_text())
    assert report["metadata"]["size"] == [64, 64]
    assert f"takes {report['latency_ms']:.0f} ms on this CPU" in output
    assert report["iou"] > 0.999
    assert f"on the pictures given: {report['iou']:.4f}" in output
    assert f"python {path}.run.py PICTURE MASK.png" in output
    assert path.with_name(report["script"]).is_file()


@pytest.mark.parametrize("is_slower", [True, False])
def test_fp16_that_is_slower_is_said(
    is_slower: bool,
    exported: tuple[Path, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever the files hold: here the same numbers."""
    monkeypatch.setattr(
        "birefnet.export.onnx.export_onnx", lambda _, path: [shutil.copy(exported[0], path)]
    )
    latencies = iter([30.0, 20.0 if is_slower else 30.0])
    monkeypatch.setattr("birefnet.export.run._latency", lambda *given: next(latencies))
    words = ["export", "nano", "-o", str(tmp_path / "a.onnx"), "--size", "64", "-p", "fp16"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert ("fp16 is slower than fp32 on this CPU (30 and 20 ms)" in done.output) == is_slower
    assert sorted(one.name for one in tmp_path.iterdir()) == [
        "a.onnx", "a.onnx.json", "a.onnx.run.py"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--format", "tflite"], "--format is 'tflite'; give onnx, openvino, torch"),
        (["--precision", "int4"], "--precision is 'int4'; give fp32, fp16, int8"),
        (["--size", "native"], "--size is 'native'; give N or WxH"),
    ],
)
def test_usage_errors(options: list[str], message: str) -> None:
    done = CliRunner().invoke(app, ["export", "nano", *options])
    assert done.exit_code == 2
    assert message in " ".join(done.output.replace("│", " ").split())


def test_int8_without_pictures(tmp_path: Path) -> None:
    arguments = ["export", "nano", "-o", str(tmp_path / "a.onnx"), "--precision", "int8"]
    done = CliRunner().invoke(app, arguments)
    assert isinstance(done.exception, BiRefNetError)
    assert "--calibrate FOLDER" in str(done.exception)
