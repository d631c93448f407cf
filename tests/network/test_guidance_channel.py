"""The guidance channel: nothing changes until it is trained, and every form of a network has it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from birefnet.errors import BiRefNetError, WeightsError
from birefnet.inference.engines.base import takes_guidance
from birefnet.inference.engines.torch_engine import TorchEngine
from birefnet.network.birefnet import BiRefNet
from birefnet.network.build import build_network, empty_network
from birefnet.network.config import NetworkConfig, preset
from birefnet.network.guidance import GuidedConv2d, is_guidance, let_guide
from birefnet.network.simplify import simplify
from birefnet.weights.checkpoint import assign_weights, load_checkpoint
from birefnet.weights.detect import detect_config
from birefnet.weights.layouts import from_official, to_official
from birefnet.weights.save import save_directory, save_file

GUIDED = replace(preset("tiny"), guidance_channel=True)


def randomised(config: NetworkConfig, seed: int = 3) -> BiRefNet:
    """Weights of which none is at its start: guidance and the statistics of norms too."""
    torch.manual_seed(seed)
    network = build_network(config)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if is_guidance(name) or ".offset." in name:
                parameter.normal_(0, 0.5 if is_guidance(name) else 0.05)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
    return network.eval()


def batch(count: int = 2, height: int = 96, width: int = 64, channels: int = 4) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    pictures = torch.randn(count, 3, height, width, generator=generator)
    guide = torch.zeros(count, 1, height, width)
    guide[..., : width // 2] = 1
    guide[..., : height // 4, :] = -0.7
    return torch.cat([pictures, guide], dim=1)[:, :channels]


@torch.no_grad()
@pytest.mark.parametrize(
    "backbone", ["efficientnet_lite0", "swin_v1_t", "pvt_v2_b0", "resnet50", "vgg16bn"]
)
def test_trained_weights_load_unchanged(backbone: str) -> None:
    config = replace(preset("tiny"), backbone=backbone)
    plain = randomised(config)
    guided = empty_network(replace(config, guidance_channel=True))
    assign_weights(guided, plain.state_dict(), label="plain")
    x = batch(1, 64, 64)
    before = plain(x[:, :3])
    assert torch.equal(guided(x[:, :3]), before)
    for guide in (x[:, 3:], torch.zeros_like(x[:, 3:])):
        after = guided(torch.cat([x[:, :3], guide], 1))
        assert torch.allclose(after, before, atol=1e-4 * float(before.abs().max()))
    convolutions = [m for m in guided.modules() if isinstance(m, GuidedConv2d)]
    assert len(convolutions) == 1
    assert convolutions[0].weight is not None
    found = detect_config({n: tuple(t.shape) for n, t in guided.state_dict().items()})
    assert replace(found, dropout=config.dropout) == guided.config


@torch.no_grad()
def test_the_channel_says_something_once_it_is_trained() -> None:
    network, x = randomised(GUIDED), batch()
    apart = (network(x) - network(x[:, :3])).abs().max()
    assert apart > 1e-3  # between logits of random weights, which are small
    zeros = torch.cat([x[:, :3], torch.zeros_like(x[:, 3:])], 1)
    assert torch.allclose(network(zeros), network(x[:, :3]), atol=1e-5)
    with pytest.raises(ValueError, match=r"or \(B, 4, H, W\)"):
        network(x[:, :2])
    with pytest.raises(ValueError, match=r"expected \(B, 3, H, W\): "):
        build_network("tiny")(x)


def test_every_weight_of_the_channel_learns() -> None:
    torch.manual_seed(0)
    network = build_network(GUIDED).train()
    output = network(batch(), supervised=True)
    sum(stage.sum() for stage in output.stages).backward()
    read = [name for name, _ in network.named_parameters() if is_guidance(name)]
    assert len(read) == 5
    for name, parameter in network.named_parameters():
        if is_guidance(name):
            assert parameter.grad is not None, name
            assert parameter.grad.abs().max() > 0, name


@torch.no_grad()
@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("size", [(96, 64), (32, 32), (64, 160)])
@pytest.mark.parametrize("pyramid", ["cat", "add", "none"])
def test_simplified_and_cpu_optimised_forms_are_equal(
    channels: int, size: tuple[int, int], pyramid: str
) -> None:
    network = randomised(replace(GUIDED, image_pyramid=pyramid))  # type: ignore[arg-type]
    x = batch(2, *size, channels)
    expected = network(x)
    simple = simplify(network)
    assert torch.allclose(simple(x), expected, atol=1e-4)
    engine = TorchEngine(simple, "cpu", "fp32")
    assert takes_guidance(engine)
    assert np.allclose(engine.infer(x.numpy()), expected.numpy(), atol=1e-4)


def test_other_engines_do_not_take_it() -> None:
    assert not takes_guidance(TorchEngine(simplify(build_network("tiny").eval()), "cpu"))


@torch.no_grad()
def test_layouts_keep_it(tmp_path: Path) -> None:
    network = randomised(GUIDED)
    state = network.state_dict()
    assert list(from_official(to_official(state))) == list(state)
    save_directory(tmp_path / "own", network)
    save_directory(tmp_path / "hub", network, layout="huggingface")
    save_file(tmp_path / "file.safetensors", network, layout="safetensors")
    save_file(tmp_path / "file.pth", network, layout="pth")
    x = batch()
    for place in ("own", "hub", "file.safetensors", "file.pth"):
        loaded = load_checkpoint(tmp_path / place)
        assert loaded.config.guidance_channel, place
        assert torch.allclose(loaded.network(x), network(x), atol=1e-5), place
    with pytest.raises(WeightsError, match="no guidance channel"):
        save_file(tmp_path / "comfy.safetensors", network, layout="comfyui")


def test_a_channel_can_be_added_to_weights_that_have_none() -> None:
    loaded = load_checkpoint("nano", config=replace(preset("nano"), guidance_channel=True))
    added = {n: t for n, t in loaded.network.state_dict().items() if is_guidance(n)}
    assert added
    assert not any(t.any() for t in added.values())


def test_half_of_a_channel_is_refused() -> None:
    network = build_network(GUIDED)
    state = {n: t for n, t in network.state_dict().items() if not n.endswith(".guide")}
    with pytest.raises(WeightsError, match="1 missing"):
        assign_weights(empty_network(GUIDED), state, label="these")


def test_a_backbone_without_such_a_convolution_is_refused() -> None:
    with pytest.raises(ValueError, match="convolution of three channels"):
        let_guide(nn.Sequential(nn.Conv2d(1, 4, 3)))


def run(engine: object, x: NDArray) -> NDArray:
    return engine.infer(np.ascontiguousarray(x))  # type: ignore[attr-defined]


@torch.no_grad()
@pytest.mark.parametrize("suffix", [".xml", ".onnx", ".pt2"])
def test_exports_have_the_channel(tmp_path: Path, suffix: str) -> None:
    pytest.importorskip({".xml": "openvino", ".onnx": "onnxruntime", ".pt2": "torch"}[suffix])
    from birefnet.export.request import Request
    from birefnet.export.run import export
    from birefnet.imaging.geometry import Preprocess
    from birefnet.inference.load import open_exported

    network = randomised(GUIDED)
    preprocess = Preprocess(64, 96)
    request = Request(simplify(network), preprocess, dynamic=suffix != ".pt2")
    result = export(request, tmp_path / f"guided{suffix}")
    assert result.metadata.guided
    engine = open_exported(result.path, device="cpu")
    assert takes_guidance(engine)
    x = batch()
    assert np.allclose(run(engine, x.numpy()), network(x).numpy(), atol=1e-3)
    # Pictures alone are pictures of which nothing is said.
    assert np.allclose(run(engine, x[:, :3].numpy()), network(x[:, :3]).numpy(), atol=1e-3)
    with pytest.raises(BiRefNetError, match="say nothing of this network"):
        Request(simplify(network), preprocess, precision="int8", calibration=[x[:1, :3].numpy()])


@torch.no_grad()
def test_pixels_have_no_place_for_it(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    from birefnet.export.request import Request
    from birefnet.export.run import export
    from birefnet.imaging.geometry import Preprocess

    request = Request(simplify(randomised(GUIDED)), Preprocess(64, 64), with_preprocessing=True)
    assert not export(request, tmp_path / "pixels.onnx").metadata.guided


@torch.no_grad()
def test_openvino_runs_networks_with_it(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    from birefnet.inference.engines.openvino_cache import load_openvino

    network = randomised(GUIDED)
    save_directory(tmp_path / "weights", network)
    engine = load_openvino(tmp_path / "weights", cache_dir=tmp_path / "cache")
    assert takes_guidance(engine)
    x = batch(1, 64, 96)
    assert np.allclose(run(engine, x.numpy()), network(x).numpy(), atol=1e-3)
    again = load_openvino(tmp_path / "weights", cache_dir=tmp_path / "cache")
    assert np.allclose(run(again, x.numpy()), network(x).numpy(), atol=1e-3)
