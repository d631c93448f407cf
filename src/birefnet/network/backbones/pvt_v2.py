"""Pyramid Vision Transformer v2.

Source: Wang et al., "PVT v2: Improved Baselines with Pyramid Vision Transformer", CVMJ 2022. Names
in the state dict are those of the original.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from birefnet.network.backbones.base import Backbone, DropPath, drop_path_rates

_REDUCTIONS = (8, 4, 2, 1)
_HEADS = (1, 2, 5, 8)


class OverlapPatchEmbedding(nn.Module):
    """A strided convolution whose windows overlap, then a norm."""

    def __init__(self, in_channels: int, channels: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, channels, kernel, stride, padding=kernel // 2)
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) → (B, ceil(H / stride), ceil(W / stride), channels)."""
        return self.norm(self.proj(x).permute(0, 2, 3, 1))


class ReducedAttention(nn.Module):
    """Multi-head attention whose keys and values come from a map shrunk `reduction` times."""

    def __init__(self, channels: int, heads: int, reduction: int) -> None:
        super().__init__()
        self.heads = heads
        self.reduction = reduction
        self.q = nn.Linear(channels, channels)
        self.kv = nn.Linear(channels, 2 * channels)
        self.proj = nn.Linear(channels, channels)
        if reduction > 1:
            self.sr = nn.Conv2d(channels, channels, reduction, stride=reduction)
            self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, H, W, C) → the same shape."""
        batch, height, width, channels = x.shape
        seen = x
        if self.reduction > 1:
            seen = x.permute(0, 3, 1, 2)
            # A map smaller than the kernel has no place for it; the original fails there.
            missing = (max(self.reduction - width, 0), max(self.reduction - height, 0))
            if any(missing):
                seen = F.pad(seen, (0, missing[0], 0, missing[1]))
            seen = self.norm(self.sr(seen).permute(0, 2, 3, 1))
        q = self.q(x).view(batch, height * width, self.heads, -1).transpose(1, 2)
        kv = self.kv(seen).view(batch, -1, 2, self.heads, channels // self.heads)
        k, v = kv.permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v)
        return self.proj(y.transpose(1, 2).reshape(batch, height, width, channels))


class DepthwiseConvolution(nn.Module):
    """A 3x3 depthwise convolution on tokens that lie channels last."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, H, W, C)."""
        return self.dwconv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class ConvolutionalPerceptron(nn.Module):
    """Linear, depthwise 3x3 (which tells positions apart), GELU, linear."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, hidden)
        self.dwconv = DepthwiseConvolution(hidden)
        self.fc2 = nn.Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, H, W, C)."""
        return self.fc2(F.gelu(self.dwconv(self.fc1(x))))


class PVTBlock(nn.Module):
    """Attention and perceptron, each behind a norm and beside a shortcut."""

    def __init__(
        self, channels: int, heads: int, reduction: int, expansion: int, drop_path: float
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels, eps=1e-6)
        self.attn = ReducedAttention(channels, heads, reduction)
        self.drop_path = DropPath(drop_path)
        self.norm2 = nn.LayerNorm(channels, eps=1e-6)
        self.mlp = ConvolutionalPerceptron(channels, expansion * channels)

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, H, W, C)."""
        x = x + self.drop_path(self.attn(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class PyramidVisionTransformer(Backbone):
    """PVT v2.

    Args:
        channels: of the four stages.
        depths: blocks of the four stages.
        expansions: width of the perceptrons of the four stages, in channels.
        drop_path: stochastic depth of the last block; default 0.1.
    """

    def __init__(
        self,
        *,
        channels: tuple[int, int, int, int],
        depths: tuple[int, int, int, int],
        expansions: tuple[int, int, int, int],
        drop_path: float | None = None,
    ) -> None:
        super().__init__()
        self.out_channels = channels
        rates = iter(drop_path_rates(0.1 if drop_path is None else drop_path, sum(depths)))
        before = 3
        for i, width in enumerate(channels):
            kernel, stride = (7, 4) if i == 0 else (3, 2)
            embedding = OverlapPatchEmbedding(before, width, kernel, stride)
            blocks = nn.ModuleList(
                PVTBlock(width, _HEADS[i], _REDUCTIONS[i], expansions[i], next(rates))
                for _ in range(depths[i])
            )
            self.add_module(f"patch_embed{i + 1}", embedding)
            self.add_module(f"block{i + 1}", blocks)
            self.add_module(f"norm{i + 1}", nn.LayerNorm(width, eps=1e-6))
            before = width
        self.apply(_initialise)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, 3, H, W), any size → maps of ceil(H / s) x ceil(W / s) for s = 4, 8, 16, 32.

        The maps are in channels-last memory format.
        """
        maps: list[Tensor] = []
        for i in range(1, 5):
            x = self.get_submodule(f"patch_embed{i}")(x)
            for block in self.get_submodule(f"block{i}").children():
                x = self.run(block, x)
            x = self.get_submodule(f"norm{i}")(x).permute(0, 3, 1, 2)
            maps.append(x)
        return maps


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out")
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def pvt_v2(size: str, *, drop_path: float | None = None) -> PyramidVisionTransformer:
    """PVT v2 of `size` "b0", "b1", "b2" or "b5"."""
    channels = (32, 64, 160, 256) if size == "b0" else (64, 128, 320, 512)
    depths = {"b0": (2, 2, 2, 2), "b1": (2, 2, 2, 2), "b2": (3, 4, 6, 3), "b5": (3, 6, 40, 3)}
    return PyramidVisionTransformer(
        channels=channels,
        depths=depths[size],
        expansions=(4, 4, 4, 4) if size == "b5" else (8, 8, 4, 4),
        drop_path=drop_path,
    )
