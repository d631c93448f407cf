"""Losses of regions: overlap of the whole matte, of its patches, weighted towards boundaries."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from birefnet.training.losses.precision import in_float32


@in_float32
def iou(logits: Tensor, truth: Tensor) -> Tensor:
    """1 − |P∩T| / |P∪T|, soft (paper Eq. 3; Máttyus et al., ICCV 2017).

    An empty truth (less than one pixel in all) makes that quotient 0 whatever is predicted, with no
    gradient at all; the IoU of the *background* stands in for it there: the mean of the prediction.
    """
    p, t = logits.sigmoid(), truth.expand_as(logits)
    both, predicted, true = (x.sum(dim=(-2, -1)) for x in (p * t, p, t))
    return _one_minus_iou(both, predicted, true, float(p.shape[-2] * p.shape[-1]))


@in_float32
def patch_iou(logits: Tensor, truth: Tensor, *, side: int = 64) -> Tensor:
    """Mean of `iou` over patches of `side` x `side` pixels, the last ones of a row may be smaller.

    The released code walks over the batch and channel axes instead of rows and columns, so it is
    `iou` of the whole matte there.
    """
    p, t = logits.sigmoid(), truth.expand_as(logits)
    both, predicted, true = (_patch_sums(x, side) for x in (p * t, p, t))
    pixels = _patch_sums(torch.ones_like(p[:1, :1]), side)
    return _one_minus_iou(both, predicted, true, pixels).mean(dim=(-2, -1))


@in_float32
def structure(logits: Tensor, truth: Tensor, *, window: int = 31) -> Tensor:
    """Cross-entropy and IoU, both weighted by 1 + 5·|local mean of the truth − truth|.

    Source: the structure loss of F3Net (Wei et al., AAAI 2020), as used for MVANet. The released
    code of BiRefNet applies the sigmoid twice; here it is applied once.
    """
    t = truth
    half = window // 2
    mean = F.avg_pool2d(t, (window, 1), stride=1, padding=(half, 0))
    mean = F.avg_pool2d(mean, (1, window), stride=1, padding=(0, half))
    weight = 1 + 5 * (mean - t).abs()
    target = t.expand_as(logits)
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    total = weight.sum(dim=(-2, -1))
    entropy = (weight * entropy).sum(dim=(-2, -1)) / total
    p = weight * logits.sigmoid()
    both, predicted, true = (x.sum(dim=(-2, -1)) for x in (p * t, p, weight * target))
    return entropy + _one_minus_iou(both, predicted, true, total, smooth=1.0)


def _one_minus_iou(
    both: Tensor, predicted: Tensor, true: Tensor, pixels: Tensor | float, smooth: float = 0.0
) -> Tensor:
    """From the sums over P·T, P, T and 1, all of one shape; of the background where T is empty."""
    union = predicted + true - both
    foreground = (both + smooth) / (union + smooth).clamp_min(1e-6)
    # Of the complements: Σ(1−p)(1−t) over Σ1 − Σpt.
    background = (pixels - union + smooth) / (pixels - both + smooth)
    return 1 - torch.where(true < 1, background, foreground)


def _patch_sums(x: Tensor, side: int) -> Tensor:
    """Sums of `x` (B,C,H,W) over patches: (B, C, rows, columns)."""
    batch, channels, height, width = x.shape
    x = F.pad(x, (0, -width % side, 0, -height % side))
    rows, columns = x.shape[-2] // side, x.shape[-1] // side
    return x.reshape(batch, channels, rows, side, columns, side).sum(dim=(3, 5))
