"""Files that `birefnet export --format openvino` writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

openvino = pytest.importorskip("openvino")

from birefnet.errors import BiRefNetError  # noqa: E402
from birefnet.export.openvino import export_openvino  # noqa: E402
from birefnet.export.request import Request  # noqa: E402
from birefnet.imaging.geometry import Preprocess  # noqa: E402
from birefnet.inference.engines.openvino_engine import OpenVinoEngine, shared_core  # noqa: E402
from birefnet.network.birefnet import BiRefNet  # noqa: E402
from birefnet.network.build import build_network  # noqa: E402
from birefnet.network.simplify import simplify  # noqa: E402


@pytest.fixture(scope="module")
def network() -> BiRefNet:
    torch.manual_seed(0)
    made = build_network("tiny").eval()
    for key, parameter in made.named_parameters():
        if ".offset." in key or ".modulator." in key:
            torch.nn.init.normal_(parameter, 0, 0.3)
    return simplify(made, inplace=True)


def batch_of(count: int, height: int = 64, width: int = 96) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((count, 3, height, width), dtype=np.float32)


def request_of(network: BiRefNet, **options: Any) -> Request:
    return Request(network, Preprocess(96, 64), name="tiny", **options)


def logits_of(network: BiRefNet, batch: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return network(torch.from_numpy(batch)).numpy()


@pytest.mark.parametrize("dynamic", [False, True])
def test_a_file_says_what_it_is_and_gives_the_logits(
    network: BiRefNet, tmp_path: Path, dynamic: bool
) -> None:
    request = request_of(network, dynamic=dynamic)
    files = export_openvino(request, tmp_path / "out" / "tiny.xml")
    assert [file.name for file in files] == ["tiny.xml", "tiny.bin"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["tiny.bin", "tiny.xml"]
    engine = OpenVinoEngine(files[0], threads=1)
    assert engine.metadata == request.metadata()
    for batch in (batch_of(1), batch_of(3)):
        np.testing.assert_allclose(engine.infer(batch), logits_of(network, batch), atol=1e-4)
    other = batch_of(1, 32, 64)
    if dynamic:
        np.testing.assert_allclose(engine.infer(other), logits_of(network, other), atol=1e-4)
    else:
        with pytest.raises(BiRefNetError, match="takes 96x64 pixels only"):
            engine.infer(other)


def test_half_precision_halves_the_file(network: BiRefNet, tmp_path: Path) -> None:
    full = 4 * sum(parameter.numel() for parameter in network.parameters())  # bytes, at least
    half = export_openvino(request_of(network, precision="fp16"), tmp_path / "half.xml")
    assert half[1].stat().st_size < 0.6 * full
    batch = batch_of(1)
    expected = logits_of(network, batch)
    given = OpenVinoEngine(half[0], threads=1).infer(batch)
    assert np.abs(given - expected).max() < 0.02 * np.abs(expected).max() + 0.01


@pytest.mark.slow
def test_eight_bits_are_near_at_every_size(network: BiRefNet, tmp_path: Path) -> None:
    pytest.importorskip("nncf")
    calibration = [batch_of(1) + 0.01 * step for step in range(2)]
    request = request_of(network, precision="int8", dynamic=True, calibration=calibration)
    path = export_openvino(request, tmp_path / "tiny.xml")[0]
    graph = shared_core().read_model(path)
    kinds = {node.get_type_name() for node in graph.get_ops()}
    assert "FakeQuantize" in kinds
    assert "DeformableConvolution" not in kinds
    engine = OpenVinoEngine(path, threads=1)
    assert engine.name.startswith("openvino cpu int8 and ")
    for batch in (batch_of(2), batch_of(1, 128, 64)):
        expected, given = logits_of(network, batch), engine.infer(batch)
        assert np.abs(given - expected).mean() < 0.1 * np.abs(expected).mean() + 0.02


def test_pixels_inside_the_graph_are_refused(network: BiRefNet, tmp_path: Path) -> None:
    with pytest.raises(BiRefNetError, match="export to ONNX with --with-preprocessing"):
        export_openvino(request_of(network, with_preprocessing=True), tmp_path / "a.xml")
    assert not list(tmp_path.iterdir())


def test_what_windows_gather_stays_in_floating_point() -> None:
    from birefnet.export.int8_openvino import sensitive_nodes
    from birefnet.inference.engines.openvino_convert import convert
    from birefnet.network.config import NetworkConfig

    config = NetworkConfig(
        backbone="swin_v1_t", block_width=8, attention_width=8, reference_width=4
    )
    graph = convert(simplify(build_network(config).eval(), inplace=True))
    names = set(sensitive_nodes(graph))
    gathers = [
        node.get_friendly_name()
        for node in graph.get_ops()
        if node.get_type_name() == "Gather" and node.get_output_element_type(0).is_real()
    ]
    # Into and out of the windows of 12 blocks, and the biases of the 6 with a shift; at two scales.
    assert len(gathers) == 2 * (2 * 12 + 6)
    assert names.issuperset(gathers)
