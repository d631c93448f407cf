"""The simplified network in the one form that every other runtime takes: exportable for any size.

ONNX, OpenVINO and torch.export all trace this form. In inference some choices are made from the
size of the picture, in Python: index maps of windows, whether to pad. A graph that serves every
size needs them as operations. The exportable network shares the original's weights and equals it in
real arithmetic.
"""

from __future__ import annotations

import copy

from birefnet.errors import needs_extra

with needs_extra("torch", __name__):
    import torch
    import torch.nn.functional as F
    from torch import Tensor, nn

from birefnet.network.backbones.exportable_swin import ExportableSwinStage
from birefnet.network.backbones.pvt_v2 import ReducedAttention
from birefnet.network.backbones.swin import SwinStage
from birefnet.network.birefnet import BiRefNet
from birefnet.network.simplify import InferenceDeformableConv2d


def exportable(
    network: BiRefNet, *, fused_attention: bool = False, standard_ops: bool = False
) -> BiRefNet:
    """A network equal to the simplified `network`, for tracing with free sizes.

    Args:
        network: simplified, in evaluation mode. It is not changed; weights are shared.
        fused_attention: attend by `scaled_dot_product_attention`, which a torch.export program runs
            faster, rather than by the two products and the softmax that other runtimes know.
        standard_ops: write deformable convolution with ordinary operators.
    """
    # The copy has modules of its own and the same tensors.
    memo = {id(t): t for t in (*network.parameters(), *network.buffers())}
    network = copy.deepcopy(network, memo)
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, SwinStage):
                setattr(parent, name, ExportableSwinStage(child, fused=fused_attention))
            elif isinstance(child, ReducedAttention):
                setattr(parent, name, _ReducedAttention(child, fused=fused_attention))
            elif standard_ops and isinstance(child, InferenceDeformableConv2d):
                setattr(parent, name, StandardDeformableConv2d(child))
    return network


class _ReducedAttention(nn.Module):
    """`ReducedAttention` that pads by what is missing, which may be nothing."""

    def __init__(self, source: ReducedAttention, *, fused: bool) -> None:
        super().__init__()
        self.heads, self.reduction, self.fused = source.heads, source.reduction, fused
        channels = source.q.in_features
        scale = 1 if fused else (channels // self.heads) ** -0.5
        self.weight = nn.Parameter(source.q.weight.detach() * scale, requires_grad=False)
        self.bias = nn.Parameter(source.q.bias.detach() * scale, requires_grad=False)
        self.kv, self.proj = source.kv, source.proj
        if self.reduction > 1:
            self.sr, self.norm = source.sr, source.norm

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, H, W, C) → the same shape."""
        batch, height, width, channels = x.shape
        seen = x
        if self.reduction > 1:
            # A product rather than max(), which neither tracer keeps as an operation.
            missing = [
                side * (side > 0) for side in (self.reduction - width, self.reduction - height)
            ]
            seen = F.pad(x.permute(0, 3, 1, 2), (0, missing[0], 0, missing[1]))
            seen = self.norm(self.sr(seen).permute(0, 2, 3, 1))
        width_of_head = channels // self.heads
        q = F.linear(x, self.weight, self.bias)
        q = q.reshape(batch, height * width, self.heads, width_of_head).transpose(1, 2)
        kv = self.kv(seen).reshape(batch, -1, 2, self.heads, width_of_head)
        k, v = kv.permute(2, 0, 3, 1, 4)
        if self.fused:
            y = F.scaled_dot_product_attention(q, k, v)
        else:
            y = torch.softmax(q @ k.transpose(-2, -1), dim=-1) @ v
        return self.proj(y.transpose(1, 2).reshape(batch, height, width, channels))


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
