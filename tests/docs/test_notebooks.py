"""Every notebook runs from top to bottom, offline, and is stored without outputs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

import birefnet

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

NOTEBOOKS = Path(birefnet.__file__).parents[2] / "notebooks"
NEEDS = {
    "video": ("av",),
    "export": ("onnx", "onnxruntime", "openvino"),
    "finetune": ("accelerate", "yaml", "tensorboard"),
}
# Heavy ones run in a small form too: other numbers in the same cells.
SMALL = {
    "export": {"192": "64"},
    "finetune": {
        'folder / "cracks", 24': 'folder / "cracks", 4',
        'folder / "test", 6': 'folder / "test", 2',
        '"schedule.steps=12"': '"schedule.steps=1",\n"--set", "data.width=64", '
        '"--set", "data.height=64"',
        '"validation.every=12"': '"validation.every=1"',
    },
}
NAMES = sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))

pytestmark = pytest.mark.skipif(not NAMES, reason="installed without its repository")


@pytest.mark.parametrize("name", NAMES)
def test_notebook_runs(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    run(name, SMALL.get(name, {}), monkeypatch, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_heavy_notebook_runs_whole(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run(name, {}, monkeypatch, tmp_path)


def run(name: str, small: Mapping[str, str], monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Every cell, in a kernel of its own."""
    for package in NEEDS.get(name, ()):
        pytest.importorskip(package)
    source = str(NOTEBOOKS.parent / "src")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([source, os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("BIREFNET_OFFLINE", "1")
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setenv("IPYTHONDIR", str(folder / "ipython"))
    monkeypatch.delenv("BIREFNET_MODEL", raising=False)
    book = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    for before, after in small.items():
        assert any(before in cell.source for cell in book.cells), before
        for cell in book.cells:
            cell.source = cell.source.replace(before, after)
    client = nbclient.NotebookClient(
        book, timeout=600, resources={"metadata": {"path": str(NOTEBOOKS)}}
    )
    client.execute()
    assert any(cell.get("outputs") for cell in book.cells)


@pytest.mark.parametrize("name", NAMES)
def test_notebook_is_stored_clean(name: str) -> None:
    book = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    nbformat.validate(book)
    assert book.cells[0].cell_type == "markdown"
    for cell in book.cells:
        if cell.cell_type == "code":
            assert not cell.outputs
            assert cell.execution_count is None
