"""ONNX files: equal to the network at every size, whole, and telling what they are."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import birefnet
from birefnet.errors import BiRefNetError, DeviceError, WeightsError
from birefnet.export import graph as export_graph
from birefnet.export.calibration import CalibrationPictures
from birefnet.export.onnx import export_onnx
from birefnet.export.parity import LIMITS, Case
from birefnet.export.request import ExportResult, Request
from birefnet.export.run import check, export
from birefnet.export.tensorrt import obstacles, trtexec
from birefnet.imaging.geometry import Preprocess
from birefnet.inference.load import open_exported
from birefnet.network.birefnet import BiRefNet
from birefnet.network.build import build_network
from birefnet.network.config import PRESETS
from birefnet.network.exportable import exportable
from birefnet.network.simplify import simplify
from fakes import disc

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

SMALL = Preprocess(96, 64)


def network_of(name: str) -> BiRefNet:
    """A simplified network whose deformable convolutions sample off the grid."""
    torch.manual_seed(0)
    network = build_network(PRESETS[name]).eval()
    for key, parameter in network.named_parameters():
        if ".offset." in key or ".modulator." in key:
            nn.init.normal_(parameter, 0, 0.05)
    return simplify(network, inplace=True)


@pytest.fixture(scope="module")
def tiny() -> BiRefNet:
    return network_of("tiny")


@pytest.fixture(scope="module")
def fixed(tiny: BiRefNet, tmp_path_factory: pytest.TempPathFactory) -> ExportResult:
    """The file of one size in full precision, which nothing changes."""
    path = tmp_path_factory.mktemp("fixed") / "fixed.onnx"
    return export(Request(tiny, SMALL, name="mine", licence="MIT", source="here"), path)


def largest_difference(network: BiRefNet, path: Path, batch: int, height: int, width: int) -> float:
    images = torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = network(images).numpy()
    return float(np.abs(open_exported(path, device="cpu").infer(images.numpy()) - expected).max())


@pytest.mark.parametrize(
    "name", ["tiny", "pvt_v2_b0", pytest.param("swin_v1_t", marks=pytest.mark.slow)]
)
def test_one_dynamic_file_serves_all_sizes(name: str, tmp_path: Path) -> None:
    network = network_of(name)
    path = tmp_path / "dynamic.onnx"
    result = export(Request(network, SMALL, dynamic=True, name=name), path)
    assert result.parity.passed
    assert {case.batch for case in result.parity.cases} == {1, 3}
    # Odd numbers of tokens at every stride, windows that do not fit, a side below a window.
    for batch, height, width in ((1, 32, 32), (2, 96, 160), (1, 224, 64), (3, 64, 288)):
        assert largest_difference(network, path, batch, height, width) < 1e-5


@pytest.mark.parametrize("name", ["swin_v1_t", "pvt_v2_b0", "tiny"])
def test_the_exportable_network_is_equal(name: str) -> None:
    network = network_of(name)
    weights = sum(p.numel() for p in network.parameters())
    for fused in (False, True):
        other = exportable(network, fused_attention=fused)
        images = torch.randn(1, 3, 96, 160)
        with torch.inference_mode():
            assert (other(images) - network(images)).abs().max() < 1e-5
    assert sum(p.numel() for p in network.parameters()) == weights


def test_deformable_convolution_is_native_or_standard(
    tiny: BiRefNet, fixed: ExportResult, tmp_path: Path
) -> None:
    native, standard = fixed.path, tmp_path / "standard.onnx"
    result = export(Request(tiny, SMALL, standard_ops=True, opset=17), standard)
    assert result.parity.passed
    kinds = [{node.op_type for node in onnx.load(file).graph.node} for file in (native, standard)]
    assert "DeformConv" in kinds[0]
    assert "DeformConv" not in kinds[1]
    assert "GridSample" in kinds[1]
    assert obstacles(native) == []
    assert onnx.load(standard).opset_import[0].version == 17


@pytest.mark.parametrize(
    ("backbone", "opset"),
    [
        ("efficientnet_lite0", 17),
        ("swin_v1_t", 20),
        ("pvt_v2_b0", 20),
        # Convolutions as in the first one, and many more of them.
        pytest.param("resnet50", 20, marks=pytest.mark.slow),
        pytest.param("vgg16bn", 20, marks=pytest.mark.slow),
    ],
)
def test_the_standard_form_suits_small_runtimes(backbone: str, opset: int, tmp_path: Path) -> None:
    """Of one size: at most five axes, indices of 32 bits, no arithmetic on shapes."""
    torch.manual_seed(0)
    config = replace(PRESETS["tiny"], backbone=backbone)
    network = simplify(build_network(config).eval(), inplace=True)
    path = tmp_path / "standard.onnx"
    export_onnx(Request(network, Preprocess(96, 160), standard_ops=True, opset=opset), path)
    assert largest_difference(network, path, 2, 160, 96) < 1e-5  # 2.5 becomes 3 in the half scale
    model = onnx.shape_inference.infer_shapes(onnx.load(path), strict_mode=True, data_prop=True)
    constants = {one.name: one for one in model.graph.initializer}
    maps = [*model.graph.value_info, *model.graph.output]
    types = {one.name: one.type.tensor_type for one in maps}
    for node in model.graph.node:
        assert node.op_type not in ("Shape", "DeformConv", "If", "Loop")
        for name in node.output:
            assert types[name].HasField("shape"), f"{node.op_type} {name} has no shape"
            assert len(types[name].shape.dim) <= 5, node.op_type
            assert types[name].elem_type == onnx.TensorProto.FLOAT, node.op_type
        if node.op_type in ("Gather", "Slice"):
            for name in node.input[1:]:
                assert constants[name].data_type == onnx.TensorProto.INT32, node.op_type


def test_a_fixed_file_refuses_other_sizes(tiny: BiRefNet, fixed: ExportResult) -> None:
    path = fixed.path
    assert largest_difference(tiny, path, 3, 64, 96) < 1e-5  # the batch is free
    with pytest.raises(BiRefNetError, match="takes 96x64 pixels only and got 64x64"):
        birefnet.load(path).predict(disc(), resolution=64)
    # The paddings of the strided convolutions are theirs, where the size is known.
    assert not [node for node in onnx.load(path).graph.node if node.op_type == "Pad"]


def test_pixels_in_matte_out(tiny: BiRefNet, tmp_path: Path) -> None:
    path = tmp_path / "pixels.onnx"
    result = export(Request(tiny, SMALL, with_preprocessing=True), path)
    assert result.metadata.output == "matte"
    picture = disc(150, 200)
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (matte,) = session.run(None, {"pixels": np.stack([picture, picture[:, ::-1]])})
    assert matte.shape == (2, 1, 150, 200)
    predictor = birefnet.Predictor(tiny, SMALL, device="cpu")
    # The predictor rounds the resized picture to whole levels, the graph does not.
    assert np.abs(matte[0, 0] - predictor.predict(picture).alpha).max() < 0.01
    # Its engine undoes the normalisation, so the usual way works too.
    assert np.abs(birefnet.load(path).predict(picture).alpha - matte[0, 0]).max() < 0.01
    assert "antialiased" in obstacles(path)[0]


def test_half_precision_keeps_float_inputs_and_outputs(
    tiny: BiRefNet, fixed: ExportResult, tmp_path: Path
) -> None:
    half, request = tmp_path / "half.onnx", Request(tiny, SMALL, precision="fp16")
    export_onnx(request, half)
    assert check(request, open_exported(half, device="cpu")).passed
    assert half.stat().st_size < 0.7 * fixed.bytes
    graph = onnx.load(half).graph
    types = {one.type.tensor_type.elem_type for one in (*graph.input, *graph.output)}
    assert types == {onnx.TensorProto.FLOAT}
    assert birefnet.load(half, dtype="fp16").predict(disc()).alpha.shape == (48, 64)
    with pytest.raises(DeviceError, match="exported in fp16, and fp32 was asked for"):
        birefnet.load(half, dtype="fp32")


def test_half_precision_keeps_large_numbers_in_float(tiny: BiRefNet) -> None:
    from onnx import TensorProto, helper

    from birefnet.export.half import large_tensors

    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [2]) for n in ("x", "y")]
    nodes = [helper.make_node("Exp", ["x"], ["large"]), helper.make_node("Log", ["large"], ["y"])]
    model = helper.make_model(
        helper.make_graph(nodes, "g", ends[:1], ends[1:]),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=9,
    )
    assert large_tensors(model, [{"x": np.float32([1, 10])}]) == {"large"}
    assert large_tensors(model, [{"x": np.float32([1, 2])}]) == set()


def test_eight_bits(tmp_path: Path) -> None:
    from PIL import Image

    for number in range(4):
        picture = disc(80, 100, subject=200 + 10 * number)
        Image.fromarray(picture).save(tmp_path / f"{number}.png")
    network = birefnet.load_network("nano")
    network = simplify(network, inplace=True)
    preprocess = birefnet.load("nano").preprocess
    pictures = CalibrationPictures(tmp_path, preprocess, (96, 96))
    path = tmp_path / "int8.onnx"
    request = Request(network, preprocess, precision="int8", size=(96, 96), calibration=pictures)
    result = export(request, path)
    assert max(case.matte_mean for case in result.parity.cases) < 0.02
    nodes = onnx.load(path).graph.node
    quantised = {
        name for node in nodes if node.op_type == "DequantizeLinear" for name in node.output
    }
    convolutions = [node for node in nodes if node.op_type == "Conv"]
    in_eight_bits = [node for node in convolutions if node.input[1] in quantised]
    assert 0.4 < len(in_eight_bits) / len(convolutions) < 1
    assert birefnet.load(path).engine.name == "onnxruntime cpu int8"


def test_weights_beside_the_graph(
    tiny: BiRefNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_graph, "LARGEST_FILE", 10_000)
    path = tmp_path / "large.onnx"
    result = export(Request(tiny, SMALL), path)
    assert [file.name for file in result.files] == ["large.onnx", "large.onnx.data"]
    assert path.stat().st_size < result.files[1].stat().st_size
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "large.onnx", "large.onnx.data", "large.onnx.json", "large.onnx.run.py"
    ]  # fmt: skip


def test_the_file_says_what_it_is(fixed: ExportResult) -> None:
    entries = {entry.key: entry.value for entry in onnx.load(fixed.path).metadata_props}
    assert entries["activation"] == "sigmoid"
    assert entries["licence"] == "MIT"
    predictor = birefnet.load(fixed.path)
    assert (predictor.name, predictor.licence, predictor.preprocess) == ("mine", "MIT", SMALL)
    report = json.loads(fixed.report.read_text())
    assert report["parity"]["passed"] is True
    cases = [(case["what"], case["batch"]) for case in report["parity"]["cases"]]
    assert cases == [("input", 1), ("input", 3), ("picture", 1), ("picture", 1)]


def test_a_wrong_file_is_removed(
    tiny: BiRefNet, fixed: ExportResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "birefnet.export.onnx.export_onnx", lambda _, path: [shutil.copy(fixed.path, path)]
    )
    monkeypatch.setitem(LIMITS, "fp32", LIMITS["fp32"].__class__(0, 0, 0))
    path = tmp_path / "wrong.onnx"
    with pytest.raises(BiRefNetError, match="gives other mattes than the network"):
        export(Request(tiny, SMALL), path)
    assert [file.name for file in tmp_path.iterdir()] == ["wrong.onnx.json"]
    assert not export(Request(tiny, SMALL), path, force=True).parity.passed
    assert path.exists()


def test_not_a_number_fails() -> None:
    case = Case(32, 32, 1, float("nan"), 0.0, 0.0, 0.0, 1.0)
    assert not case.passes(LIMITS["int8"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": (100, 64)}, "multiples of 32"),
        ({"precision": "int8"}, "--calibrate FOLDER"),
        ({"opset": 17}, "take 19 to 20, or add --standard-ops"),
        ({"opset": 25}, "take 19 to 20$"),
        ({"with_preprocessing": True, "standard_ops": True, "opset": 17}, "needs opset 18"),
    ],
)
def test_requests_that_make_no_sense(
    settings: dict, message: str, tiny: BiRefNet, tmp_path: Path
) -> None:
    with pytest.raises(BiRefNetError, match=message):
        export(Request(tiny, SMALL, **settings), tmp_path / "x.onnx")


def test_formats_and_suffixes(tiny: BiRefNet, tmp_path: Path) -> None:
    with pytest.raises(BiRefNetError, match="not clear from its suffix"):
        export(Request(tiny, SMALL), tmp_path / "x.bin")
    with pytest.raises(BiRefNetError, match=r"ends with \.pt2"):
        export(Request(tiny, SMALL), tmp_path / "x.onnx", "torch")
    with pytest.raises(WeightsError, match="there is no file"):
        birefnet.load(tmp_path / "none.onnx")


def test_trtexec() -> None:
    line = trtexec(Path("a.onnx"), dynamic=False, size=(96, 64), name="input_image")
    assert "--onnx=a.onnx --saveEngine=a.engine" in line
    assert "--optShapes=input_image:1x3x64x96" in line
