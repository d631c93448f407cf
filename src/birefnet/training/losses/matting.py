"""Losses for soft mattes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from birefnet.training.losses.precision import in_float32


@in_float32
def laplacian_pyramid(logits: Tensor, truth: Tensor, *, levels: int = 5) -> Tensor:
    """Σ 2^k · mean |level k of the Laplacian pyramid of matte − truth| / levels, finest first.

    The last level is the low-pass rest, so that a matte that is off by a constant pays too. The
    pyramid is linear, so one of the difference is enough. Sources: Burt and Adelson 1983; Hou and
    Liu, "Context-aware image matting", ICCV 2019.
    """
    rest = logits.sigmoid() - truth
    total = torch.zeros(rest.shape[:2], device=rest.device)
    for level in range(levels - 1):
        coarser = _reduce(rest)
        detail = rest - F.interpolate(
            coarser, size=rest.shape[-2:], mode="bilinear", align_corners=False
        )
        total = total + 2**level * detail.abs().mean(dim=(-2, -1))
        rest = coarser
    return (total + 2 ** (levels - 1) * rest.abs().mean(dim=(-2, -1))) / levels


@in_float32
def composition(
    logits: Tensor, truth: Tensor, foreground: Tensor, background: Tensor | None = None
) -> Tensor:
    """Mean |composite by the matte − composite by the truth|: |α − α*| · |F − B|.

    Source: Xu et al., "Deep image matting", CVPR 2017.

    Args:
        logits, truth: of the matte.
        foreground: (B,3,H,W); where its own colours are unknown, the picture itself.
        background: (B,3,H,W), or `None` for 0, the mean colour of normalised pictures (as MODNet,
            Ke et al., AAAI 2022, composes on nothing).
    """
    distance = foreground if background is None else foreground - background
    distance = distance.abs().mean(dim=1, keepdim=True)
    return ((logits.sigmoid() - truth).abs() * distance).mean(dim=(-2, -1))


def _reduce(x: Tensor) -> Tensor:
    """Binomial blur and every second pixel; edges repeat, so any size down to 1 goes."""
    maps = x.shape[0] * x.shape[1]
    weights = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0], device=x.device).view(1, 1, -1, 1) / 16
    weights = weights.expand(maps, 1, 5, 1)  # one depthwise convolution, as in SSIM's blur
    flat = F.pad(x.reshape(1, maps, *x.shape[-2:]), (2, 2, 2, 2), mode="replicate")
    flat = F.conv2d(flat, weights, stride=(2, 1), groups=maps)
    flat = F.conv2d(flat, weights.transpose(2, 3), stride=(1, 2), groups=maps)
    return flat.reshape(*x.shape[:2], *flat.shape[-2:])
