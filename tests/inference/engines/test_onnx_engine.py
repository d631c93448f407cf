"""ONNX files of others, and what cannot run, said in one sentence."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

import birefnet
from birefnet.errors import DeviceError, WeightsError
from birefnet.imaging.geometry import Preprocess
from birefnet.inference.engines.onnxruntime_engine import OnnxEngine
from fakes import disc

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
from onnx import TensorProto, helper  # noqa: E402


def write(
    path: Path,
    *,
    shape: tuple = ("n", 3, 64, 96),
    sigmoid: bool = False,
    coarse: bool = False,
    type: int = TensorProto.FLOAT,
    operator: str = "ReduceMean",
) -> Path:
    """A network that takes the mean of the channels for logits, as the released files look."""
    axes = helper.make_tensor("axes", TensorProto.INT64, [1], [1])
    nodes = [helper.make_node(operator, ["input_image", "axes"], ["mean"], keepdims=1)]
    last = "mean"
    if sigmoid:
        nodes.append(helper.make_node("Sigmoid", [last], ["p"]))
        nodes.append(helper.make_node("Identity", ["p"], ["output_image"]))
    else:
        nodes.append(helper.make_node("Identity", [last], ["output_image"]))
    outputs = [helper.make_tensor_value_info("output_image", type, None)]
    if coarse:
        sides = {"kernel_shape": [2, 2], "strides": [2, 2]}
        nodes.append(helper.make_node("AveragePool", ["mean"], ["small"], **sides))
        outputs.append(helper.make_tensor_value_info("small", type, None))
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("input_image", type, shape)], outputs, [axes]
    )
    opset = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), str(path))
    return path


def test_a_file_of_others_is_prepared_by_imagenet(tmp_path: Path) -> None:
    predictor = birefnet.load(write(tmp_path / "other.onnx"))
    assert predictor.preprocess == Preprocess(width=96, height=64)
    assert predictor.engine.name == "onnxruntime cpu fp32"
    alpha = predictor.predict(disc()).alpha
    assert alpha[24, 32] > 0.8 > 0.4 > alpha[0, 0]


@pytest.mark.parametrize("coarse", [False, True])
@pytest.mark.parametrize("sigmoid", [False, True])
def test_logits_mattes_and_several_outputs(tmp_path: Path, sigmoid: bool, coarse: bool) -> None:
    path = write(tmp_path / "other.onnx", sigmoid=sigmoid, coarse=coarse)
    batch = np.random.default_rng(0).normal(size=(2, 3, 64, 96)).astype(np.float32)
    engine = OnnxEngine(path, "cpu")
    assert np.abs(engine.infer(batch) - batch.mean(axis=1, keepdims=True)).max() < 1e-4


@pytest.mark.parametrize("sigmoid", [False, True])
def test_logits_and_mattes_are_told_apart_without_onnx(
    tmp_path: Path, sigmoid: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "other.onnx", sigmoid=sigmoid)
    monkeypatch.setitem(sys.modules, "onnx", None)
    batch = np.random.default_rng(0).normal(size=(2, 3, 64, 96)).astype(np.float32)
    engine = OnnxEngine(path, "cpu")
    assert np.abs(engine.infer(batch) - batch.mean(axis=1, keepdims=True)).max() < 1e-4


def test_a_batch_of_fixed_size(tmp_path: Path) -> None:
    engine = OnnxEngine(write(tmp_path / "two.onnx", shape=(2, 3, 32, 32)), "cpu", threads=1)
    batch = np.random.default_rng(0).normal(size=(3, 3, 32, 32)).astype(np.float32)
    assert np.allclose(engine.infer(batch), batch.mean(axis=1, keepdims=True), atol=1e-6)


def test_half_precision_inputs(tmp_path: Path) -> None:
    engine = OnnxEngine(write(tmp_path / "half.onnx", type=TensorProto.FLOAT16), "cpu")
    assert engine.name == "onnxruntime cpu fp16"
    batch = np.ones((1, 3, 64, 96), np.float32)
    assert np.allclose(engine.infer(batch), 1, atol=1e-3)


def test_what_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "other.onnx")
    with pytest.raises(DeviceError, match="has only cpu here; install onnxruntime-gpu"):
        OnnxEngine(path, "cuda")
    with pytest.raises(DeviceError, match="'gpu' is unknown to ONNX Runtime"):
        OnnxEngine(path, "gpu")
    with pytest.raises(DeviceError, match="exported in fp32, and bf16 was asked for"):
        OnnxEngine(path, dtype="bf16")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(DeviceError, match="ONNX Runtime is missing: pip install onnxruntime, or"):
        OnnxEngine(path)


def test_damaged_and_foreign_files(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(b"not a graph")
    with pytest.raises(WeightsError, match="cannot load"):
        OnnxEngine(damaged)
    with pytest.raises(WeightsError, match="expected a picture of three channels"):
        OnnxEngine(write(tmp_path / "grey.onnx", shape=("n", 1, 64, 96)))


def test_nan_is_refused(tmp_path: Path) -> None:
    engine = OnnxEngine(write(tmp_path / "other.onnx"), "cpu")
    with pytest.raises(DeviceError, match="NaN or infinity"):
        engine.infer(np.full((1, 3, 64, 96), np.nan, np.float32))


def test_released_files_run_by_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`load` fetches a released ONNX file of the table and runs it, at the table's size."""
    from birefnet.weights.catalogue import CHECKPOINTS

    name = next(c.name for c in CHECKPOINTS.values() if c.kind == "onnx")
    path = write(tmp_path / "fetched.onnx", shape=(1, 3, 1024, 1024))
    monkeypatch.setattr("birefnet.weights.download.fetch", lambda *_, **__: path)
    predictor = birefnet.load(name, device="cpu")
    assert predictor.name == name
    assert predictor.predict(disc()).alpha.shape == (48, 64)


@pytest.mark.parametrize("name", ["general", "lite", "ZhengPeng7/BiRefNet_HR", "hr-matting"])
def test_a_released_network_runs_as_its_onnx_file_where_torch_is_missing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its outputs are logits by the table, so that nothing but ONNX Runtime is needed."""
    from birefnet.weights.catalogue import find, onnx_of

    network, file = find(name), onnx_of(find(name))
    assert file is not None
    assert (file.kind, file.size, file.task) == ("onnx", network.size, network.task)
    width, height = file.size
    path = write(tmp_path / "fetched.onnx", shape=(1, 3, height, width))
    fetched = []

    def fetch(what: object, **_: object) -> Path:
        fetched.append(what)
        return path

    monkeypatch.setattr("birefnet.weights.download.fetch", fetch)
    monkeypatch.setattr("birefnet.inference.load._is_there", lambda package: False)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.warns(UserWarning, match=rf"runs as its published ONNX file {file.name} .*torch"):
        predictor = birefnet.load(name)
    assert fetched == [file]
    assert predictor.preprocess == file.preprocess
    alpha = predictor.predict(disc()).alpha
    assert alpha[24, 32] > 0.8 > 0.4 > alpha[0, 0]


def test_names_of_onnx_files_are_in_the_table() -> None:
    from birefnet.weights.catalogue import CHECKPOINTS, onnx_of

    pairs = [(one, onnx_of(one)) for one in CHECKPOINTS.values() if one.kind == "network"]
    assert all(one.onnx is None or file is not None for one, file in pairs)
    assert len({file.name for _, file in pairs if file is not None}) == 7
