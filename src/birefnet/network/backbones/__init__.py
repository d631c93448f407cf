"""Backbones by name: image in, four maps at strides 4, 8, 16, 32 out."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from birefnet.network.backbones.base import Backbone
from birefnet.network.backbones.efficientnet_lite import EfficientNetLite

__all__ = ["BACKBONES", "Backbone", "build_backbone"]

BACKBONES: dict[str, Callable[..., Backbone]] = {
    "efficientnet_lite0": partial(EfficientNetLite, width=1.0, depth=1.0),
    "efficientnet_lite1": partial(EfficientNetLite, width=1.0, depth=1.1),
    "efficientnet_lite2": partial(EfficientNetLite, width=1.1, depth=1.2),
}
"""Constructors by name; each takes `drop_path` (None: the backbone's own rate)."""


def build_backbone(name: str, *, drop_path: float | None = None) -> Backbone:
    """A new backbone with random weights.

    Args:
        name: one of `BACKBONES`.
        drop_path: stochastic depth of its last block while training, 0 to below 1; `None` takes
            the backbone's own.

    Raises:
        ValueError: unknown name; the message lists what exists.
    """
    try:
        constructor = BACKBONES[name]
    except KeyError:
        raise ValueError(f"no backbone {name!r}; there are {', '.join(BACKBONES)}") from None
    return constructor(drop_path=drop_path)
