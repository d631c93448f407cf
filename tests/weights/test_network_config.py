"""How a network is built, said by the user where neither the file nor its tensors do."""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from typer.testing import CliRunner, Result

from birefnet.api import load, load_network
from birefnet.cli.main import app
from birefnet.errors import UsageError, WeightsError
from birefnet.inference.predictor import Predictor
from birefnet.network.birefnet import BiRefNet
from birefnet.network.build import build_network
from birefnet.network.config import NetworkConfig, parse_config, preset
from birefnet.weights import detect
from birefnet.weights.checkpoint import load_checkpoint
from birefnet.weights.convert import convert, with_config
from birefnet.weights.layouts import to_official
from reference.fill import fill

ADD = replace(preset("tiny"), image_pyramid="add")
SAID = {"image_pyramid": "add"}


@pytest.fixture(autouse=True)
def environment(own_caches: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIREFNET_OFFLINE", "1")


@pytest.fixture
def adding() -> BiRefNet:
    network = build_network(ADD).eval()
    for key, value in to_official(network.state_dict()).items():
        if value.is_floating_point():
            value.copy_(torch.from_numpy(fill(key, tuple(value.shape))))
    return network


@pytest.fixture
def file(adding: BiRefNet, tmp_path: Path) -> Path:
    """As the released code writes it: tensors alone."""
    path = tmp_path / "add.pth"
    torch.save(to_official(adding.state_dict()), path)
    return path


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "in" / "p.png"
    path.parent.mkdir()
    Image.radial_gradient("L").resize((64, 64)).convert("RGB").save(path)
    return path


def logits(network: BiRefNet) -> torch.Tensor:
    x = torch.linspace(-1, 1, 3 * 64 * 64).reshape(1, 3, 64, 64)
    with torch.no_grad():
        return network(x)


def invoke(*words: object) -> Result:
    return CliRunner().invoke(app, list(map(str, words)))


def test_a_file_that_may_be_either_is_told_and_can_be_said(adding: BiRefNet, file: Path) -> None:
    with pytest.warns(UserWarning, match="none is assumed") as caught:
        assumed = load_network(file)
    assert "\n" not in str(caught[0].message)
    assert not torch.allclose(logits(assumed), logits(adding), atol=1e-3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for config in (SAID, ADD, ADD.to_dict()):
            said = load_network(file, config=config)
            assert said.config.image_pyramid == "add"
            assert torch.equal(logits(said), logits(adding))


@pytest.mark.parametrize("pyramid", ["cat", "none", "add"])
def test_what_is_not_ambiguous_is_read_without_a_word(pyramid: str, tmp_path: Path) -> None:
    network = build_network(replace(preset("tiny"), image_pyramid=pyramid)).eval()  # type: ignore[arg-type]
    network.preprocess = None
    bare = tmp_path / "bare.pth"
    torch.save(to_official(network.state_dict()), bare)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if pyramid == "cat":
            assert load_checkpoint(bare).config.image_pyramid == "cat"
        told = convert(bare, tmp_path / "told", config={"image_pyramid": pyramid})
        for layout in ("birefnet", "huggingface", "safetensors", "pth"):
            name = f"x.{layout}" if layout in ("safetensors", "pth") else layout
            written = convert(told, tmp_path / name, layout=layout)  # type: ignore[arg-type]
            assert load_checkpoint(written).config.image_pyramid == pyramid


def test_every_way_in_computes_the_same(
    adding: BiRefNet, file: Path, picture: Path, tmp_path: Path
) -> None:
    told = convert(file, tmp_path / "told", config=SAID)

    def matte(predictor: Predictor) -> Any:
        return predictor.predict(picture, resolution=64).alpha

    expected = matte(load(told, engine="torch"))
    assert (matte(load(file, config=SAID, engine="torch")) == expected).all()
    given = tmp_path / "given.json"
    given.write_text(json.dumps({"network": SAID}))
    for number, text in enumerate(("image_pyramid=add", given)):
        out = tmp_path / f"out{number}.png"
        words = ("--type", "mask", "--resolution", "64", "--engine", "torch")
        result = invoke("remove", picture, "-m", file, "-o", out, "--network-config", text, *words)
        assert result.exit_code == 0, result.output
        with Image.open(out) as mask:
            assert np.abs(np.asarray(mask) / 255 - expected).max() <= 1 / 255
    result = invoke("models", "convert", file, tmp_path / "c", "--network-config", given)
    assert result.exit_code == 0, result.output
    assert load_checkpoint(tmp_path / "c").config.image_pyramid == "add"


def test_a_copy_is_made_once(file: Path) -> None:
    first = with_config(file, SAID)
    stamp = (first / "config.json").stat().st_mtime_ns
    assert with_config(str(file), SAID) == first
    assert (first / "config.json").stat().st_mtime_ns == stamp
    assert with_config(file, {"image_pyramid": "none"}) != first


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("image_pyramid", "give NAME=VALUE"),
        ("image_pyramid=sum", "choose one of none, add, cat"),
        ("pyramid=add", "unknown network settings"),
        ("context_fusion=perhaps", "must be true or false"),
        ("nothing.json", "cannot read nothing.json"),
    ],
)
def test_what_makes_no_sense_is_refused_at_once(text: str, told: str, file: Path) -> None:
    result = invoke("models", "convert", file, "out", "--network-config", text)
    assert result.exit_code == 2
    assert told in re.sub(r"[│\s]+", " ", result.output)
    assert not Path("out").exists()


