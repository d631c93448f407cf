"""`birefnet models` as users run it, offline."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from birefnet.cli import models
from birefnet.cli.main import run
from birefnet.weights.locate import bundled_names


@pytest.fixture(autouse=True)
def environment(own_caches: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIREFNET_OFFLINE", "1")


def app() -> typer.Typer:
    made = typer.Typer(pretty_exceptions_enable=False)
    made.callback()(lambda: None)
    models.register(made)
    return made


def call(*arguments: str, status: int = 0) -> Result:
    """Run the command through the same error handling as the entry point."""
    runner = CliRunner()
    outer = typer.Typer()

    @outer.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
    def main(arguments: list[str]) -> None:
        command = typer.main.get_command(app())
        run(lambda: command(["models", *arguments], standalone_mode=True))

    result = runner.invoke(outer, list(arguments))
    assert result.exit_code == status, result.output
    return result


def test_list_names_what_can_be_loaded() -> None:
    listed = call("list").stdout
    for word in ("general", "lite-2k", "2560x1440", "native, 256-2304", "CC BY-NC 4.0"):
        assert word in listed
    assert "epoch_244" not in listed
    assert "epoch_244" in call("list", "--all").stdout
    lines = listed.splitlines()
    assert lines[0].split() == ["name", "for", "task", "input", "size", "licence", "here"]


def test_list_as_json() -> None:
    rows = json.loads(call("list", "--json").stdout)
    by_name = {row["name"]: row for row in rows}
    assert by_name["rmbg-2.0"]["use"] == "non-commercial"
    assert by_name["general"]["parameters"] == 220_176_498
    assert by_name["general"]["cached"] is None
    assert set(bundled_names()) <= set(by_name)
    every = json.loads(call("list", "--json", "--all").stdout)
    assert {row["kind"] for row in every} == {"network", "onnx", "backbone"}


def test_info_of_a_released_network() -> None:
    told = call("info", "ZhengPeng7/BiRefNet-portrait").stdout
    assert "TE-P3M-500-P S 0.983" in told
    assert "research only" in told
    values = json.loads(call("info", "general", "--json").stdout)
    assert values["bytes"] == 444_473_596


def test_info_of_a_file(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from birefnet.network.build import build_network
    from birefnet.weights import save_directory

    network = build_network("tiny")
    folder = save_directory(tmp_path / "mine", network, licence="CC0", dtype=torch.float16)
    values = json.loads(call("info", str(folder), "--json").stdout)
    assert values["architecture"] == "efficientnet_lite0"
    assert values["precision"] == "float16"
    assert values["parameters"] == sum(p.numel() for p in network.parameters())
    assert "licence:           CC0" in call("info", str(folder)).stdout


def test_errors_are_one_sentence_and_a_status() -> None:
    for arguments in (("info", "nothing"), ("info", "./none.pth"), ("convert", "none.pth", "x")):
        told = call(*arguments, status=2).stderr
        assert told.startswith("Error: ")
        assert told.count("\n") == 1


def test_choices_are_named() -> None:
    pytest.importorskip("torch")
    assert (
        "choose one of birefnet" in call("convert", "nano", "b", "--layout", "x", status=2).stderr
    )
    told = call("convert", "nano", "b", "--dtype", "int8", status=2).stderr
    assert "choose one of fp16" in told


def test_download_goes_on_after_a_failure(tmp_path: Path) -> None:
    there = tmp_path / "cache" / "dynamic" / "model.safetensors"
    there.parent.mkdir(parents=True)
    there.write_bytes(b"x")
    result = call("download", "general", "hr", "dynamic", status=1)
    assert result.stdout.strip() == str(there)
    assert result.stderr.count("Error: ") == 2
    result = call("download", "dynamic", "nothing", status=2)  # which fetches nothing
    assert (result.stdout, result.stderr.count("Error: ")) == ("", 1)
    fetched = json.loads(call("download", "dynamic", "--json").stdout)
    assert fetched == {"dynamic": str(there)}


@pytest.mark.parametrize(
    ("name", "has_torch", "expected"),
    [
        ("general", True, "general"),
        ("general", False, "BiRefNet-general-epoch_244.onnx"),
        ("hr-matting", False, "BiRefNet_HR-matting-epoch_135.onnx"),
        ("BiRefNet-portrait-epoch_150.onnx", True, "BiRefNet-portrait-epoch_150.onnx"),
        ("dynamic", False, "dynamic"),  # of which no ONNX file is published
        ("https://example.com/a.pth", False, "https://example.com/a.pth"),
    ],
)
def test_download_fetches_what_would_run_here(
    name: str, has_torch: bool, expected: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fetch(what: Any, **_: Any) -> Path:
        fetched.append(what if isinstance(what, str) else what.name)
        return tmp_path / "file"

    fetched: list[str] = []
    monkeypatch.setattr("birefnet.weights.download.fetch", fetch)
    monkeypatch.setattr("birefnet.inference.load._is_there", lambda _: has_torch)
    result = call("download", name)
    assert fetched == [expected]
    assert ("published ONNX file" in result.stderr) == (name != expected)


def test_convert(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from birefnet.network.build import build_network
    from birefnet.weights import save_directory
    from birefnet.weights.checkpoint import load_checkpoint

    folder = save_directory(tmp_path / "mine", build_network("tiny"))
    target = tmp_path / "official.pth"
    assert call("convert", str(folder), str(target), "--dtype", "fp16").stdout.strip() == str(
        target
    )
    assert load_checkpoint(target).stored_dtype == torch.float16
    assert "already there" in call("convert", str(folder), str(target), status=2).stderr
    written = call("convert", str(folder), str(target), "--overwrite", "--json").stdout
    assert json.loads(written) == {"written": str(target)}
    assert load_checkpoint(target).stored_dtype == torch.float32
