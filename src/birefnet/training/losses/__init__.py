"""Losses on logits, as pure functions.

The losses of mattes take `logits` (B,C,H,W) and `truth` (B,1,H,W) or (B,C,H,W) in [0, 1], compute
in float32 whatever autocast says, and return one value per map, shape (B,C): C is 1 for a
prediction, or the number of maps when several predictions of one truth (all decoder stages, say)
are stacked as channels. `.mean()` of it does not depend on the batch size.

Where the truth is empty, every loss still has a gradient that lowers a flat prediction.
"""

from __future__ import annotations

from birefnet.training.losses.boundary import contour, ssim
from birefnet.training.losses.classes import classification
from birefnet.training.losses.matting import composition, laplacian_pyramid
from birefnet.training.losses.outward import gradient_label, gradient_loss, official_gradient_loss
from birefnet.training.losses.pixel import bce, mae, mse, threshold_regularisation
from birefnet.training.losses.region import iou, patch_iou, structure

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
