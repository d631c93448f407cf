"""Backbones from timm: which maps are taken, names, sizes; most need the extra."""

from __future__ import annotations

import sys

import pytest
import torch

from birefnet.errors import MissingExtraError
from birefnet.network.backbones import build_backbone
from birefnet.network.backbones.timm_models import _map_indices


def test_without_timm_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingExtraError, match=r"birefnet\[timm\]"):
        build_backbone("timm:resnet18")


@pytest.mark.parametrize(
    ("name", "reductions", "indices"),
    [
        ("resnet18", [2, 4, 8, 16, 32], (1, 2, 3, 4)),
        ("convnext_tiny", [4, 8, 16, 32], (0, 1, 2, 3)),
        ("vit_small_patch16_dinov3", [16] * 12, (3, 5, 7, 11)),
        ("vit_large_patch16_dinov3", [16] * 24, (5, 11, 17, 23)),
        ("vit_huge_plus_patch16_dinov3", [16] * 32, (7, 15, 23, 31)),
        ("vit_7b_patch16_dinov3", [16] * 40, (9, 19, 29, 39)),
        ("vit_tiny_patch16_224", [16] * 12, (2, 5, 8, 11)),
    ],
)
def test_which_levels_become_the_four_maps(
    name: str, reductions: list[int], indices: tuple[int, ...]
) -> None:
    assert _map_indices(name, reductions) == indices


def test_strides_without_use_are_refused() -> None:
    with pytest.raises(ValueError, match="expected 4, 8, 16 and 32, or"):
        _map_indices("odd", [2, 4, 8, 16])


@pytest.mark.parametrize(
    ("name", "strides"),
    [
        ("resnet18", (4, 8, 16, 32)),
        ("mobilenetv3_small_050", (4, 8, 16, 32)),
        ("swin_tiny_patch4_window7_224", (4, 8, 16, 32)),
        ("hiera_tiny_224", (4, 8, 16, 32)),
        ("vit_tiny_patch16_224", (16, 16, 16, 16)),
        ("vit_small_patch16_dinov3", (16, 16, 16, 16)),
    ],
)
def test_maps_of_two_sizes(name: str, strides: tuple[int, ...]) -> None:
    pytest.importorskip("timm")
    backbone = build_backbone(f"timm:{name}").eval()
    sizes = [(64, 96), (32, 48)] if name != "hiera_tiny_224" else [(224, 224)]
    for height, width in sizes:
        with torch.inference_mode():
            maps = backbone(torch.randn(2, 3, height, width))
        assert [tuple(x.shape) for x in maps] == [
            (2, channels, -(-height // stride), -(-width // stride))
            for channels, stride in zip(backbone.out_channels, strides, strict=True)
        ]


def test_patches_that_do_not_divide_the_side() -> None:
    pytest.importorskip("timm")
    backbone = build_backbone("timm:vit_small_patch14_dinov2").eval()
    with torch.inference_mode():
        maps = backbone(torch.randn(1, 3, 64, 96))
    assert [tuple(x.shape[-2:]) for x in maps] == [(5, 7)] * 4


@pytest.mark.parametrize(
    "name", ["resnet18", "vit_small_patch16_dinov3", "vit_small_patch14_dinov2"]
)
def test_a_trace_of_one_size_takes_any_number_of_pictures(name: str) -> None:
    """As the formats for other runtimes need it."""
    pytest.importorskip("timm")
    backbone = build_backbone(f"timm:{name}").eval()
    with torch.no_grad():
        traced = torch.jit.trace(backbone, torch.randn(1, 3, 64, 96), check_trace=False)
        images = torch.randn(3, 3, 64, 96)
        for given, expected in zip(traced(images), backbone(images), strict=True):
            assert (given - expected).abs().max() < 1e-5 * expected.abs().max()


def test_built_on_meta_and_loaded_equals_built_at_once() -> None:
    pytest.importorskip("timm")
    name = "timm:vit_small_patch16_dinov3"
    real = build_backbone(name).eval()
    with torch.device("meta"):
        empty = build_backbone(name).eval()
    empty.load_state_dict(real.state_dict(), assign=True)
    assert all(key.startswith("model.") for key in real.state_dict())
    x = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(empty(x), real(x))


def test_checkpointing_gives_the_same_gradients() -> None:
    pytest.importorskip("timm")
    backbone = build_backbone("timm:vit_tiny_patch16_224", drop_path=0.0).train()
    x = torch.randn(1, 3, 64, 64)
    gradients = []
    for checkpointing in (False, True):
        backbone.gradient_checkpointing = checkpointing
        backbone.zero_grad()
        sum(m.square().mean() for m in backbone(x)).backward()
        gradients.append({k: p.grad.clone() for k, p in backbone.named_parameters()})
    torch.testing.assert_close(*gradients)


def test_an_unknown_model_lists_near_ones() -> None:
    pytest.importorskip("timm")
    with pytest.raises(ValueError, match=r"timm has no model 'resnett18'; nearest are .*resnet18"):
        build_backbone("timm:resnett18")
