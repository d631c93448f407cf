"""The one thing the predictor asks of whatever runs the network."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray


@runtime_checkable
class Engine(Protocol):
    """Runs one network on one device at one precision.

    Attributes:
        name: engine, device and precision for people to read, such as "torch cuda:0 fp16".
        batch_size: how many pictures at a time pay on this device; callers may send any number.
    """

    name: str
    batch_size: int

    def infer(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits of a batch.

        Args:
            batch: float32 [B, 3, H, W], normalised by the weights' preprocessing; H and W are
                multiples of 32.

        Returns:
            float32 [B, 1, H, W], finite; the sigmoid of it is the subject's probability.

        Raises:
            DeviceError: not enough memory, or numbers beyond what the precision can hold.
        """
        ...
