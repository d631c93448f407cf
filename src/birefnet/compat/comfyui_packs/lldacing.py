"""The nodes of ComfyUI_BiRefNet_ll (github.com/lldacing/ComfyUI_BiRefNet_ll, version 1.1)."""

from __future__ import annotations

import copy
import logging
from dataclasses import replace
from typing import Any

from birefnet.errors import needs_extra

with needs_extra("torch", __name__):
    import torch
    from torch import Tensor

from birefnet.integrations.comfyui import models
from birefnet.integrations.comfyui.mask_nodes import foregrounds
from birefnet.integrations.comfyui.running import masks
from birefnet.integrations.comfyui.tensors import masks_of
from birefnet.integrations.comfyui.widgets import (
    Node,
    Widget,
    choice,
    inputs,
    number,
    resolution_of,
    switch,
    whole,
)
from birefnet.options import Options

log = logging.getLogger(__name__)

MODEL = "BIREFNET"
LOADERS = "AutoDownloadBiRefNetModel, LoadRembgByBiRefNetModel or BiRefNetLoadModel"

# In that pack's order; each is found in the folders as NAME.safetensors, or in our table.
NAMES = [
    "General",
    "General-HR",
    "Matting-HR",
    "General-Lite",
    "General-Lite-2K",
    "General-reso_512",
    "Portrait",
    "Matting",
    "Matting-Lite",
    "DIS",
    "HRSOD",
    "COD",
    "DIS-TR_TEs",
    "General-legacy",
    "General-dynamic",
]
_PRECISIONS = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}

_DEVICE = choice(["AUTO", "CPU"], "AUTO is ComfyUI's own.")
_DTYPE = choice(["float32", "float16", "bfloat16"], "Of the network's numbers.")
_NETWORK: dict[str, Widget | tuple[Any]] = {
    "model": (MODEL,),
    "images": ("IMAGE",),
    "width": whole(1024, 0, 16384, "Width that the network sees; 0 as its weights were trained."),
    "height": whole(1024, 0, 16384, "Height that the network sees; 0 as its weights were trained."),
    "upscale_method": choice(
        ["bilinear", "nearest", "nearest-exact", "bicubic"],
        "Filter of the picture's way to the network's size and back.",
    ),
}
_FUSION: dict[str, Widget] = {
    "blur_size": whole(90, 1, 255, "Side of the wide window in pixels."),
    "blur_size_two": whole(6, 1, 255, "Side of the narrow window in pixels."),
    "fill_color": switch(
        False, "Put a colour behind the subject; otherwise the picture has an alpha."
    ),
    "color": whole(0, 0, 0xFFFFFF, "0xRRGGBB.", display="color"),
}


def _threshold(step: float) -> Widget:
    return number(0, 0, 1, step, "Alpha up to this becomes 0; what is above stays as it is.")


class _Node(Node):
    CATEGORY = "rembg/BiRefNet"


class _Loader(_Node):
    RETURN_TYPES = (MODEL,)
    RETURN_NAMES = ("model",)

    @staticmethod
    def load(name: str, device: str, dtype: str) -> tuple[models.Model]:
        source = models.find(name)
        return (models.loaded(source, device=device.lower(), dtype=_PRECISIONS[dtype]),)


class AutoDownload(_Loader):
    DESCRIPTION = "A released network, from ComfyUI's folders if it is there, else downloaded once."

    INPUT_TYPES = inputs(
        {"model_name": choice(NAMES, "Of the network."), "device": _DEVICE}, {"dtype": _DTYPE}
    )

    def run(self, model_name: str, device: str, dtype: str = "float32") -> tuple[models.Model]:
        return self.load(model_name, device, dtype)


class LoadFile(_Loader):
    DESCRIPTION = "A network from ComfyUI's folders, models/BiRefNet and others."

    INPUT_TYPES = inputs(
        {"model": lambda: (list(models.files()),), "device": _DEVICE},
        {
            "use_weight": switch(False, "Without effect: the file holds the backbone too."),
            "dtype": _DTYPE,
        },
    )

    def run(
        self, model: str, device: str, use_weight: bool = False, dtype: str = "float32"
    ) -> tuple[models.Model]:
        return self.load(model, device, dtype)


class GetMask(_Node):
    RETURN_TYPES = ("MASK",)
    RETURN_NAMES = ("mask",)

    INPUT_TYPES = inputs({**_NETWORK, "mask_threshold": _threshold(0.004)})

    def run(
        self,
        model: Any,
        images: Tensor,
        width: int = 1024,
        height: int = 1024,
        upscale_method: str = "bilinear",
        mask_threshold: float = 0.0,
    ) -> tuple[Tensor]:
        network = _filtered(models.as_model(model, LOADERS), upscale_method)
        options = Options(kind="mask", resolution=resolution_of(width, height))
        mask = masks(network.predictor, images, options)
        return (torch.where(mask > mask_threshold, mask, 0) if mask_threshold > 0 else mask,)


def _filtered(model: models.Model, method: str) -> models.Model:
    """The same network, whose pictures are resized by another filter."""
    if method.startswith("nearest"):
        log.warning("birefnet: upscale_method %s would alias; bilinear is used", method)
        method = "bilinear"
    predictor = copy.copy(model.predictor)
    predictor.preprocess = replace(predictor.preprocess, interpolation=method)  # type: ignore[arg-type]
    return replace(model, predictor=predictor)


class BlurFusion(_Node):
    DESCRIPTION = "Take the old background's colour out of soft edges (Forte, ICIP 2021)."
    RETURN_TYPES = ("IMAGE", "MASK")
    RETURN_NAMES = ("image", "mask")

    INPUT_TYPES = inputs({"images": ("IMAGE",), "masks": ("MASK",), **_FUSION})

    def run(
        self,
        images: Tensor,
        masks: Tensor,
        blur_size: int = 90,
        blur_size_two: int = 6,
        fill_color: bool = False,
        color: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        colours = foregrounds(images, masks, blur_size, blur_size_two)
        mask = torch.stack([torch.from_numpy(m) for m in masks_of(masks, len(images))])
        alpha = mask[..., None]
        if not fill_color or color is None:
            return torch.cat([colours, alpha], dim=-1), mask
        ground = torch.tensor([color >> 16 & 0xFF, color >> 8 & 0xFF, color & 0xFF]) / 255
        return torch.lerp(ground.expand_as(colours), colours, alpha), mask


class RemoveAdvanced(_Node):
    RETURN_TYPES = ("IMAGE", "MASK")
    RETURN_NAMES = ("image", "mask")

    INPUT_TYPES = inputs({**_NETWORK, **_FUSION, "mask_threshold": _threshold(0.001)})

    def run(self, model: Any, images: Tensor, **values: Any) -> tuple[Tensor, Tensor]:
        fusion = {name: values.pop(name) for name in _FUSION if name in values}
        (mask,) = GetMask().run(model, images, **values)
        return BlurFusion().run(images, mask, **fusion)


class Remove(_Node):
    RETURN_TYPES = ("IMAGE", "MASK")
    RETURN_NAMES = ("image", "mask")

    INPUT_TYPES = inputs({"model": (MODEL,), "images": ("IMAGE",)})

    def run(self, model: Any, images: Tensor) -> tuple[Tensor, Tensor]:
        """The network sees what its weights were trained on; that pack gives all of them 1024²."""
        return RemoveAdvanced().run(model, images, width=0, height=0)
