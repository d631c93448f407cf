"""`birefnet export` from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from birefnet.cli.main import app
from birefnet.errors import BiRefNetError

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


def test_export_reports_and_lists_for_tensorrt(tmp_path: Path) -> None:
    path = tmp_path / "small.onnx"
    done = CliRunner().invoke(
        app, ["export", "nano", "-o", str(path), "--size", "64", "--tensorrt"]
    )
    assert done.exit_code == 0, done.output
    assert "passed" in done.output
    assert "trtexec --onnx=" in done.output
    assert json.loads((tmp_path / "small.onnx.json").read_text())["metadata"]["size"] == [64, 64]


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
