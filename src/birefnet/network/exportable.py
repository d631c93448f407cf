"""The simplified network in the one form that every other runtime takes: exportable for any size.

ONNX, OpenVINO and torch.export all trace this form. In inference some choices are made from the
size of the picture, in Python: index maps of windows, whether to pad. A graph that serves every
size needs them as operations. The exportable network shares the original's weights and equals it in
real arithmetic.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from birefnet.network.backbones.exportable_swin import ExportableSwinStage
from birefnet.network.backbones.pvt_v2 import ReducedAttention
from birefnet.network.backbones.swin import SwinStage
from birefnet.network.birefnet import BiRefNet
from birefnet.network.deform.standard import StandardDeformableConv2d
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
