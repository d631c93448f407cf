"""Backbones by name: image in, four maps at strides 4, 8, 16, 32 out."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from birefnet.network.backbones.base import Backbone
from birefnet.network.backbones.efficientnet_lite import EfficientNetLite
from birefnet.network.backbones.pvt_v2 import pvt_v2
from birefnet.network.backbones.resnet import ResNet50
from birefnet.network.backbones.swin import swin_v1
from birefnet.network.backbones.vgg import VGG16

__all__ = ["BACKBONES", "Backbone", "build_backbone"]

BACKBONES: dict[str, Callable[..., Backbone]] = {
    "swin_v1_t": partial(swin_v1, "t"),
    "swin_v1_s": partial(swin_v1, "s"),
    "swin_v1_b": partial(swin_v1, "b"),
    "swin_v1_l": partial(swin_v1, "l"),
    "pvt_v2_b0": partial(pvt_v2, "b0"),
    "pvt_v2_b1": partial(pvt_v2, "b1"),
    "pvt_v2_b2": partial(pvt_v2, "b2"),
    "pvt_v2_b5": partial(pvt_v2, "b5"),
    "vgg16": partial(VGG16, batch_norm=False),
    "vgg16bn": partial(VGG16, batch_norm=True),
    "resnet50": ResNet50,
    "efficientnet_lite0": partial(EfficientNetLite, width=1.0, depth=1.0),
    "efficientnet_lite1": partial(EfficientNetLite, width=1.0, depth=1.1),
    "efficientnet_lite2": partial(EfficientNetLite, width=1.1, depth=1.2),
}
"""Constructors by name; each takes `drop_path` (None: the backbone's own rate)."""


def build_backbone(name: str, *, drop_path: float | None = None) -> Backbone:
    """A new backbone with random weights.

    Args:
        name: one of `BACKBONES`, or `timm:NAME` for any timm model with feature maps.
        drop_path: stochastic depth of its last block while training, 0 to below 1; `None` takes
            the backbone's own.

    Raises:
        ValueError: unknown name; the message lists what exists.
        MissingExtraError: a timm model is asked for, and timm is not installed.
    """
    if name.startswith("timm:"):
        from birefnet.network.backbones.timm_models import TimmBackbone

        return TimmBackbone(name.removeprefix("timm:"), drop_path=drop_path)
    try:
        constructor = BACKBONES[name]
    except KeyError:
        raise ValueError(
            f"no backbone {name!r}; there are {', '.join(BACKBONES)}, and timm:NAME"
        ) from None
    return constructor(drop_path=drop_path)
