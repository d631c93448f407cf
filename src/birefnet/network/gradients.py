"""Targets of the outward reference: where the picture has gradients, near the object.

Source: paper Sec. 3.4, and the released code for the variant that it trains with.
"""

from __future__ import annotations

from birefnet.errors import needs_extra

with needs_extra("torch", __name__):
    import torch
    import torch.nn.functional as F
    from torch import Tensor

from birefnet.network.blocks import resize_like


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


def laplacian(image: Tensor) -> Tensor:
    """Laplacian (B,1,H,W) of the channel mean of `image` (B,C,H,W), border reflected.

    The 5x5 kernel has ones around −24, divided by the sum of its absolute values, 48, so the
    result is a 5x5 box mean and the pixel itself, weighted 25/48.
    """
    grey = F.pad(image.mean(dim=1, keepdim=True), (2, 2, 2, 2), mode="reflect")
    mean = F.avg_pool2d(grey, 5, stride=1)
    return (mean - grey[:, :, 2:-2, 2:-2]) * (25.0 / 48.0)


def official_gradient_label(image: Tensor, coarse: Tensor) -> Tensor:
    """Gradient label (B,1,H,W), before the sigmoid, as in the released training code.

    The Laplacian of the normalised `image` (B,3,H,W), masked by the coarse logits (B,1,h,w)
    resized to the image. The paper masks with a dilated prediction instead.
    """
    return laplacian(image) * resize_like(coarse, image)
