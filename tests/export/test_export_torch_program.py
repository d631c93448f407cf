"""torch.export programs give what the network gives."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import birefnet
from birefnet.errors import BiRefNetError, WeightsError
from birefnet.export.request import Request
from birefnet.export.run import check, export
from birefnet.export.torch_program import export_torch_program
from birefnet.imaging.geometry import Preprocess
from birefnet.inference.load import open_exported
from birefnet.network.build import build_network
from birefnet.network.simplify import simplify
from fakes import disc

SMALL = Preprocess(96, 64)


def test_a_package_runs_like_the_network(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = simplify(build_network("tiny").eval(), inplace=True)
    path = tmp_path / "tiny.pt2"
    result = export(Request(network, SMALL, name="mine"), path)
    assert result.parity.passed
    predictor = birefnet.load(path, device="cpu")
    assert (predictor.name, predictor.preprocess) == ("mine", SMALL)
    expected = birefnet.Predictor(network, SMALL, device="cpu").predict(disc()).alpha
    assert abs(predictor.predict(disc()).alpha - expected).max() < 1e-5
    with pytest.raises(BiRefNetError, match="takes 96x64 pixels and got 64x64"):
        predictor.predict(disc(), resolution=64)
    request = Request(network, SMALL, precision="int8", calibration=[disc()])
    with pytest.raises(BiRefNetError, match="take onnx or openvino"):
        export(request, path)
    with pytest.raises(BiRefNetError, match="take onnx or openvino for --dynamic"):
        export(Request(network, SMALL, dynamic=True), path)
    with pytest.raises(BiRefNetError, match="take onnx for --with-preprocessing"):
        export(Request(network, SMALL, with_preprocessing=True), path)


def test_half_precision_keeps_float_inputs_and_outputs(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = simplify(build_network("tiny").eval(), inplace=True)
    path, request = tmp_path / "tiny.pt2", Request(network, SMALL, precision="fp16")
    export_torch_program(request, path)
    assert check(request, open_exported(path, device="cpu")).passed
    expected = birefnet.Predictor(network, SMALL, device="cpu").predict(disc()).alpha
    assert abs(birefnet.load(path, device="cpu").predict(disc()).alpha - expected).max() < 0.02
    assert network.decoder.bias.dtype == torch.float32  # the caller's network is left alone


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.pt2"
    path.write_bytes(b"nothing")
    with pytest.raises(WeightsError, match=r"is not a torch\.export program"):
        birefnet.load(path)
