"""The script beside an exported file gives the mask of `birefnet remove`, without birefnet."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from birefnet.cli.main import app
from birefnet.export.request import Request
from birefnet.export.run import export
from birefnet.imaging.geometry import Preprocess
from birefnet.imaging.views import View
from birefnet.network.build import build_network
from birefnet.network.config import PRESETS
from birefnet.network.simplify import simplify
from birefnet.weights.checkpoint import load_checkpoint

PHOTO = Path(__file__).parents[2] / "examples" / "leaf.jpg"
WITHOUT_BIREFNET = """
import runpy, sys
sys.modules["birefnet"] = None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small picture that is turned by its orientation."""
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    picture = Image.open(PHOTO).resize((150, 100))
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.save(path, exif=exif)
    return path


@pytest.mark.parametrize(
    ("suffix", "preprocess", "options"),
    [
        (".onnx", {"views": (View(128, 128, True), View(96, 64))}, {}),
        (".onnx", {}, {}),
        (".onnx", {}, {"with_preprocessing": True, "size": (96, 96)}),
        (".onnx", {"fit": "pad", "interpolation": "bicubic"}, {}),
        (".onnx", {"fit": "native", "minimum": 64, "maximum": 96}, {}),
        (".xml", {"views": (View(128, 128, True), View(96, 64))}, {}),
        (".pt2", {"views": ()}, {"standard_ops": True}),
    ],
    ids=str,
)
def test_mask_is_that_of_remove(
    suffix: str,
    preprocess: dict[str, object],
    options: dict[str, object],
    photo: Path,
    tmp_path: Path,
) -> None:
    for package in {".onnx": ("onnx", "onnxruntime"), ".xml": ("openvino",)}.get(suffix, ()):
        pytest.importorskip(package)
    nano = load_checkpoint("nano")
    small = replace(nano.preprocess, width=128, height=96, **{"views": (), **preprocess})
    path = tmp_path / f"file{suffix}"
    network = simplify(nano.network, inplace=True)
    result = export(Request(network, small, **options), path)  # type: ignore[arg-type]
    assert json.loads(result.report.read_text())["script"] == result.script.name
    given, expected = tmp_path / "given.png", tmp_path / "expected.png"
    command = [sys.executable, "-c", WITHOUT_BIREFNET, str(result.script), str(photo), str(given)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    words = ["remove", str(photo), "--model", str(path), "--type", "mask", "-o", str(expected)]
    assert CliRunner().invoke(app, words).exit_code == 0
    masks = [np.asarray(Image.open(one), np.float32) for one in (given, expected)]
    assert masks[0].shape == masks[1].shape == (150, 100)
    assert np.ptp(masks[1]) > 200
    apart = np.abs(masks[0] - masks[1])
    # The graph resizes pixels in float32, and Pillow in whole grey levels.
    most, mean = (12, 2) if "with_preprocessing" in options else (4, 0.2)
    assert apart.max() <= most
    assert apart.mean() <= mean


def test_native_operators_of_a_program_need_birefnet(tmp_path: Path, photo: Path) -> None:
    network = simplify(build_network(PRESETS["tiny"]).eval())
    result = export(Request(network, Preprocess(64, 64)), tmp_path / "tiny.pt2")
    assert "birefnet" in result.script.read_text().partition('"""\n')[0]
    given = tmp_path / "given.png"
    command = [sys.executable, str(result.script), str(photo), str(given)]
    subprocess.run(command, check=True)
    assert Image.open(given).size == (100, 150)
