"""Weights that are not here: what a dry run says of them, that data come first, and the cures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

pytest.importorskip("accelerate")
pytest.importorskip("yaml")

import yaml

import birefnet
from birefnet.cli.main import app
from birefnet.compat import rembg, transparent_background
from birefnet.errors import WeightsError
from birefnet.explain import explain
from birefnet.network.backbones import build_backbone
from birefnet.weights.save import save_directory
from data_sets import make_pairs
from discs import PLAIN, tiny
from fakes import disc
from integrations.hub_stand_in import hub

pytestmark = pytest.mark.usefixtures("own_caches")
SMALL = [
    "--set", "data.width=64", "--set", "data.height=64", "--set", "schedule.batch_size=2",
    "--set", "schedule.steps=1", "--set", "loop.workers=0", "--set", "loop.trackers=none",
    "--set", "validation.previews=0", "--device", "cpu",
]  # fmt: skip
PVT = ["--recipe", "cod", "--set", "network=pvt_v2_b0"]


def train(*words: object) -> Result:
    return CliRunner().invoke(app, ["train", *map(str, words), *SMALL])


def said(result: Result) -> str:
    return " ".join(f"{result.output} {result.exception or ''}".split())


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    return make_pairs(tmp_path / "pairs", 2)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, list[str]]]:
    """A mirror and a stand-in for Hugging Face: the folder that it serves, and what was asked."""
    with hub(tmp_path / "served") as (address, asked):
        monkeypatch.setenv("HF_ENDPOINT", address)
        monkeypatch.setenv("BIREFNET_MIRROR", address)
        yield tmp_path / "served", asked


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--recipe", "dis5k", "--set", "network=swin_v1_t"],
            "a run would download backbone-swin_v1_t (https://github.com/SwinTransformer/storage/"
            "releases/download/v1.0.8/swin_tiny_patch4_window7_224_22kto1k_finetune.pth, "
            "about 110 MB)",
        ),
        (
            ["--recipe", "finetune", "--init", "lite"],
            "a run would download lite (https://huggingface.co/ZhengPeng7/BiRefNet_lite/resolve/"
            "aa62cd87eafb9cc43056d08ef3615a14628b831d/model.safetensors, about 177 MB)",
        ),
        (
            ["--recipe", "guided", "--init", "someone/theirs"],
            "a run would download someone/theirs (https://huggingface.co/someone/theirs/tree/main, "
            "of unknown size)",
        ),
        (
            ["--recipe", "finetune", "--init", "https://example.org/x/own.pth"],
            "a run would download https://example.org/x/own.pth (https://example.org/x/own.pth, "
            "of unknown size)",
        ),
        (["--recipe", "nano"], "a run would end here: there is no file efficientnet-lite0-"),
    ],
)
def test_a_dry_run_needs_no_weights(
    words: list[str], message: str, pairs: Path, server: tuple[Path, list[str]]
) -> None:
    result = train(*words, "--data", pairs, "--dry-run")
    assert result.exit_code == 0, said(result)
    assert message in said(result)
    assert yaml.safe_load(result.stdout)["data"]["width"] == 64
    assert server[1] == []


def test_the_size_of_pictures_is_known_before_the_weights_are_here(pairs: Path) -> None:
    words = ["--recipe", "finetune", "--init", "lite-2k", "--data", pairs, "--device", "cpu"]
    result = CliRunner().invoke(app, ["train", *map(str, words), "--dry-run"])
    assert result.exit_code == 0, said(result)
    data = yaml.safe_load(result.stdout)["data"]
    assert (data["width"], data["height"]) == (2560, 1440)
    assert "network swin_v1_t, 44.3 M parameters, from lite-2k" in said(result)


@pytest.mark.parametrize("words", [PVT, ["--recipe", "finetune", "--init", "someone/theirs"]])
@pytest.mark.parametrize(
    ("data", "message"),
    [
        (["--data", "nowhere"], "there is no folder 'nowhere'"),
        (["--data", "PAIRS", "--validate", "nowhere"], "there is no folder 'nowhere'"),
        (["--data", "PAIRS", "--set", "validation.best_by=mse"], "choose one of the metrics"),
        (["--data", "PAIRS", "--set", "data.classes=dis5k"], "set data.classes=none"),
        (["--data", "PAIRS", "--set", "data.backgrounds=nowhere"], "there is no folder 'nowhere'"),
    ],
)
def test_data_are_checked_before_anything_is_downloaded(
    words: list[str],
    data: list[str],
    message: str,
    pairs: Path,
    server: tuple[Path, list[str]],
    tmp_path: Path,
) -> None:
    given = [str(pairs) if word == "PAIRS" else word for word in data]
    result = train(*words, *given, "--output", tmp_path / "run")
    assert result.exit_code != 0
    assert message in said(result)
    assert server[1] == []
    assert not (tmp_path / "run").exists()


def test_a_run_downloads_the_backbone_and_starts(
    pairs: Path, server: tuple[Path, list[str]], tmp_path: Path
) -> None:
    folder, asked = server
    place = folder / "whai362" / "PVT" / "v2" / "pvt_v2_b0.pth"
    place.parent.mkdir(parents=True)
    torch.save(build_backbone("pvt_v2_b0").state_dict(), place)
    result = train(*PVT, "--data", pairs, "--output", tmp_path / "run")
    assert result.exit_code == 0, said(result)
    assert "downloading backbone-pvt_v2_b0" in said(result)
    assert len(asked) == 1
    again = train(*PVT, "--data", pairs, "--output", tmp_path / "again")
    assert again.exit_code == 0, said(again)
    assert len(asked) == 1  # it is there


def test_a_run_takes_the_size_from_weights_that_it_downloads(
    pairs: Path, server: tuple[Path, list[str]], tmp_path: Path
) -> None:
    folder, _ = server
    save_directory(folder / "someone" / "theirs", tiny(), PLAIN, name="theirs")
    words = ["--recipe", "finetune", "--init", "someone/theirs", "--data", pairs]
    command = ["train", *map(str, words), "--output", str(tmp_path / "run"), *SMALL[4:]]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, said(result)
    saved = yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text())
    assert (saved["data"]["width"], saved["data"]["height"]) == (PLAIN.width, PLAIN.height)


@pytest.mark.parametrize("name", ["general", "someone/theirs", "https://localhost:9/x.pth"])
@pytest.mark.parametrize(
    "words",
    [
        "remove PICTURE --model NAME",
        "remove PICTURE --model NAME --engine torch",
        "remove PICTURE --model NAME --engine openvino",
        "export NAME --output x.onnx",
        "models download NAME",
        "models convert NAME x.safetensors",
        "bench NAME --sizes 64 --engines torch --precisions fp32",
        "explain PICTURE --model NAME --output x.png",
        "train --recipe finetune --init NAME --data PAIRS --output run",
        "video PICTURE_FOLDER --output x.gif --model NAME",
        "benchmark --suite dis5k --data SUITE --model NAME",
        "serve --model NAME --port 0",
        "ui --model NAME --port 0",
        "rembg i PICTURE x.png -m NAME",
        "rembg p PICTURE_FOLDER x -m NAME",
        "rembg s -m NAME -p 0",
        "rembg d NAME",
    ],
)
def test_every_command_names_the_cures_where_weights_cannot_be_had(
    words: str, name: str, pairs: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("BIREFNET_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    folder = pairs / "im"
    there = {"NAME": name, "PAIRS": str(pairs), "SUITE": str(tmp_path / "suite")}
    there |= {"PICTURE": str(folder / "p0.png"), "PICTURE_FOLDER": str(folder)}
    make_pairs(tmp_path / "suite" / "DIS-VD", 1)
    result = CliRunner().invoke(app, [there.get(word, word) for word in words.split()])
    assert result.exit_code != 0
    text = said(result)
    assert "BIREFNET_OFFLINE" in text, text
    assert "elsewhere and give its path" in text
    assert "BIREFNET_MIRROR" in text
    assert name.rpartition("/")[2].replace("general", "model.safetensors") in text


def of_transformers(name: str) -> object:
    pytest.importorskip("transformers")
    from birefnet.integrations.transformers import BiRefNetForImageSegmentation

    return BiRefNetForImageSegmentation.from_pretrained(name)


def of_a_pipeline(name: str) -> object:
    pytest.importorskip("transformers")
    from birefnet.integrations.transformers import background_removal

    return background_removal(name)


def of_comfyui(name: str) -> object:
    from birefnet.integrations.comfyui.models import loaded

    return loaded(name)


PYTHON: dict[str, Callable[[str], object]] = {
    "load": birefnet.load,
    "load_network": birefnet.load_network,
    "remove_background": lambda name: birefnet.remove_background(disc(), model=name),
    "explain": lambda name: explain(disc(), name),
    "compat.rembg": rembg.new_session,
    "compat.transparent_background": transparent_background.Remover,
    "transformers": of_transformers,
    "pipeline of transformers": of_a_pipeline,
    "ComfyUI": of_comfyui,
}


@pytest.mark.parametrize("name", ["general", "someone/theirs"])
@pytest.mark.parametrize("way", PYTHON)
@pytest.mark.parametrize("cause", ["offline", "unreachable"])
def test_so_does_every_way_from_python(
    way: str, name: str, cause: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if cause == "offline":
        monkeypatch.setenv("BIREFNET_OFFLINE", "1")
    else:
        monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
        monkeypatch.setattr("time.sleep", lambda seconds: None)  # between attempts
    with pytest.raises(WeightsError) as failure:
        PYTHON[way](name)
    text = str(failure.value)
    assert ("BIREFNET_OFFLINE" in text) == (cause == "offline"), text
    assert "elsewhere and give its " in text
    assert "BIREFNET_MIRROR" in text or "HF_ENDPOINT" in text


def test_backbones_have_one_cure_more(pairs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIREFNET_OFFLINE", "1")
    result = train(*PVT, "--data", pairs, "--output", "run")
    assert result.exit_code != 0
    for cure in ("give its path as encoder_weights", "BIREFNET_MIRROR", "encoder_weights=none"):
        assert cure in said(result)
