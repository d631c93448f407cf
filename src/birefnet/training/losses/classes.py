"""Loss of the auxiliary classification head."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from birefnet.training.losses.precision import in_float32


@in_float32
def classification(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy (paper Eq. 5) of `logits` (B,K) and `labels` (B,), one value per picture.

    A label of −1 (unknown) costs nothing.
    """
    return F.cross_entropy(logits, labels, ignore_index=-1, reduction="none")
