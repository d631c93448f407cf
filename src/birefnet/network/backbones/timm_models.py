"""Any timm model with feature maps, as a backbone `timm:NAME` (extra `timm`).

Hierarchical models give the maps at strides 4, 8, 16, 32. Plain vision transformers, like the
DINOv3 ones of the released networks, give four maps at one stride; the network's neck resizes them.
"""

from __future__ import annotations

import difflib
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from birefnet.errors import needs_extra
from birefnet.network.backbones.base import Backbone

_STRIDES = (4, 8, 16, 32)
# Blocks behind which the released DINOv3 networks take their maps; the deeper ones take them at
# the ends of the quarters, as everything else here.
_DINOV3_OF_TWELVE = (3, 5, 7, 11)


class TimmBackbone(Backbone):
    """A timm model, without its head and with random weights.

    Args:
        name: timm's name of the model, e.g. "vit_large_patch16_dinov3" or "convnext_tiny".
        drop_path: stochastic depth of the last block; `None` leaves timm's default.

    Raises:
        MissingExtraError: timm is not installed.
        ValueError: timm has no such model, or the model has no four maps of use.
    """

    def __init__(self, name: str, *, drop_path: float | None = None) -> None:
        super().__init__()
        with needs_extra("timm", f"the backbone 'timm:{name}'"):
            import timm
        if not timm.is_model(name):
            near = difflib.get_close_matches(name, timm.list_models(), n=5, cutoff=0.4)
            raise ValueError(f"timm has no model {name!r}; nearest are {', '.join(near)}")
        options: dict[str, Any] = {} if drop_path is None else {"drop_path_rate": drop_path}
        with torch.device("meta"):
            whole = timm.create_model(name, pretrained=False)
        info = getattr(whole, "feature_info", None)
        if not info:
            raise ValueError(f"timm's {name!r} gives no feature maps; choose another model")
        indices = _map_indices(name, [level["reduction"] for level in info])
        if hasattr(whole, "dynamic_img_size"):
            options["dynamic_img_size"] = True
        features = timm.create_model(
            name, pretrained=False, features_only=True, out_indices=indices, **options
        )
        x1, x2, x3, x4 = features.feature_info.channels()
        self.out_channels = (x1, x2, x3, x4)
        self._stride = max(features.feature_info.reduction())
        # Plain transformers come inside a wrapper; without it the released names fit.
        self._indices: list[int] | None = None
        if hasattr(features, "out_indices") and hasattr(features, "model"):
            self._indices = list(features.out_indices)
            features = features.model
        self.model = features
        self._channels_last = str(getattr(features, "output_fmt", "NCHW")).endswith("NHWC")
        self.register_load_state_dict_post_hook(_compute_missing_buffers)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, 3, H, W) → four maps; sides that the model's stride does not divide are resized."""
        # Whole numbers: in a trace for export sides are tensors, and a trace is of one size.
        sides = [int(side) for side in x.shape[-2:]]
        size = [max(round(side / self._stride), 1) * self._stride for side in sides]
        if size != sides and self._indices is not None:
            x = F.interpolate(x, size, mode="bilinear", align_corners=True)
        if hasattr(self.model, "set_grad_checkpointing"):
            self.model.set_grad_checkpointing(self.gradient_checkpointing and self.training)
        if self._indices is not None:
            maps = self.model.forward_intermediates(
                x, indices=self._indices, norm=False, output_fmt="NCHW", intermediates_only=True
            )
        else:
            maps = self.model(x)
        return [m.permute(0, 3, 1, 2) for m in maps] if self._channels_last else list(maps)


def _map_indices(name: str, reductions: list[int]) -> tuple[int, ...]:
    """Which of a model's levels to take, from the stride of each."""
    if all(stride in reductions for stride in _STRIDES):
        last = len(reductions) - 1
        return tuple(last - reductions[::-1].index(stride) for stride in _STRIDES)
    if len(set(reductions)) > 1 or len(reductions) < 4:
        raise ValueError(
            f"timm's {name!r} has maps at strides {reductions}; expected 4, 8, 16 and 32, or at "
            "least four maps at one stride; choose another model"
        )
    if "dinov3" in name and len(reductions) == 12:
        return _DINOV3_OF_TWELVE
    return tuple(len(reductions) * quarter // 4 - 1 for quarter in (1, 2, 3, 4))


def _compute_missing_buffers(backbone: nn.Module, _keys: object) -> None:
    """Give values to buffers that no checkpoint holds, if the model was built on "meta"."""
    device = next(backbone.parameters()).device
    for module in backbone.modules():
        valueless = {n: b for n, b in module.named_buffers(recurse=False) if b.is_meta}
        if device.type == "meta" or not valueless:
            continue
        if compute := getattr(module, "init_non_persistent_buffers", None):
            for name, buffer in valueless.items():
                setattr(module, name, torch.empty_like(buffer, device=device))
            compute()
