"""The form of the network that PyTorch runs computes the same, whole and in parts."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from birefnet.network import cpu_optimised as form
from birefnet.network.birefnet import BiRefNet
from birefnet.network.blocks import resize
from birefnet.network.build import build_network
from birefnet.network.config import PRESETS, NetworkConfig
from birefnet.network.cpu_optimised import cpu_optimised, is_simplified
from birefnet.network.deform import cpu_fused, portable
from birefnet.network.simplify import simplify

TINY = PRESETS["tiny"]
CASES = {
    "tiny": TINY,
    "nano": PRESETS["nano"],
    "7x7": replace(TINY, attention_kernels=(1, 3, 7), attention_width=24),
    "plain": replace(TINY, attention="plain"),
    "neck": replace(TINY, neck_channels=(16, 24, 32, 48)),
    "no attention": replace(TINY, attention="none"),
    "residual": replace(TINY, decoder_block="residual"),
    "resnet blocks": replace(TINY, decoder_block="resnet"),
    "whole image": replace(TINY, inward_reference="whole"),
    "no references": replace(TINY, inward_reference="none", outward_reference=False),
    "no squeeze": replace(TINY, squeeze=False, image_pyramid="none"),
    "added pyramid": replace(TINY, image_pyramid="add"),
    "no context": replace(TINY, context_fusion=False),
    **{
        name: replace(TINY, backbone=name)
        for name in (
            "swin_v1_t",
            "pvt_v2_b0",
            "vgg16bn",
            "vgg16",
            "resnet50",
            "efficientnet_lite2",
        )
    },
}


def trained_like(config: NetworkConfig) -> BiRefNet:
    """A network whose statistics, offsets and biases are not those of a new one."""
    torch.manual_seed(0)
    network = build_network(config).eval()
    for name, buffer in network.named_buffers():
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 1.5)
    for name, parameter in network.named_parameters():
        if ".offset." in name or ".modulator." in name:
            nn.init.normal_(parameter, 0, 0.05)
        elif name.endswith("bias"):
            nn.init.normal_(parameter, 0, 0.1)
    return network


def assert_equal(network: BiRefNet, batch: Tensor) -> None:
    """Logits and all supervised outputs of the optimised network equal those of the trained one."""
    with torch.inference_mode():
        expected = network(batch, supervised=True)
        actual = cpu_optimised(simplify(network))(batch, supervised=True)
    ours, theirs = [*actual.stages, *actual.gradients], [*expected.stages, *expected.gradients]
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-4 * float(b.abs().max()))


@pytest.mark.parametrize("name", CASES)
def test_equal_to_the_trained_network(name: str) -> None:
    # 96 = 3 · 32: at half scale its deepest map has an odd size.
    assert_equal(trained_like(CASES[name]), torch.randn(2, 3, 64, 96))


@pytest.mark.parametrize("name", ["7x7", "no references", "added pyramid", "swin_v1_t"])
def test_equal_when_everything_is_cut_into_parts(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(form, "_STRIP", 2000)
    monkeypatch.setattr(cpu_fused, "_POSITIONS", 5000)
    monkeypatch.setattr(portable, "_CPU_COLUMNS", 4000)
    assert_equal(trained_like(CASES[name]), torch.randn(3, 3, 96, 64))


@pytest.mark.parametrize("rows", [slice(0, 5), slice(3, 4), slice(7, 19), slice(0, 19)])
@pytest.mark.parametrize("height", [1, 2, 10, 30])
def test_rows_of_a_resized_map(height: int, rows: slice) -> None:
    x = torch.randn(2, 3, height, 7)
    part = form._resize_rows(x, (19, 13), rows)
    torch.testing.assert_close(part, resize(x, (19, 13))[:, :, rows], atol=1e-5, rtol=1e-5)


def test_two_resizings_at_once() -> None:
    x, like = torch.randn(2, 3, 9, 12), torch.empty(2, 3, 18, 25)
    once = form._resize_twice(x, like, (4, 5))
    torch.testing.assert_close(once, resize(resize(x, (18, 25)), (4, 5)), atol=1e-5, rtol=1e-5)


def test_the_simplified_network_stays_as_it_was() -> None:
    simple = simplify(trained_like(TINY))
    before = {k: v.clone() for k, v in simple.state_dict().items()}
    made = cpu_optimised(simple)
    assert is_simplified(simple)
    after = simple.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[k], after[k]) for k in before)
    shared = {p.data_ptr() for p in simple.encoder.parameters()}
    assert all(p.data_ptr() in shared for p in made.encoder.parameters())
    assert not any(p.requires_grad for p in made.parameters())


def test_only_simplified_networks_are_taken() -> None:
    assert not is_simplified(trained_like(TINY))
    assert not is_simplified(nn.Identity())


def test_gradients_and_tracing_take_the_plain_way() -> None:
    """Outside of inference nothing is done in place or in pieces; the numbers are the same."""
    network = cpu_optimised(simplify(trained_like(CASES["7x7"])))
    batch = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        expected = network(batch)
    torch.testing.assert_close(network(batch), expected, atol=1e-4, rtol=1e-4)
    with torch.no_grad():
        exported = torch.export.export(network, (batch,)).module()(batch)
    torch.testing.assert_close(exported, expected, atol=1e-4, rtol=1e-4)


def test_input_is_left_alone() -> None:
    network = cpu_optimised(simplify(trained_like(CASES["swin_v1_t"])))
    batch = torch.randn(1, 3, 64, 64)
    kept = batch.clone()
    with torch.inference_mode():
        first, second = network(batch), network(batch)
    assert torch.equal(batch, kept)
    assert torch.equal(first, second)


def test_lower_precision_stays_near() -> None:
    network = trained_like(CASES["7x7"])
    batch = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        outputs = [
            cpu_optimised(simplify(network)).to(dtype)(batch.to(dtype)).float()
            for dtype in (torch.float32, torch.bfloat16, torch.float16)
        ]
    for exact, near in pairwise([outputs[0], outputs[1]]):
        assert (exact - near).abs().max() < 0.05 * exact.abs().max()
    assert (outputs[0] - outputs[2]).abs().max() < 0.02 * outputs[0].abs().max()
