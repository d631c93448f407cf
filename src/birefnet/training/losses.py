"""Losses on logits, as pure functions.

The losses of mattes take `logits` (B,C,H,W) and `truth` (B,1,H,W) or (B,C,H,W) in [0, 1], compute
in float32 whatever autocast says, and return one value per map, shape (B,C): C is 1 for a
prediction, or the number of maps when several predictions of one truth (all decoder stages, say)
are stacked as channels. `.mean()` of it does not depend on the batch size.

Where the truth is empty, every loss still has a gradient that lowers a flat prediction.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import ParamSpec

from birefnet.errors import needs_extra

with needs_extra("torch", __name__):
    import torch
    import torch.nn.functional as F
    from torch import Tensor

from birefnet.network import gradients
from birefnet.network.blocks import resize_like

__all__ = [
    "bce",
    "classification",
    "composition",
    "contour",
    "gradient_label",
    "gradient_loss",
    "iou",
    "laplacian_pyramid",
    "mae",
    "mse",
    "official_gradient_loss",
    "patch_iou",
    "ssim",
    "structure",
    "threshold_regularisation",
]

P = ParamSpec("P")


def in_float32(loss: Callable[P, Tensor]) -> Callable[P, Tensor]:
    """Call `loss` with its floating tensors as float32, and autocast switched off.

    Autocast would turn the blurs of SSIM back into bfloat16, where E[x²] − E[x]² is noise.
    """

    @functools.wraps(loss)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> Tensor:
        device = next(x.device.type for x in args if isinstance(x, Tensor))
        with torch.autocast(device, enabled=False):
            return loss(
                *(_float(x) for x in args),  # type: ignore[arg-type]
                **{name: _float(x) for name, x in kwargs.items()},  # type: ignore[arg-type]
            )

    return wrapped


def _float(value: object) -> object:
    return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value


# Of single pixels.


@in_float32
def bce(logits: Tensor, truth: Tensor) -> Tensor:
    """Binary cross-entropy, mean over the pixels (paper Eq. 2)."""
    target = truth.expand_as(logits)
    return F.binary_cross_entropy_with_logits(logits, target, reduction="none").mean(dim=(-2, -1))


@in_float32
def mae(logits: Tensor, truth: Tensor) -> Tensor:
    """Mean absolute error of the matte."""
    return (logits.sigmoid() - truth).abs().mean(dim=(-2, -1))


@in_float32
def mse(logits: Tensor, truth: Tensor) -> Tensor:
    """Mean squared error of the matte."""
    return (logits.sigmoid() - truth).square().mean(dim=(-2, -1))


@in_float32
def threshold_regularisation(logits: Tensor, truth: Tensor) -> Tensor:
    """1 − (p² + (1 − p)²), mean over the pixels: pulls the matte to 0 and 1, wherever it is nearer.

    It does not look at the `truth`, which is here so that all losses are called alike. Source: the
    released code's "reg" term.
    """
    p = logits.sigmoid()
    return (2 * p * (1 - p)).mean(dim=(-2, -1))


# Of regions: overlap of the whole matte or of its patches, weighted towards boundaries.


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


# Of boundaries and of local structure.


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


# Of soft mattes.


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


# Of the outward reference: where the picture has gradients, near the object. Source: paper Sec.
# 3.4, and the released code for the variant that it trains with.

gradient_label = in_float32(gradients.gradient_label)


def gradient_loss(logits: Tensor, image: Tensor, coarse: Tensor, *, radius: int = 1) -> Tensor:
    """Cross-entropy of the gradient `logits` (B,1,h,w) against `gradient_label`, shape (B,1).

    Args:
        logits: of one stage of the outward reference.
        image: normalised, (B,3,H,W).
        coarse: the coarse logits (B,1,h,w) of that stage.
        radius: of the dilation, in pixels of the coarse map.
    """
    return bce(logits, gradient_label(image, coarse, radius=radius))


@in_float32
def official_gradient_loss(
    logits: Tensor, image: Tensor, coarse: Tensor, *, detached: bool = True
) -> Tensor:
    """The released code's variant: sigmoid(Laplacian of the image · coarse logits) is the target.

    Prediction and coarse map are resized to the image. The released code lets the gradient flow
    into the coarse map through the label as well (`detached=False`).
    """
    label = gradients.official_gradient_label(
        image, coarse.detach() if detached else coarse
    ).sigmoid()
    return bce(resize_like(logits, image), label)


# Of the auxiliary classification head.


@in_float32
def classification(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy (paper Eq. 5) of `logits` (B,K) and `labels` (B,), one value per picture.

    A label of −1 (unknown) costs nothing.
    """
    return F.cross_entropy(logits, labels, ignore_index=-1, reduction="none")
