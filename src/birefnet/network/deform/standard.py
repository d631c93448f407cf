"""Deformable convolution in standard operators, for runtimes that have no DeformConv."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from birefnet.network.simplify import InferenceDeformableConv2d

# Taps that are sampled at once: a row of a 7x7 kernel, all of a 3x3. Samples of all 49 taps of a
# map of 256 x 256 with 64 channels would need 0.8 GB.
_TAPS = 9


class StandardDeformableConv2d(nn.Module):
    """`InferenceDeformableConv2d` as bilinear samples (GridSample) and matrix products."""

    def __init__(self, source: InferenceDeformableConv2d) -> None:
        super().__init__()
        self.sampling, self.weight, self.bias = source.sampling, source.weight, source.bias
        self.size = source.weight.shape[-1]

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, C, H, W) → (B, O, H, W)."""
        batch, _, height, width = x.shape
        taps = self.size**2
        offset, modulation = self.sampling(x).split([2 * taps, taps], dim=1)
        mask = 2.0 * torch.sigmoid(modulation)
        step = taps if taps <= _TAPS else self.size
        assert self.bias is not None
        out = self.bias.view(-1, 1)
        for first in range(0, taps, step):
            columns = self._columns(x, offset, mask, first, step)
            kernel = self.weight.flatten(2)[:, :, first : first + step].flatten(1)
            out = out + kernel @ columns
        return out.reshape(batch, -1, height, width)

    def _columns(self, x: Tensor, offset: Tensor, mask: Tensor, first: int, count: int) -> Tensor:
        """Samples of taps `first` to `first + count`, times their mask: (B, C * count, H * W)."""
        batch, channels, height, width = x.shape
        tap = torch.arange(first, first + count, device=x.device)
        half = self.size // 2
        rows = torch.arange(height, device=x.device).view(1, 1, -1, 1)
        columns = torch.arange(width, device=x.device).view(1, 1, 1, -1)
        y = (rows + (tap // self.size - half).view(1, -1, 1, 1)).to(x.dtype)
        x_ = (columns + (tap % self.size - half).view(1, -1, 1, 1)).to(x.dtype)
        shift = offset[:, 2 * first : 2 * (first + count)]
        shift = shift.reshape(batch, count, 2, height, width)
        # From pixels to the units of GridSample, in which the image's outer edges are -1 and 1.
        y = (2 * (y + shift[:, :, 0]) + 1) / height - 1
        x_ = (2 * (x_ + shift[:, :, 1]) + 1) / width - 1
        grid = torch.stack([x_, y], dim=-1).reshape(batch, count * height, width, 2)
        samples = F.grid_sample(x, grid, padding_mode="zeros", align_corners=False)
        samples = samples.reshape(batch, channels, count, height * width)
        part = mask[:, first : first + count].reshape(batch, 1, count, height * width)
        return (samples * part).reshape(batch, channels * count, height * width)
