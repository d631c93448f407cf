"""The ONNX graph of a bundled network: it reads the one file of weights, and all engines agree."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import birefnet
from birefnet.inference.load import open_exported
from birefnet.network.build import build_network
from birefnet.weights.locate import bundled_names
from birefnet.weights.obtain import weight_files
from birefnet.weights.save import save_directory

onnx = pytest.importorskip("onnx")
graph_beside = pytest.importorskip("birefnet.export.graph_beside")

EXAMPLES = sorted(Path("examples").glob("*.jpg"))[:2]


def bundled_files(name: str) -> tuple[Path, Path]:
    source = weight_files(name)
    return source.graph, source.files[0]


@pytest.mark.parametrize("name", bundled_names())
def test_the_graph_is_of_these_weights(name: str) -> None:
    graph, weights = bundled_files(name)
    model = onnx.load(str(graph), load_external_data=False)
    entries = {entry.key: entry.value for entry in model.metadata_props}
    checksum = hashlib.sha256(weights.read_bytes()).hexdigest()
    assert entries[graph_beside.WEIGHTS_KEY] == checksum
    assert graph.stat().st_size + weights.stat().st_size < 12e6
    assert open_exported(graph).metadata.preprocess == birefnet.load(name).preprocess


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_all_engines_give_the_same_alpha(path: Path) -> None:
    pytest.importorskip("openvino")
    picture = np.asarray(Image.open(path).convert("RGB").resize((200, 150)))
    mattes = {
        engine: birefnet.load("nano", engine=engine).predict(picture).alpha
        for engine in ("torch", "onnx", "openvino")
    }
    assert np.ptp(mattes["torch"]) > 0.9
    for engine in ("onnx", "openvino"):
        assert np.abs(mattes[engine] - mattes["torch"]).max() < 1e-3, engine


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_a_graph_beside_any_weights(tmp_path: Path, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    network = build_network("tiny")
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                for value in (module.running_mean, module.running_var, module.weight, module.bias):
                    value.uniform_(0.5, 1.5)
    network = network.to(dtype).float().eval()
    save_directory(tmp_path, network, dtype=dtype)
    before = (tmp_path / "model.safetensors").read_bytes()
    engine = open_exported(graph_beside.write_graph(tmp_path))
    batch = np.random.default_rng(0).standard_normal((2, 3, 96, 64), np.float32)
    with torch.inference_mode():
        expected = network(torch.from_numpy(batch)).numpy()
    assert np.abs(engine.infer(batch) - expected).max() < 1e-4 * np.abs(expected).max() + 1e-5
    assert (tmp_path / "model.safetensors").read_bytes() == before
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(birefnet.errors.WeightsError):
        open_exported(tmp_path / "model.onnx")
