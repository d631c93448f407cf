"""Building blocks of the decoder: reconstruction block, deformable ASPP, image-patch block.

Source: paper Sec. 3.3 and Fig. 4; the computation is that of the released checkpoints.
Every tensor is NCHW; every convolution keeps the spatial size.
"""

from __future__ import annotations

from collections.abc import Callable

from birefnet.errors import needs_extra

with needs_extra("torch", __name__):
    import torch
    import torch.nn.functional as F
    from torch import Tensor, nn

from birefnet.network.deform import deformable_conv2d


def resize_like(x: Tensor, reference: Tensor) -> Tensor:
    """`x` (B,C,h,w) resized to the spatial size of `reference`: bilinear, corners aligned."""
    return resize(x, (reference.shape[-2], reference.shape[-1]))


def resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    """`x` (B,C,h,w) resized to `size` (height, width): bilinear, corners aligned."""
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    return F.interpolate(x, size=size, mode="bilinear", align_corners=True)


class BatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation that also trains on a single value per channel.

    A batch of one picture leaves the pooled branch of the ASPP one value per channel, which has no
    variance. The running statistics are used there, so that the layers of a network, and the keys
    of its checkpoint, never depend on the batch size.
    """

    def forward(self, input: Tensor) -> Tensor:
        if self.training and input.numel() == input.shape[1]:
            return F.batch_norm(
                input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        return super().forward(input)


class DeformableConv2d(nn.Module):
    """Modulated deformable convolution (Zhu et al., CVPR 2019), stride 1, without bias.

    Offsets [pixels] and modulation (2 * sigmoid, 0 to 2) are convolutions of the input itself; both
    start at zero, so that a new layer is an ordinary convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        super().__init__()
        taps, padding = kernel_size**2, kernel_size // 2
        self.offset = nn.Conv2d(in_channels, 2 * taps, kernel_size, padding=padding)
        self.modulator = nn.Conv2d(in_channels, taps, kernel_size, padding=padding)
        self.regular = nn.Conv2d(
            in_channels, out_channels, kernel_size, padding=padding, bias=False
        )
        for layer in (self.offset, self.modulator):
            nn.init.zeros_(layer.weight)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        mask = 2.0 * torch.sigmoid(self.modulator(x))
        return deformable_conv2d(x, self.offset(x), mask, self.regular.weight)


class Branch(nn.Module):
    """One receptive field of an ASPP: convolution → BatchNorm → ReLU."""

    def __init__(self, conv: nn.Module, channels: int) -> None:
        super().__init__()
        self.conv = conv
        self.norm = BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(x)))


class PooledBranch(nn.Module):
    """The whole picture's average, spread over the map: pool → 1x1 convolution → BN → ReLU."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.norm = BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        pooled = F.relu(self.norm(self.conv(x.mean(dim=(2, 3), keepdim=True))))
        return pooled.expand(-1, -1, x.shape[2], x.shape[3])


class ASPP(nn.Module):
    """Several receptive fields side by side, joined by a 1x1 convolution; channels are kept.

    Args:
        channels: of input and output.
        width: of each branch.
        branches: the convolutions, each `channels` → `width`.
        dropout: probability while training.
    """

    def __init__(
        self, channels: int, width: int, branches: list[nn.Module], dropout: float
    ) -> None:
        super().__init__()
        self.branches = nn.ModuleList(Branch(conv, width) for conv in branches)
        self.pooled = PooledBranch(channels, width)
        self.project = nn.Conv2d(width * (len(branches) + 1), channels, 1, bias=False)
        self.norm = BatchNorm2d(channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        fields = [branch(x) for branch in self.branches]
        joined = torch.cat([*fields, self.pooled(x)], dim=1)
        return self.dropout(F.relu(self.norm(self.project(joined))))


def deformable_aspp(channels: int, width: int, kernels: tuple[int, ...], dropout: float) -> ASPP:
    """ASPP of deformable convolutions: a 1x1, then one for each of `kernels` (paper: 1, 3, 7)."""
    branches: list[nn.Module] = [DeformableConv2d(channels, width, k) for k in (1, *kernels)]
    return ASPP(channels, width, branches, dropout)


def plain_aspp(
    channels: int, width: int, dropout: float, dilations: tuple[int, ...] = (6, 12, 18)
) -> ASPP:
    """ASPP of dilated convolutions (Chen et al., 2017): a 1x1, then 3x3 at each dilation."""
    branches: list[nn.Module] = [nn.Conv2d(channels, width, 1, bias=False)]
    branches += [
        nn.Conv2d(channels, width, 3, padding=d, dilation=d, bias=False) for d in dilations
    ]
    return ASPP(channels, width, branches, dropout)


class ReconstructionBlock(nn.Module):
    """Basic decoder block: conv 3x3 → BN → ReLU → attention → conv 3x3 → BN (paper Fig. 4, RB).

    `attention` maps (B, width, h, w) to the same shape. `residual` adds a 1x1 projection of the
    input to the output.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        width: int,
        attention: nn.Module,
        *,
        residual: bool = False,
    ) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(in_channels, width, 3, padding=1)
        self.norm_in = BatchNorm2d(width)
        self.attention = attention
        self.conv_out = nn.Conv2d(width, out_channels, 3, padding=1)
        self.norm_out = BatchNorm2d(out_channels)
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1) if residual else None

    def forward(self, x: Tensor) -> Tensor:
        inside = self.attention(F.relu(self.norm_in(self.conv_in(x))))
        out = self.norm_out(self.conv_out(inside))
        return out if self.shortcut is None else out + self.shortcut(x)


class ResidualPair(nn.Module):
    """Two ordinary residual blocks (He et al., CVPR 2016): the paper's baseline decoder block."""

    def __init__(self, in_channels: int, out_channels: int, width: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            _ResidualBlock(in_channels, width), _ResidualBlock(width, out_channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(x)


class _ResidualBlock(nn.Module):
    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        self.norm1 = BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.norm2 = BatchNorm2d(out_channels)
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.norm_shortcut = BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        inside = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return F.relu(inside + self.norm_shortcut(self.shortcut(x)))


class ImagePatchBlock(nn.Module):
    """Reads the source image for the inward reference: two 3x3 convolutions, nothing between.

    The released networks have no activation here, so the two are one linear map.
    """

    def __init__(self, in_channels: int, out_channels: int, width: int) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(in_channels, width, 3, padding=1)
        self.conv_out = nn.Conv2d(width, out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv_out(self.conv_in(x))


class OutwardReference(nn.Module):
    """Attention where the image's gradients are (paper Sec. 3.4, OutRef).

    `forward` maps features p (B,C,h,w) to p · a, with a = sigmoid of a 1x1 convolution of the
    gradient features, and the gradient features themselves; `prediction` maps those to the
    gradient logits (B,1,h,w) that training supervises.
    """

    def __init__(self, channels: int, width: int = 16) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, width, 3, padding=1)
        self.norm = BatchNorm2d(width)
        self.attention = nn.Conv2d(width, 1, 1)
        self.prediction = nn.Conv2d(width, 1, 1)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        gradient = F.relu(self.norm(self.conv(features)))
        return features * torch.sigmoid(self.attention(gradient)), gradient


BlockFactory = Callable[[int, int], nn.Module]
"""Makes a decoder block from its numbers of input and output channels."""
