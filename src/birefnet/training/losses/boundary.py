"""Losses of boundaries and of local structure."""

from __future__ import annotations

import math

from birefnet.errors import MissingExtraError

try:
    import torch
    import torch.nn.functional as F
    from torch import Tensor
except ModuleNotFoundError:
    raise MissingExtraError("birefnet.training.losses", "torch") from None

from birefnet.training.losses.precision import in_float32


@in_float32
def ssim(
    logits: Tensor, truth: Tensor, *, halved: bool = True, window: int = 11, sigma: float = 1.5
) -> Tensor:
    """(1 − SSIM) / 2 of the matte against the truth, mean over all windows, 0 to 1.

    Gaussian windows, zeros outside (Wang et al. 2004, as in BASNet, Qin et al., CVPR 2019). With
    `halved=False`, 1 − SSIM as paper Eq. 4 writes it; the released code halves it.
    """
    p, t = logits.sigmoid(), truth
    c1, c2 = 0.01**2, 0.03**2
    mean_p, pp, pt = (_blur(x, window, sigma) for x in (p, p * p, p * t))
    mean_t, tt = (_blur(x, window, sigma) for x in (t, t * t))
    variances = (pp - mean_p**2) + (tt - mean_t**2)
    covariance = pt - mean_p * mean_t
    similarity = (2 * mean_p * mean_t + c1) * (2 * covariance + c2)
    similarity = similarity / ((mean_p**2 + mean_t**2 + c1) * (variances + c2))
    loss = 1 - similarity.mean(dim=(-2, -1))
    return loss / 2 if halved else loss


@in_float32
def contour(logits: Tensor, truth: Tensor, *, length: float = 10.0) -> Tensor:
    """Active contour: `length` times the mean contour length, plus the misplaced area.

    Σ p·(1 − t)² + (1 − p)·t², both means over the pixels (Chen et al., "Learning active contour
    models for medical image segmentation", CVPR 2019). The matte's differences are taken down one
    column and along the next row, as the released code does.
    """
    p, t = logits.sigmoid(), truth
    down = (p[..., 2:, :-2] - p[..., 1:-1, :-2]).square()
    along = (p[..., :-2, 2:] - p[..., :-2, 1:-1]).square()
    contours = (down + along + 1e-8).sqrt().mean(dim=(-2, -1))
    misplaced = p * (1 - t).square() + (1 - p) * t.square()
    return length * contours + misplaced.mean(dim=(-2, -1))


def _blur(x: Tensor, window: int, sigma: float) -> Tensor:
    """Gaussian blur of every channel, zeros outside.

    All maps are channels of one depthwise convolution: on a CPU, a batch of one-channel pictures
    takes 5 times as long forward, and 30 times backward.
    """
    maps = x.shape[0] * x.shape[1]
    weights = torch.tensor(_gaussian(window, sigma), device=x.device).view(1, 1, -1, 1)
    weights = weights.expand(maps, 1, window, 1)
    flat = x.reshape(1, maps, *x.shape[-2:])
    flat = F.conv2d(flat, weights, padding=(window // 2, 0), groups=maps)
    flat = F.conv2d(flat, weights.transpose(2, 3), padding=(0, window // 2), groups=maps)
    return flat.reshape(x.shape)


def _gaussian(window: int, sigma: float) -> list[float]:
    """Weights of one side; plain numbers, so that a compiler takes them for constants."""
    weights = [math.exp(-((i - window // 2) ** 2) / (2 * sigma**2)) for i in range(window)]
    total = sum(weights)
    return [weight / total for weight in weights]
