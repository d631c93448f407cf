"""Networks as OpenVINO graphs, and the engine that runs them."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

openvino = pytest.importorskip("openvino")

from birefnet.errors import BiRefNetError, DeviceError, WeightsError  # noqa: E402
from birefnet.inference.engines.base import Metadata  # noqa: E402
from birefnet.inference.engines.openvino_cache import load_openvino, write_graph  # noqa: E402
from birefnet.inference.engines.openvino_convert import convert  # noqa: E402
from birefnet.inference.engines.openvino_engine import (  # noqa: E402
    OpenVinoEngine,
    UnknownModuleError,
    has_bfloat16,
    shared_core,
)
from birefnet.inference.engines.openvino_sampling import (  # noqa: E402
    Ranges,
    deformable_nodes,
    replace_deformables,
    separate,
)
from birefnet.network.birefnet import BiRefNet  # noqa: E402
from birefnet.network.build import build_network  # noqa: E402
from birefnet.network.config import NetworkConfig  # noqa: E402
from birefnet.network.simplify import simplify  # noqa: E402

SMALL = {"block_width": 8, "attention_width": 8, "reference_width": 4}


def network_of(config: NetworkConfig | str) -> BiRefNet:
    """Random weights with offsets of about a pixel, simplified."""
    torch.manual_seed(0)
    network = build_network(config).eval()
    for key, parameter in network.named_parameters():
        if ".offset." in key or ".modulator." in key:
            torch.nn.init.normal_(parameter, 0, 0.3)
    return simplify(network, inplace=True)


def batch_of(batch: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((batch, 3, height, width), dtype=np.float32)


def logits_of(network: BiRefNet, batch: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return network(torch.from_numpy(batch)).numpy()


def engine_of(graph: openvino.Model, **options: object) -> OpenVinoEngine:
    return OpenVinoEngine(graph, metadata=Metadata("test"), threads=1, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def tiny() -> BiRefNet:
    return network_of("tiny")


@pytest.fixture(scope="module")
def converted(tiny: BiRefNet) -> openvino.Model:
    return convert(tiny)


@pytest.fixture
def graph(converted: openvino.Model) -> openvino.Model:
    """That of `tiny`, to be changed at will."""
    return converted.clone()


@pytest.mark.parametrize(
    "config",
    [
        NetworkConfig(backbone="pvt_v2_b0", **SMALL),
        NetworkConfig(backbone="swin_v1_t", image_pyramid="add", **SMALL),
        NetworkConfig(backbone="efficientnet_lite0", attention="plain", **SMALL),
        NetworkConfig(
            backbone="efficientnet_lite0",
            decoder_block="residual",
            inward_reference="whole",
            outward_reference=False,
            **SMALL,
        ),
    ],
    ids=lambda config: f"{config.backbone} {config.decoder_block} {config.inward_reference}",
)
def test_a_graph_gives_the_network_s_logits(config: NetworkConfig) -> None:
    network = network_of(config)
    batch = batch_of(1, 64, 96)  # an odd number of windows and of merged tokens
    expected = logits_of(network, batch)
    engine = engine_of(convert(network))
    np.testing.assert_allclose(engine.infer(batch), expected, atol=1e-4, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "swin_v1_t",
        "swin_v1_b",
        "pvt_v2_b2",
        "vgg16",
        "vgg16bn",
        "resnet50",
        "efficientnet_lite2",
        "ablation_baseline",
        "ablation_no_context_fusion",
        "variant_no_aspp",
    ],
)
def test_every_backbone_and_variant_gives_its_logits(name: str) -> None:
    network = network_of(name)
    for shape in ((1, 64, 160), (2, 96, 64)):
        batch = batch_of(*shape)
        expected = logits_of(network, batch)
        difference = np.abs(engine_of(convert(network)).infer(batch) - expected).max()
        assert difference < 1e-4 * max(1, np.abs(expected).max())


def test_a_free_graph_takes_batches_of_any_size(tiny: BiRefNet, converted: openvino.Model) -> None:
    compiled = shared_core().compile_model(
        converted, "CPU", {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    )
    for shape in ((2, 64, 64), (1, 96, 32)):
        batch = batch_of(*shape)
        given = compiled([batch])[0]
        np.testing.assert_allclose(given, logits_of(tiny, batch), atol=1e-4, rtol=0)


@pytest.mark.parametrize("apart", [False, True])
def test_sampling_equals_deformable_convolution_far_outside_too(apart: bool) -> None:
    batch = batch_of(2, 64, 96)
    network = network_of("tiny")
    for key, parameter in network.named_parameters():
        if key.endswith("sampling.bias"):
            with torch.no_grad():
                parameter.mul_(0).add_(torch.randn(parameter.shape) * 4)
    graph = convert(network)
    if apart:
        separate(graph)
        engine = OpenVinoEngine(graph.clone(), metadata=Metadata("separate"), threads=1)
        np.testing.assert_allclose(
            engine.infer(batch), logits_of(network, batch), atol=1e-4, rtol=0
        )
    replace_deformables(graph)
    assert not deformable_nodes(graph)
    assert apart != any(one.get_type_name() == "VariadicSplit" for one in graph.get_ops())
    engine = OpenVinoEngine(graph, metadata=Metadata("sampled"), threads=1)
    np.testing.assert_allclose(engine.infer(batch), logits_of(network, batch), atol=1e-4, rtol=0)


def test_integers_are_near(tiny: BiRefNet, graph: openvino.Model) -> None:
    names = [node.get_friendly_name() for node in deformable_nodes(graph)]
    assert len(set(names)) == len(names) == 15
    replace_deformables(graph, dict.fromkeys(names, Ranges(pixels=8.0, columns=12.0)))
    engine = OpenVinoEngine(graph, metadata=Metadata("integers"), threads=1)
    batch = batch_of(1, 64, 64)
    expected = logits_of(tiny, batch)
    assert np.abs(engine.infer(batch) - expected).mean() < 0.05 * np.abs(expected).mean() + 0.01


def test_files_carry_their_metadata(tiny: BiRefNet, graph: openvino.Model, tmp_path: Path) -> None:
    metadata = Metadata("of a file", size=(64, 64), dynamic=True, licence="MIT")
    files = write_graph(graph, metadata, tmp_path / "a" / "network.xml")
    assert sorted(tmp_path.joinpath("a").iterdir()) == sorted(files)
    engine = OpenVinoEngine(files[0], threads=1)
    assert engine.metadata == metadata
    assert engine.name == "openvino cpu fp32"
    batch = batch_of(2, 64, 64)
    np.testing.assert_allclose(engine.infer(batch), logits_of(tiny, batch), atol=1e-4, rtol=0)


def test_a_file_of_others_is_read(tiny: BiRefNet, graph: openvino.Model, tmp_path: Path) -> None:
    import openvino.opset15 as ops

    graph.reshape([1, 3, 64, 96])
    result = graph.results[0]
    result.input(0).replace_source_output(ops.sigmoid(result.input_value(0)).output(0))
    openvino.save_model(graph, str(tmp_path / "theirs.xml"), compress_to_fp16=False)
    engine = OpenVinoEngine(tmp_path / "theirs.xml", threads=1)
    assert engine.metadata.name == "theirs"
    assert engine.metadata.output == "matte"
    assert engine.metadata.size == (96, 64)
    batch = batch_of(1, 64, 96)
    np.testing.assert_allclose(engine.infer(batch), logits_of(tiny, batch), atol=1e-3, rtol=0)
    with pytest.raises(BiRefNetError, match="takes 96x64 pixels only and got 64x64"):
        engine.infer(batch_of(1, 64, 64))


def test_broken_and_foreign_files_are_refused(tmp_path: Path) -> None:
    import openvino.opset15 as ops

    (tmp_path / "alone.xml").write_text("<net/>")
    with pytest.raises(WeightsError, match=r"no alone\.bin beside it"):
        OpenVinoEngine(tmp_path / "alone.xml")
    (tmp_path / "alone.bin").write_bytes(b"")
    with pytest.raises(WeightsError, match="cannot load"):
        OpenVinoEngine(tmp_path / "alone.xml")
    vector = ops.parameter([5], np.float32)
    other = openvino.Model([ops.relu(vector)], [vector])
    openvino.save_model(other, str(tmp_path / "other.xml"))
    with pytest.raises(WeightsError, match="expected one input of pictures"):
        OpenVinoEngine(tmp_path / "other.xml")


def test_devices_and_precisions_that_are_not_there_are_refused(graph: openvino.Model) -> None:
    with pytest.raises(DeviceError, match="OpenVINO finds only cpu"):
        engine_of(graph, device="cuda")
    with pytest.raises(DeviceError, match="'int8' was asked for"):
        engine_of(graph, dtype="int8")
    if not has_bfloat16():
        with pytest.raises(DeviceError, match="no instructions"):
            engine_of(graph, dtype="bf16")


def test_bfloat16_is_near(tiny: BiRefNet, graph: openvino.Model) -> None:
    if not has_bfloat16():
        pytest.skip("no bfloat16 here")
    engine = engine_of(graph, dtype="bf16")
    assert engine.name == "openvino cpu bf16"
    batch = batch_of(1, 64, 64)
    expected = logits_of(tiny, batch)
    assert np.abs(engine.infer(batch) - expected).max() < 0.05 * np.abs(expected).max() + 0.01


def test_beside_integers_bfloat16_is_taken_where_there_is_one(graph: openvino.Model) -> None:
    about = Metadata("integers", precision="int8")
    beside = "bf16" if has_bfloat16() else "fp32"
    for dtype, expected in (("auto", beside), ("int8", beside), ("fp32", "fp32")):
        engine = OpenVinoEngine(graph, dtype=dtype, metadata=about)
        assert engine.name == f"openvino cpu int8 and {expected}"


def test_only_the_last_sizes_stay_compiled(graph: openvino.Model) -> None:
    engine = engine_of(graph)
    for width in (32, 64, 96, 128, 32):
        engine.infer(batch_of(1, 32, width))
    assert list(engine._compiled) == [(32, 96), (32, 128), (32, 32)]


def test_a_module_that_is_not_known_is_named() -> None:
    class Strange(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.special.gammainc(x.abs(), x.abs())

    network = network_of(NetworkConfig(squeeze=False, backbone="efficientnet_lite0", **SMALL))
    network.squeeze = Strange()
    with pytest.raises(UnknownModuleError, match=r"cannot read .*gammainc.* engine torch"):
        convert(network)
    network = network_of("tiny")
    network.config = replace(network.config, backbone="timm:resnet18")
    with pytest.raises(UnknownModuleError, match=r"timm:resnet18 .* engine torch"):
        convert(network)


def test_the_graph_of_a_model_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load_openvino("nano", cache_dir=tmp_path)
    kept = sorted((tmp_path / "openvino").iterdir())
    assert [path.suffix for path in kept] == [".bin", ".xml"]

    def never(*_: object) -> None:
        raise AssertionError("converted again")

    monkeypatch.setattr("birefnet.inference.engines.openvino_convert.convert", never)
    second = load_openvino("nano", cache_dir=tmp_path)
    assert second.metadata == first.metadata
    assert second.metadata.name == "nano"


def test_a_cache_that_cannot_be_written_is_no_obstacle(tmp_path: Path) -> None:
    place = tmp_path / "a file"
    place.write_text("")
    engine = load_openvino("nano", cache_dir=place)
    assert engine.metadata.name == "nano"


def test_signals_are_safe_when_engines_have_come_and_gone() -> None:
    """OpenVINO's own cores leave the thread without its stack for signals, see `shared_core`."""
    program = """
import os, signal
import numpy as np
from birefnet.inference.engines.openvino_cache import load_openvino

def engine():
    made = load_openvino("nano")
    made.infer(np.zeros((1, 3, 64, 64), np.float32))
    return made

first, second = engine(), engine()
del first
del second
signal.signal(signal.SIGINT, lambda number, frame: print("caught"))
os.kill(os.getpid(), signal.SIGINT)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "caught\n"), done.stderr[-2000:]
