"""The simplified network computes the same."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from birefnet.network.birefnet import BiRefNet
from birefnet.network.build import build_network
from birefnet.network.config import PRESETS, NetworkConfig
from birefnet.network.simplify import simplify

TINY = PRESETS["tiny"]
CASES = {
    "tiny": TINY,
    "nano": PRESETS["nano"],
    "plain": replace(TINY, attention="plain"),
    "neck": replace(TINY, neck_channels=(16, 24, 32, 48)),
    "no attention": replace(TINY, attention="none"),
    "residual": replace(TINY, decoder_block="residual"),
    "resnet blocks": replace(TINY, decoder_block="resnet"),
    "no references": replace(TINY, inward_reference="none", outward_reference=False),
    "no squeeze": replace(TINY, squeeze=False, image_pyramid="none"),
    "classes": replace(TINY, auxiliary_classes=5),
    **{
        name: replace(TINY, backbone=name)
        for name in ("swin_v1_t", "pvt_v2_b0", "vgg16bn", "vgg16", "resnet50")
    },
}


def trained_like(config: NetworkConfig) -> BiRefNet:
    """A network whose statistics and offsets are not those of a new one."""
    torch.manual_seed(0)
    network = build_network(config).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    for name, parameter in network.named_parameters():
        if ".offset." in name or ".modulator." in name:
            nn.init.normal_(parameter, 0, 0.05)
    return network


@pytest.mark.parametrize("name", CASES)
def test_simplified_network_is_equal(name: str) -> None:
    network = trained_like(CASES[name])
    batch = torch.randn(2, 3, 64, 96)
    with torch.inference_mode():
        expected = network(batch, supervised=True)
        simple = simplify(network)
        actual = simple(batch, supervised=True)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in simple.modules())
    pairs = zip(
        [*actual.stages, *actual.gradients], [*expected.stages, *expected.gradients], strict=True
    )
    for ours, theirs in pairs:
        scale = float(theirs.abs().max())
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4 * scale)
    if expected.classes is not None:
        torch.testing.assert_close(actual.classes, expected.classes)


def test_border_pixels_are_exact() -> None:
    # With padding folded carelessly the outermost ring is off: the head's bias is large here.
    network = trained_like(TINY)
    assert network.decoder.head_reference is not None
    nn.init.constant_(network.decoder.head_reference.conv_in.bias, 3.0)
    batch = torch.randn(1, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(simplify(network)(batch), network(batch), rtol=1e-4, atol=1e-4)


def test_simplify_leaves_the_original_alone_unless_told() -> None:
    network = trained_like(TINY)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    simplify(network)
    after = network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[k], after[k]) for k in before)
    assert simplify(network, inplace=True) is network
    assert not any(p.requires_grad for p in network.parameters())
