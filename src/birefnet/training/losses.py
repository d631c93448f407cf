"""Losses on logits, as pure functions.

Every function takes `logits` and `truth`, both (B,1,H,W), truth in [0, 1], computes in float32 and
returns a scalar, or one value per picture (B,) where it says so.

Sources: paper Sec. 3.6 (Eq. 1); SSIM: Wang et al. 2004, as in BASNet (Qin et al., CVPR 2019);
IoU: Mattyus et al., ICCV 2017.
"""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor


def bce(logits: Tensor, truth: Tensor) -> Tensor:
    """Binary cross-entropy, mean over all pixels."""
    return F.binary_cross_entropy_with_logits(logits.float(), truth.float())


def mae(logits: Tensor, truth: Tensor) -> Tensor:
    """Mean absolute error of the matte."""
    return (logits.float().sigmoid() - truth.float()).abs().mean()


def mse(logits: Tensor, truth: Tensor) -> Tensor:
    """Mean squared error of the matte."""
    return F.mse_loss(logits.float().sigmoid(), truth.float())


def iou(logits: Tensor, truth: Tensor) -> Tensor:
    """1 - |P∩T| / |P∪T| of each picture, shape (B,), soft.

    An empty truth makes the quotient 0 whatever is predicted, with no gradient at all; the IoU of
    the *background* stands in for it there, which is 1 minus the mean prediction.
    """
    p, t = logits.float().sigmoid().flatten(1), truth.float().flatten(1)
    is_empty = t.sum(dim=1, keepdim=True) < 1.0
    p, t = torch.where(is_empty, 1 - p, p), torch.where(is_empty, 1 - t, t)
    both = (p * t).sum(dim=1)
    return 1 - both / (p.sum(dim=1) + t.sum(dim=1) - both).clamp_min(1e-6)


def ssim(logits: Tensor, truth: Tensor, *, window: int = 11, sigma: float = 1.5) -> Tensor:
    """(1 - SSIM) / 2 of the matte against the truth, mean over all windows, 0 to 1.

    The paper writes 1 - SSIM; the released code halves it, and this follows the code.
    """
    p, t = logits.float().sigmoid(), truth.float()
    side = _gaussian(window, sigma).to(p.device)

    def blur(x: Tensor) -> Tensor:
        x = F.conv2d(x, side.view(1, 1, -1, 1), padding=(window // 2, 0))
        return F.conv2d(x, side.view(1, 1, 1, -1), padding=(0, window // 2))

    mean_p, mean_t, pp, tt, pt = blur(torch.cat([p, t, p * p, t * t, p * t])).chunk(5)
    var_p, var_t, cov = pp - mean_p**2, tt - mean_t**2, pt - mean_p * mean_t
    c1, c2 = 0.01**2, 0.03**2
    similarity = (2 * mean_p * mean_t + c1) * (2 * cov + c2)
    similarity = similarity / ((mean_p**2 + mean_t**2 + c1) * (var_p + var_t + c2))
    return (0.5 * (1 - similarity)).clamp(0, 1).mean()


def gradient_label(image: Tensor, coarse: Tensor, *, radius: int) -> Tensor:
    """Target of the outward reference: the image's gradients near the predicted object.

    The magnitude of the Sobel gradient of the normalised grey `image` (B,3,H,W), scaled per picture
    so that its mean plus two standard deviations is 1, kept where the dilated coarse map
    (B,1,h,w) predicts an object (paper Sec. 3.4: "gradient maps masked by dilated intermediate
    predictions").

    Returns:
        (B,1,h,w) in [0, 1], at the size of `coarse`, without gradient.
    """
    with torch.no_grad():
        grey = image.float().mean(dim=1, keepdim=True)
        grey = F.pad(grey, (1, 1, 1, 1), mode="replicate")
        across = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]], device=image.device) / 8
        kernels = torch.stack([across, across.T]).unsqueeze(1)
        magnitude = F.conv2d(grey, kernels).square().sum(dim=1, keepdim=True).sqrt()
        magnitude = F.adaptive_max_pool2d(magnitude, coarse.shape[-2:])
        mean = magnitude.mean(dim=(2, 3), keepdim=True)
        scale = mean + 2 * magnitude.std(dim=(2, 3), keepdim=True, correction=0)
        near = F.max_pool2d(coarse.float().sigmoid(), 2 * radius + 1, 1, radius)
        return (magnitude / scale.clamp_min(1e-4)).clamp(0, 1) * near


@functools.cache
def _gaussian(window: int, sigma: float) -> Tensor:
    offset = torch.arange(window, dtype=torch.float32) - window // 2
    weights = torch.exp(-(offset**2) / (2 * sigma**2))
    return weights / weights.sum()
