"""Swin: index maps against padding, rolling and cutting; what is kept between calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F

from birefnet.network.backbones import swin
from birefnet.network.backbones.swin import SwinStage, SwinTransformer
from birefnet.network.backbones.windows import HIDDEN, relative_position_index, window_plan


def small_swin(window: int = 4, depths: tuple[int, ...] = (2, 2, 2, 2)) -> SwinTransformer:
    torch.manual_seed(0)
    network = SwinTransformer(channels=16, depths=depths, heads=(1, 2, 4, 8), window=window)
    with torch.no_grad():
        for parameter in network.parameters():  # also biases, which padding shows
            parameter.normal_(std=0.2)
    return network.eval()


def plain_stage(stage: SwinStage, x: Tensor, run: Callable[..., Tensor]) -> tuple[Tensor, Tensor]:
    """A stage as the paper tells it: pad, roll, cut into windows, attend, and all the way back."""
    batch, height, width, channels = x.shape
    side = stage.window
    rows, columns = -(-height // side), -(-width // side)

    def cut(t: Tensor) -> Tensor:
        t = t.view(t.shape[0], rows, side, columns, side, -1).transpose(2, 3)
        return t.reshape(-1, side**2, t.shape[-1])

    for shift, block in zip(stage.shifts, stage.blocks, strict=True):
        attention: Any = block.attn
        y = block.norm1(x)
        y = F.pad(y, (0, 0, 0, columns * side - width, 0, rows * side - height))
        tokens = cut(y.roll((-shift, -shift), (1, 2)))
        shape = (len(tokens), side**2, 3, attention.heads, -1)
        q, k, v = attention.qkv(tokens).view(shape).permute(2, 0, 3, 1, 4)
        index = attention.relative_position_index
        logits = q @ k.transpose(2, 3) * q.shape[-1] ** -0.5
        logits = logits + attention.relative_position_bias_table[index].permute(2, 0, 1)
        if shift:
            bands = [np.digitize(np.arange(n * side), [(n - 1) * side, n * side - shift])
                     for n in (rows, columns)]  # fmt: skip
            regions = cut(torch.from_numpy(3 * bands[0][:, None] + bands[1])[None, ..., None])
            apart = (regions != regions.transpose(1, 2)).repeat(batch, 1, 1)
            logits = logits + HIDDEN * apart[:, None].to(logits.dtype)
        y = (logits.softmax(-1) @ v).transpose(1, 2).reshape(tokens.shape)
        y = attention.proj(y).view(batch, rows, columns, side, side, channels).transpose(2, 3)
        y = y.reshape(batch, rows * side, columns * side, channels).roll((shift, shift), (1, 2))
        x = x + y[:, :height, :width]
        x = x + block.mlp(block.norm2(x))
    return x, stage.downsample(x)


@pytest.mark.parametrize("window", [4, 5, 7])
@pytest.mark.parametrize("size", [(64, 64), (48, 80), (100, 36), (33, 47), (4, 4)])
def test_equals_padding_rolling_and_cutting(
    window: int, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    network = small_swin(window).double()
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    with torch.inference_mode():
        ours = network(x)
        monkeypatch.setattr(SwinStage, "forward", plain_stage)
        plain = network(x)
    for a, b in zip(ours, plain, strict=True):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=1e-8)


@pytest.mark.parametrize("shift", [0, 3])
@pytest.mark.parametrize("size", [(14, 21), (15, 9), (3, 30)])
def test_a_plan_sends_every_token_home(size: tuple[int, int], shift: int) -> None:
    tokens = torch.arange(2.0 * size[0] * size[1]).view(2, -1, 1)
    plan = window_plan(tokens, size, 7, shift)
    ordered = tokens.view(-1).index_select(0, plan.order)
    edge = ordered[plan.inner :]
    if len(plan.empty):
        edge = edge.index_select(0, plan.fill)
        edge[plan.empty] = -1.0
    slots = torch.cat([ordered[: plan.inner], edge])
    assert len(slots) % 49 == 0
    assert torch.equal(slots[plan.home], tokens.view(-1))
    assert (slots < 0).sum() == len(slots) - tokens.numel()


def test_relative_positions_of_the_corners() -> None:
    index = relative_position_index(7)
    assert index.shape == (49, 49)
    assert index[0, 48] == 0
    assert index[48, 0] == 13**2 - 1
    assert (index.diagonal() == 6 * 13 + 6).all()


@pytest.mark.parametrize("edit", ["in place", "behind autograd's back", "loaded", "replaced"])
def test_a_changed_bias_table_is_seen(edit: str) -> None:
    network = small_swin()
    x = torch.randn(1, 3, 64, 64)
    name = "layers.0.blocks.1.attn.relative_position_bias_table"
    table = network.get_parameter(name)
    with torch.inference_mode():
        before = network(x)[0]
    if edit == "in place":
        with torch.no_grad():
            table.add_(torch.randn_like(table))
    elif edit == "behind autograd's back":
        table.data.add_(torch.randn_like(table))
    else:
        state = {name: torch.randn_like(table)}
        network.load_state_dict(state, strict=False, assign=edit == "replaced")
    with torch.inference_mode():
        after = network(x)[0]
    expected = network(x)[0]  # with gradients nothing is kept
    assert (after - before).abs().max() > 1e-3
    torch.testing.assert_close(after, expected, atol=1e-5, rtol=1e-5)


def test_training_after_inference_reaches_every_parameter() -> None:
    network = small_swin()
    x = torch.randn(2, 3, 40, 56)
    with torch.inference_mode():
        network(x)
    sum(m.square().mean() for m in network.train()(x)).backward()
    idle = [name for name, p in network.named_parameters() if not p.grad.abs().sum() > 0]
    assert idle == []


def test_large_maps_in_parts_equal_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    network = small_swin()
    x = torch.randn(2, 3, 64, 96)
    with torch.inference_mode():
        whole = network(x)
        monkeypatch.setattr(swin, "_CHUNK", 100)
        parts = network(x)
    torch.testing.assert_close(parts, whole, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_lower_precision_stays_near(dtype: torch.dtype) -> None:
    network = small_swin()
    x = torch.randn(1, 3, 40, 56)
    with torch.inference_mode():
        full = network(x)
        with torch.autocast("cpu", dtype):
            mixed = network(x)
        low = network.to(dtype)(x.to(dtype))
    for a, b, c in zip(full, mixed, low, strict=True):
        assert (a - b).abs().max() < 0.1 * a.abs().max()
        assert (a - c).abs().max() < 0.1 * a.abs().max()


def test_compiles_and_exports_as_one_graph() -> None:
    network = small_swin(depths=(2, 1, 1, 1))
    x = torch.randn(1, 3, 40, 56)
    with torch.no_grad():
        expected = network(x)
        compiled = torch.compile(network, backend="eager", fullgraph=True)(x)
        exported = torch.export.export(network, (x,)).module()(x)
    for a, b, c in zip(expected, compiled, exported, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(a, c, atol=1e-5, rtol=1e-5)


def test_a_rehearsal_with_fake_tensors_leaves_nothing_behind() -> None:
    network = small_swin()
    x = torch.randn(1, 3, 52, 44)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode, torch.no_grad():
        assert network(mode.from_tensor(x))[3].shape == (1, 128, 2, 2)
    with torch.inference_mode():
        assert network(x)[3].isfinite().all()
