"""A picture between its file and its matte: what the network is shown, and the way back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from birefnet.imaging.geometry import Geometry
from birefnet.imaging.looks import Look, merge, view
from birefnet.imaging.picture import Picture
from birefnet.matte import Matte


@dataclass(frozen=True, eq=False)
class Prepared:
    """A picture on its way into the network.

    Attributes:
        picture: as decoded.
        geometry: between it and the input.
        input: of the network, float32 [3,h,w], normalised; of its largest look.
        looks: whose logits are averaged; none: the network sees `input` alone.
    """

    picture: Picture
    geometry: Geometry
    input: NDArray[np.float32]
    looks: tuple[Look, ...] = ()

    def views(self) -> list[NDArray[np.float32]]:
        """What each look shows the network, [3,h,w], for those who run them one by one."""
        return [view(self.input[None], look)[0] for look in self.looks] or [self.input]

    def merge(self, planes: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Logits [h,w] of all `views` → what `restore` takes."""
        if not self.looks:
            return planes[0]
        return merge([plane[None, None] for plane in planes], self.looks)[0, 0]

    def restore(self, logits: NDArray[np.float32]) -> Matte:
        """Logits [h,w] → matte at the picture's size.

        The sigmoid comes before the resize, as in the official inference. Nothing is stretched to
        its own minimum and maximum: a picture without an object keeps its small numbers.
        """
        alpha = self.geometry.restore(_sigmoid(logits))
        np.clip(alpha, 0, 1, out=alpha)
        if self.picture.alpha is not None:
            alpha *= self.picture.alpha
        return Matte(alpha, self.picture)


def _sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """1 / (1 + exp(-x)) as tanh, which cannot overflow."""
    return np.float32(0.5) * (np.tanh(np.float32(0.5) * logits) + np.float32(1))