def test_a_configuration_that_does_not_fit_is_told(file: Path) -> None:
    with pytest.raises(WeightsError, match="do not fit"):
        load_network(file, config={"image_pyramid": "cat"})
    with pytest.raises(UsageError, match="goes with trained weights"):
        load_network(ADD, config=SAID)


# Errors that ask for it


def test_errors_that_ask_for_a_configuration_name_ways_that_exist(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = {k: v for k, v in detect._SIGNATURES.items() if k != ADD.backbone}
    monkeypatch.setattr(detect, "_SIGNATURES", others)
    with pytest.raises(WeightsError) as caught:
        load_network(file)
    text = str(caught.value)
    in_python = ast.literal_eval(re.search(r"config=(\{.*?\})", text)[1])  # type: ignore[index]
    in_a_command = parse_config(re.search(r"--network-config (\S+)", text)[1])  # type: ignore[index]
    assert in_python == in_a_command == {"backbone": "timm:NAME"}
    NetworkConfig.from_dict(in_python)
    said = load_network(file, config={"backbone": ADD.backbone, **SAID})
    assert said.config.backbone == ADD.backbone


def test_no_other_message_asks_for_a_configuration() -> None:
    """They use `HOW_TO_TELL`, whose ways the tests above take."""
    root = Path(detect.__file__).parents[1]
    for path in root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                asks = re.search(r"(pass|give) (its|a|the) configuration", node.value)
                assert not asks, f"{path}: {node.value}"


def commands(group: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    for word, command in getattr(group, "commands", {}).items():
        yield from commands(command, f"{name} {word}".strip())
    if not hasattr(group, "commands"):
        yield name, group


def test_every_command_that_takes_one_network_takes_its_configuration() -> None:
    taking = {
        name: {option for param in command.params for option in param.opts}
        for name, command in commands(typer.main.get_command(app))
        if any(option in ("--model", "model") for p in command.params for option in p.opts)
    }
    # rembg's options are rembg's; `models info` says what a file holds, `bench` names several.
    without = {n for n, options in taking.items() if "--network-config" not in options}
    assert {n for n in without if not n.startswith("rembg")} <= {"bench", "models info"}
    assert {"remove", "video", "serve", "ui", "explain", "benchmark", "export"} <= taking.keys()
