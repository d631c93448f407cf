"""The simplified network in a form that a tracer can follow for any size.

In inference some choices are made from the size of the picture, in Python: index maps of windows,
whether to pad, how many tiles. A graph that serves every size must have them as operations. The
adapted network shares the original's weights and equals it in real arithmetic.
"""

from __future__ import annotations

import copy
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from birefnet.export.deformable import StandardDeformableConv2d
from birefnet.export.windows import TraceableSwinStage
from birefnet.imaging.geometry import Preprocess
from birefnet.network.backbones.pvt_v2 import ReducedAttention
from birefnet.network.backbones.swin import SwinStage
from birefnet.network.birefnet import BiRefNet
from birefnet.network.blocks import resize, resize_like
from birefnet.network.decoder import BilateralReferenceStage, StageOutput
from birefnet.network.simplify import InferenceDeformableConv2d


def traceable(
    network: BiRefNet, *, fused_attention: bool = False, standard_ops: bool = False
) -> BiRefNet:
    """A network equal to the simplified `network`, for `torch.export` with free sizes.

    Args:
        network: simplified, in evaluation mode. It is not changed; weights are shared.
        fused_attention: attend by `scaled_dot_product_attention`, which a torch package runs
            faster, rather than by the two products and the softmax that other runtimes know.
        standard_ops: write deformable convolution with ordinary operators.
    """
    # The copy has modules of its own and the same tensors.
    memo = {id(t): t for t in (*network.parameters(), *network.buffers())}
    network = copy.deepcopy(network, memo)
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, SwinStage):
                setattr(parent, name, TraceableSwinStage(child, fused=fused_attention))
            elif isinstance(child, ReducedAttention):
                setattr(parent, name, _ReducedAttention(child, fused=fused_attention))
            elif isinstance(child, BilateralReferenceStage):
                setattr(parent, name, _Stage(child))
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


class _Stage(nn.Module):
    """`BilateralReferenceStage` in inference; the number of tiles is known, their size is not."""

    def __init__(self, source: BilateralReferenceStage) -> None:
        super().__init__()
        self.block, self.reference = source.block, source.reference
        self.lateral, self.outward = source.lateral, source.outward
        self.grid = 0
        if source.reference is not None and source.inward == "split":
            self.grid = math.isqrt(source.reference.conv_in.in_channels // 3)

    def forward(
        self, features: Tensor, encoded: Tensor, image: Tensor, supervised: bool
    ) -> StageOutput:
        """As `BilateralReferenceStage.forward`, without what training supervises."""
        if self.lateral is not None:
            features = resize_like(features, encoded) + self.lateral(encoded)
        if self.reference is not None:
            source = (
                self._tiles(image)
                if self.grid
                else resize(image, (features.shape[-2], features.shape[-1]))
            )
            features = torch.cat([features, self.reference(source)], dim=1)
        features = self.block(features)
        if self.outward is not None:
            features, _ = self.outward(features)
        return StageOutput(features, None, None)

    def _tiles(self, image: Tensor) -> Tensor:
        batch, channels, height, width = image.shape
        grid = self.grid
        rows, columns = height // grid, width // grid
        # Four axes: ncnn has no more, others have five.
        tiles = image.reshape(batch * channels * grid, rows, grid, columns).transpose(1, 2)
        return tiles.reshape(batch, channels * grid * grid, rows, columns)


class PixelsToMatte(nn.Module):
    """Preparation, network and sigmoid in one: pixels in, matte out.

    Args:
        network: normalised batch (B, 3, h, w) → logits (B, 1, h, w).
        preprocess: its mean and deviation.
        size: width and height of the network's input [px].
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, network: nn.Module, preprocess: Preprocess, size: tuple[int, int]) -> None:
        super().__init__()
        self.network = network
        self.size = (size[1], size[0])
        mean, std = torch.tensor(preprocess.mean), torch.tensor(preprocess.std)
        self.register_buffer("scale", (1 / (255 * std)).view(1, 3, 1, 1))
        self.register_buffer("shift", (-mean / std).view(1, 3, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        """pixels: uint8 (B, H, W, 3), RGB, any size → matte, float32 (B, 1, H, W) in [0, 1]."""
        height, width = pixels.shape[1], pixels.shape[2]
        image = pixels.permute(0, 3, 1, 2).float()
        image = F.interpolate(
            image, self.size, mode="bilinear", align_corners=False, antialias=True
        )
        matte = torch.sigmoid(self.network(image * self.scale + self.shift))
        matte = F.interpolate(
            matte, (height, width), mode="bilinear", align_corners=False, antialias=True
        )
        return matte.clamp(0, 1)
