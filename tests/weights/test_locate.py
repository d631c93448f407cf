"""What a name of weights means, and that it is looked up once."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

import birefnet
from birefnet.errors import UnknownModelError
from birefnet.inference.load import load
from birefnet.weights import catalogue
from birefnet.weights.locate import bundled_names, locate

FILES = ("mine.pth", "mine.onnx", "graph.xml", "general", "odd.dat")


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in (*FILES, "BiRefNet-general-epoch_244.pth"):
        (tmp_path / name).touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "owner" / "name").mkdir(parents=True)


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("general", "checkpoint", "general"),  # a file of this name is `./general`
        ("Heavy", "checkpoint", "general"),
        ("ZhengPeng7/BiRefNet_HR", "checkpoint", "hr"),
        ("BiRefNet-general-epoch_244.onnx", "checkpoint", "BiRefNet-general-epoch_244.onnx"),
        ("backbone-swin_v1_t", "checkpoint", "backbone-swin_v1_t"),
        ("./general", "path", "general"),
        (Path("general"), "path", "general"),
        ("BiRefNet-general-epoch_244.pth", "path", "BiRefNet-general-epoch_244.pth"),
        ("odd.dat", "path", "odd.dat"),
        ("folder", "path", "folder"),
        ("owner/name", "path", "owner/name"),
        ("owner/other", "repository", "owner/other"),
        ("owner/other@v2", "repository", "owner/other@v2"),
        ("https://example.com/a.pth", "address", "https://example.com/a.pth"),
    ],
)
def test_what_a_name_means(name: str | Path, field: str, value: str) -> None:
    located = locate(name)
    meant = getattr(located, field)
    assert getattr(meant, "name", str(meant)) == os.path.basename(value) or str(meant) == value
    others = {"path", "checkpoint", "repository", "address"} - {field}
    assert not any(getattr(located, other) for other in others)
    assert locate(located) is located


@pytest.mark.parametrize("name", [name for one in bundled_names() for name in (one, one.upper())])
def test_bundled_names_win(name: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    located = locate(f" {name} ")
    assert located.is_bundled
    assert located.absolute == name


@pytest.mark.parametrize(
    ("name", "exported"),
    [
        ("mine.onnx", ".onnx"),
        (Path("graph.xml"), ".xml"),
        ("https://example.com/a.pt2", ".pt2"),
        ("BiRefNet-general-epoch_244.onnx", ".onnx"),
        ("general", None),
        ("mine.pth", None),
        ("folder", None),
    ],
)
def test_which_files_an_engine_runs_as_they_are(name: str | Path, exported: str | None) -> None:
    assert locate(name).exported == exported


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("genral", "did you mean general"),
        ("none.pth", "there is no file or directory none.pth"),
        ("none.onnx", "there is no file or directory none.onnx"),
        ("owner/none.onnx", "there is no file or directory owner/none.onnx"),
        ("./none", "there is no file or directory ./none"),
        ("", "name of the model is empty"),
        (" ", "name of the model is empty"),
        (Path("general.pth"), "there is no file or directory general.pth"),
    ],
)
def test_names_that_mean_nothing(name: str | Path, told: str) -> None:
    with pytest.raises(UnknownModelError, match=told):
        locate(name)


def test_a_path_means_the_same_in_another_folder(tmp_path: Path) -> None:
    assert locate("mine.pth").absolute == str(tmp_path / "mine.pth")
    assert locate("general").absolute == "general"
    assert locate("owner/other").absolute == "owner/other"


@pytest.mark.parametrize("engine", ["auto", "onnx"])
@pytest.mark.parametrize("name", ["lite", "ZhengPeng7/BiRefNet_HR"])
def test_load_looks_a_name_up_once(name: str, engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lookups = []

    def lookup(text: str) -> catalogue.Checkpoint | None:
        lookups.append(text)
        return real(text)

    real: Callable[[str], catalogue.Checkpoint | None] = catalogue.lookup
    monkeypatch.setattr(catalogue, "lookup", lookup)
    monkeypatch.setenv("BIREFNET_OFFLINE", "1")
    with pytest.raises(birefnet.BiRefNetError, match="downloads are switched off"):
        load(name, engine=engine)
    assert lookups == [name]
