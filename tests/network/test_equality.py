"""Equal numbers: each reference file, with the deterministic weights of reference/fill.py."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from birefnet.network.birefnet import BiRefNet
from birefnet.network.build import build_network
from birefnet.network.config import NetworkConfig, preset
from birefnet.network.gradients import official_gradient_label
from birefnet.weights.layouts import from_official, is_official, to_official
from official import NETWORKS, official_shapes
from reference.fill import fill, image

PVT = "pvt_v2_b0"
CONFIGS = {
    **{
        name: NetworkConfig(name)
        for name in ("swin_v1_t", "swin_v1_l", "pvt_v2_b0", "pvt_v2_b2", "resnet50", "vgg16bn")
    },
    "dino_v3_s": preset("dino_v3_s"),
    "ablation_no_image_pyramid": NetworkConfig(PVT, image_pyramid="none"),
    "ablation_image_pyramid_add": NetworkConfig(PVT, image_pyramid="add"),
    "ablation_no_context": NetworkConfig(PVT, context_fusion=False),
    "ablation_no_out_ref": NetworkConfig(PVT, outward_reference=False),
    "ablation_in_ref_whole_image": NetworkConfig(PVT, inward_reference="whole"),
    "variant_aspp_plain": NetworkConfig(PVT, attention="plain"),
    "variant_residual_decoder": NetworkConfig(PVT, decoder_block="residual"),
    "variant_auxiliary_classification": NetworkConfig(PVT, auxiliary_classes=219),
}


def needs_timm(config: NetworkConfig) -> None:
    """Skip the test where the extra is missing that a network needs."""
    if config.backbone.startswith("timm:"):
        pytest.importorskip("timm")


def filled_network(name: str) -> BiRefNet:
    """The network of a reference file with its weights, in evaluation mode."""
    needs_timm(CONFIGS[name])
    network = build_network(CONFIGS[name]).eval()
    state = to_official(network.state_dict())
    for key, value in state.items():
        if value.is_floating_point():
            value.copy_(torch.from_numpy(fill(key, tuple(value.shape))))
    return network


def assert_close(ours: torch.Tensor | np.ndarray, expected: np.ndarray, what: str) -> None:
    actual = np.asarray(ours)
    assert actual.shape == expected.shape, what
    error = np.abs(actual - expected).max() / np.abs(expected).max()
    assert error < 1e-4, f"{what}: {error:.2e} of the largest absolute value"


def encoder_stats(network: BiRefNet, batch: torch.Tensor) -> np.ndarray:
    maps, context = network.encoder(batch)
    return np.array([[float(m.mean()), float(m.std())] for m in (*maps[:3], context)])


@pytest.mark.parametrize("name", CONFIGS)
def test_official_keys_are_covered_once(name: str) -> None:
    needs_timm(CONFIGS[name])
    with torch.device("meta"):
        network = build_network(CONFIGS[name])
    ours = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    official = to_official(ours)
    assert official == official_shapes(name)
    assert is_official(official)
    assert not is_official(ours)
    assert from_official(official) == ours


@pytest.mark.parametrize("name", CONFIGS)
def test_outputs_equal_the_reference(name: str) -> None:
    expected = np.load(NETWORKS / f"{name}.npz")
    network = filled_network(name)
    with torch.inference_mode():
        for case in sorted({key.split("/")[0] for key in expected} - {"train"}):
            logits = expected[f"{case}/logits"]
            batch, _, height, width = logits.shape
            x = torch.from_numpy(image(case, batch, height, width))
            assert_close(network(x), logits, f"{name} {case} logits")
            stats = encoder_stats(network, x)
            assert_close(stats, expected[f"{case}/encoder_stats"], f"{name} {case} encoder")


@pytest.mark.parametrize(
    "name", [n for n in CONFIGS if "stage_3" in str(np.load(NETWORKS / f"{n}.npz").files)]
)
def test_training_outputs_equal_the_reference(name: str) -> None:
    expected = np.load(NETWORKS / f"{name}.npz")
    network = filled_network(name).train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | nn.Dropout):
            module.eval()
        if "drop" in type(module).__name__.lower():
            module.eval()
    batch, _, height, width = expected["train/stage_3"].shape
    x = torch.from_numpy(image("train", batch, height, width))
    with torch.no_grad():
        out = network(x, supervised=True)
    assert len(out.stages) == 4
    for i, stage in enumerate(out.stages):
        assert_close(stage, expected[f"train/stage_{i}"], f"{name} stage {i}")
    assert len(out.gradients) == (0 if "no_out_ref" in name else 3)
    for i, (gradient, coarse) in enumerate(zip(out.gradients, out.stages, strict=False)):
        assert_close(gradient, expected[f"train/gradient_prediction_{i}"], f"{name} gradient {i}")
        label = official_gradient_label(x, coarse)
        assert_close(label, expected[f"train/gradient_label_{i}"], f"{name} label {i}")
    assert (out.classes is None) == (name != "variant_auxiliary_classification")
