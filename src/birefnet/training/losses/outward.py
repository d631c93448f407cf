"""Supervision of the outward reference: where the picture has gradients, near the object.

Source: paper Sec. 3.4, and the released code for the variant that it trains with.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from birefnet.network.blocks import resize_like
from birefnet.network.decoder import official_gradient_label
from birefnet.training.losses.pixel import bce
from birefnet.training.losses.precision import in_float32


@in_float32
def gradient_label(image: Tensor, coarse: Tensor, *, radius: int = 1) -> Tensor:
    """Target of the outward reference: the image's gradients near the predicted object.

    The magnitude of the Sobel gradient of the normalised grey `image` (B,3,H,W), scaled per picture
    so that its mean plus two standard deviations is 1, kept where the dilated coarse map
    (B,1,h,w) predicts an object (paper Sec. 3.4: "gradient maps masked by dilated intermediate
    predictions").

    Returns:
        (B,1,h,w) in [0, 1], at the size of `coarse`, without gradient.
    """
    with torch.no_grad():
        grey = image.mean(dim=1, keepdim=True)
        grey = F.pad(grey, (1, 1, 1, 1), mode="replicate")
        across = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]], device=image.device) / 8
        kernels = torch.stack([across, across.T]).unsqueeze(1)
        magnitude = F.conv2d(grey, kernels).square().sum(dim=1, keepdim=True).sqrt()
        magnitude = F.adaptive_max_pool2d(magnitude, coarse.shape[-2:])
        mean = magnitude.mean(dim=(2, 3), keepdim=True)
        spread = (magnitude - mean).square().mean(dim=(2, 3), keepdim=True).sqrt()
        scale = mean + 2 * spread
        near = F.max_pool2d(coarse.sigmoid(), 2 * radius + 1, 1, radius)
        return (magnitude / scale.clamp_min(1e-4)).clamp(0, 1) * near


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
    label = official_gradient_label(image, coarse.detach() if detached else coarse).sigmoid()
    return bce(resize_like(logits, image), label)
