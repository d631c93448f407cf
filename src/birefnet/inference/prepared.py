"""A picture between its file and its matte: the network's input, its views, and the way back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from birefnet.imaging.geometry import Geometry
from birefnet.imaging.picture import Picture
from birefnet.imaging.views import View, apply_view, merge_views
from birefnet.inference.engines.base import Engine
from birefnet.matte import Matte


@dataclass(frozen=True, eq=False)
class Prepared:
    """A picture on its way into the network.

    Attributes:
        picture: as decoded.
        geometry: between it and the input.
        input: of the network, float32 [3,h,w], normalised; of its largest view.
        views: whose logits are averaged; none: the network sees `input` alone.
    """

    picture: Picture
    geometry: Geometry
    input: NDArray[np.float32]
    views: tuple[View, ...] = ()

    def inputs(self) -> list[NDArray[np.float32]]:
        """The input of each view, [3,h,w], for those who run them one by one."""
        return [apply_view(self.input[None], view)[0] for view in self.views] or [self.input]

    def merge(self, planes: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Logits [h,w] of all `inputs` → what `restore` takes."""
        if not self.views:
            return planes[0]
        return merge_views([plane[None, None] for plane in planes], self.views)[0, 0]

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


def infer(
    engine: Engine, inputs: NDArray[np.float32], views: Sequence[View] = ()
) -> NDArray[np.float32]:
    """Logits [B,1,h,w] of inputs [B,3,h,w], the mean of all views of them."""
    if not views:
        return engine.infer(inputs)
    return merge_views([engine.infer(apply_view(inputs, view)) for view in views], views)


def _sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """1 / (1 + exp(-x)) as tanh, which cannot overflow."""
    return np.float32(0.5) * (np.tanh(np.float32(0.5) * logits) + np.float32(1))
