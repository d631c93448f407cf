"""EfficientNet a few rows at a time, so that its widest maps are never whole.

Its first blocks widen their maps sixfold, at half and a quarter of the picture's size. On a
processor such a map is a new piece of memory of tens of megabytes, which costs more than the
arithmetic on it; a few rows of it fit a cache: `nano` at 704 x 704 takes 0.76 of the time, and 373
MB in place of 453.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from birefnet.network.backbones.efficientnet_lite import (
    ConvNorm,
    EfficientNetLite,
    InvertedResidual,
    same_padding,
)
from birefnet.network.execution import on_cpu

_STRIP = 2**20  # values of the widest map's rows: 4 MB in float32
_WORTH_IT = 2**21  # values of a map that is worth being cut


class RowwiseEfficientNet(nn.Module):
    """`EfficientNetLite` as chains of convolutions.

    Args:
        source: its BatchNorm is folded.
    """

    def __init__(self, source: EfficientNetLite) -> None:
        super().__init__()
        self.chains = nn.ModuleList()
        self.is_tap: list[bool] = []
        layers = [source.stem]
        for i, block in enumerate(source.blocks):
            assert isinstance(block, InvertedResidual)
            if block.shortcut and layers:
                self._add(layers)
                layers = []
            layers += [layer for layer in block.children() if isinstance(layer, ConvNorm)]
            is_tap = i in source._taps
            if block.shortcut or is_tap:
                self._add(layers, shortcut=block.shortcut, is_tap=is_tap)
                layers = []
        assert not layers, "the last block ends a stage"

    def _add(
        self, layers: Sequence[ConvNorm], *, shortcut: bool = False, is_tap: bool = False
    ) -> None:
        self.chains.append(RowChain(layers, shortcut=shortcut))
        self.is_tap.append(is_tap)

    def forward(self, x: Tensor) -> list[Tensor]:
        """As `EfficientNetLite.forward`."""
        maps = []
        for chain, is_tap in zip(self.chains, self.is_tap, strict=True):
            x = chain(x)
            if is_tap:
                maps.append(x)
        return maps


class RowChain(nn.Module):
    """Convolutions one after the other, with a shortcut around them or none.

    Args:
        layers: BatchNorm is folded.
        shortcut: the input is added to the output.
    """

    def __init__(self, layers: Iterable[ConvNorm], *, shortcut: bool = False) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → what the layers make of it."""
        sizes = _sizes(self.layers, x)
        widest = len(x) * max(channels * height * width for channels, height, width in sizes[1:])
        if widest < _WORTH_IT or not on_cpu(x):
            y = x
            for layer in self.layers:
                y = layer(y)
            return x + y if self.shortcut else y
        channels, height, width = sizes[-1]
        step = max(1, height * _STRIP // widest)
        out = torch.empty(
            (len(x), channels, height, width),
            dtype=x.dtype,
            device=x.device,
            memory_format=torch.channels_last,
        )
        layers = list(_steps(self.layers, sizes))
        for first in range(0, height, step):
            rows = slice(first, min(first + step, height))
            out[:, :, rows] = _rows(layers, x, rows)
        return out.add_(x) if self.shortcut else out


def _sizes(layers: Iterable[nn.Module], x: Tensor) -> list[tuple[int, int, int]]:
    """Channels, height and width of `x` and of what each layer makes."""
    sizes = [(x.shape[1], x.shape[2], x.shape[3])]
    for layer in layers:
        assert isinstance(layer, ConvNorm)
        _, height, width = sizes[-1]
        stride = layer.conv.stride[0]
        sizes.append((layer.conv.out_channels, -(-height // stride), -(-width // stride)))
    return sizes


class _Step(NamedTuple):
    """A layer, and the zeros beside the map of `height` rows that it reads."""

    layer: ConvNorm
    height: int
    left: int
    right: int
    above: int

    @property
    def symmetric(self) -> int:
        """Zeros on either side, which the convolution itself adds."""
        return self.left if self.left == self.right else 0


def _steps(layers: Iterable[nn.Module], sizes: Sequence[tuple[int, int, int]]) -> Iterator[_Step]:
    for layer, (_, height, width) in zip(layers, sizes, strict=False):
        assert isinstance(layer, ConvNorm)
        kernel = layer.conv.kernel_size[0]
        if layer.conv.stride[0] == 2:
            sides, (above, _) = same_padding(width, kernel), same_padding(height, kernel)
        else:
            sides, above = (kernel // 2, kernel // 2), kernel // 2
        yield _Step(layer, height, *sides, above)


def _rows(steps: Sequence[_Step], x: Tensor, rows: slice) -> Tensor:
    """Some rows of what the layers make of `x`."""
    # Back from the output: which rows each layer reads, and how many of them are beyond the map.
    first, last = rows.start, rows.stop
    borders = []
    for step in reversed(steps):
        kernel, stride = step.layer.conv.kernel_size[0], step.layer.conv.stride[0]
        first, last = first * stride - step.above, (last - 1) * stride - step.above + kernel
        sides = (step.left - step.symmetric, step.right - step.symmetric)
        borders.append((*sides, max(0, -first), max(0, last - step.height)))
        first, last = max(0, first), min(step.height, last)
    borders.reverse()
    x = x[:, :, first:last]
    is_padded = False
    for i, (step, border) in enumerate(zip(steps, borders, strict=True)):
        conv = step.layer.conv
        if any(border) and not is_padded:
            x = F.pad(x, border)
        # A map is widened together with the border that the next layer wants: that of the narrow
        # map is quicker to add.
        is_padded = conv.kernel_size[0] == 1 and i + 1 < len(steps) and any(borders[i + 1])
        if is_padded:
            x = F.pad(x, borders[i + 1])
        x = F.conv2d(
            x, conv.weight, conv.bias, conv.stride, (0, step.symmetric), groups=conv.groups
        )
        x = step.layer.activation(x)
        if is_padded:
            _clear(x, borders[i + 1])
    return x


def _clear(x: Tensor, border: tuple[int, int, int, int]) -> None:
    """Put zeros on the border (left, right, above, below) of `x`."""
    left, right, above, below = border
    for axis, before, after in ((3, left, right), (2, above, below)):
        length = x.shape[axis]
        if before:
            x.narrow(axis, 0, before).zero_()
        if after:
            x.narrow(axis, length - after, after).zero_()
