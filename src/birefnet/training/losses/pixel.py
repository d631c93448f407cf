"""Losses of single pixels."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from birefnet.training.losses.precision import in_float32


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
