"""What JPEG does to a picture, in torch: for batches on the training device.

Baseline JPEG with chroma at half size (ITU-T T.81; tables of its annex K, scaled by quality as the
Independent JPEG Group does), without the lossless last step.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

# fmt: off
_LUMA = (
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55,
    14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62,
    18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92,
    49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
)
_CHROMA = (
    17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99,
    24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99, 99, 99, 99,
    99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
    99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
)
# fmt: on
_TO_YCC = (
    (0.299, 0.587, 0.114),
    (-0.168736, -0.331264, 0.5),
    (0.5, -0.418688, -0.081312),
)


def compress(x: Tensor, quality: Tensor) -> Tensor:
    """The picture after JPEG.

    Args:
        x: N x 3 x H x W in [0, 1]; sides are multiples of 16.
        quality: N, 1 to 100.
    """
    to_ycc = torch.tensor(_TO_YCC, device=x.device, dtype=x.dtype)
    ycc = torch.einsum("cd,ndhw->nchw", to_ycc, x * 255)
    scale = torch.where(quality < 50, 5000 / quality, 200 - 2 * quality)
    luma = _quantise(ycc[:, :1] - 128, _LUMA, scale) + 128
    chroma = _quantise(functional.avg_pool2d(ycc[:, 1:], 2), _CHROMA, scale)
    size = x.shape[2:]
    chroma = functional.interpolate(chroma, size, mode="bilinear", align_corners=False)
    back = torch.linalg.inv(to_ycc.cpu().double()).to(x)
    out = torch.einsum("cd,ndhw->nchw", back, torch.cat([luma, chroma], 1))
    return (out.round() / 255).clamp_(0, 1)


def _quantise(plane: Tensor, table: tuple[int, ...], scale: Tensor) -> Tensor:
    """Round the cosine coefficients of blocks of 8 x 8."""
    n, c, height, width = plane.shape
    steps = torch.tensor(table, device=plane.device, dtype=plane.dtype).view(1, 1, 8, 1, 8)
    steps = ((steps * scale.view(-1, 1, 1, 1, 1) + 50) / 100).floor().clamp_(1, 255)
    dct = _cosines(plane)
    blocks = plane.view(n * c, height // 8, 8, width // 8, 8)
    found = torch.einsum("ui,nriqj,vj->nruqv", dct, blocks, dct)
    steps = steps.expand(n, c, 8, 1, 8).reshape(n * c, 1, 8, 1, 8)
    kept = (found / steps).round() * steps
    return torch.einsum("ui,nruqv,vj->nriqj", dct, kept, dct).reshape(n, c, height, width)


def _cosines(like: Tensor) -> Tensor:
    """8 x 8 matrix of the orthonormal cosine transform (type II)."""
    rows = [
        [math.sqrt((1 if u == 0 else 2) / 8) * math.cos((2 * i + 1) * u * math.pi / 16)
         for i in range(8)]
        for u in range(8)
    ]  # fmt: skip
    return torch.tensor(rows, device=like.device, dtype=like.dtype)
