"""Supervision of the outward reference: where the picture has gradients, near the object.

Source: paper Sec. 3.4, and the released code for the variant that it trains with.
"""

from __future__ import annotations

from torch import Tensor

from birefnet.network import gradients
from birefnet.network.blocks import resize_like
from birefnet.network.gradients import official_gradient_label
from birefnet.training.losses.pixel import bce
from birefnet.training.losses.precision import in_float32

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
    label = official_gradient_label(image, coarse.detach() if detached else coarse).sigmoid()
    return bce(resize_like(logits, image), label)
