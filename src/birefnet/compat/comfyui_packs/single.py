"""Packs of one or two nodes: ComfyUI-BiRefNet-ZHO, viperyl's ComfyUI-BiRefNet, ComfyUI's own.

github.com/ZHO-ZHO-ZHO/ComfyUI-BiRefNet-ZHO · github.com/viperyl/ComfyUI-BiRefNet ·
github.com/comfyanonymous/ComfyUI, comfy_extras/nodes_bg_removal.py
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from birefnet.errors import WeightsError
from birefnet.integrations.comfyui import models, widgets
from birefnet.integrations.comfyui.running import masks
from birefnet.integrations.comfyui.widgets import ChoosesDevice, Node, choice, inputs, whole
from birefnet.options import Options
from birefnet.weights.locate import default_model


class ZhoLoader(Node):
    RETURN_TYPES = ("BRNMODEL",)
    RETURN_NAMES = ("birefnetmodel",)

    INPUT_TYPES = inputs({"birefnet_model": lambda: (list(models.files()),)})

    def run(self, birefnet_model: str) -> tuple[models.Model]:
        return (models.loaded(models.find(birefnet_model)),)


class ZhoRemove(Node):
    RETURN_TYPES = ("IMAGE", "MASK")
    RETURN_NAMES = ("image", "mask")

    INPUT_TYPES = inputs({"birefnetmodel": ("BRNMODEL",), "image": ("IMAGE",)})

    def run(self, birefnetmodel: Any, image: Tensor) -> tuple[Tensor, Tensor]:
        network = models.as_model(birefnetmodel, "BiRefNet_ModelLoader_Zho")
        mask = masks(network.predictor, image, Options(kind="mask"))
        colours = image[..., :3].to(mask)
        return torch.cat([colours, mask[..., None]], dim=-1), mask


class Viperyl(ChoosesDevice):
    """Its file is models/BiRefNet/BiRefNet-ep480.pth; without it the default network runs."""

    RETURN_TYPES = ("MASK",)
    RETURN_NAMES = ("mask",)

    INPUT_TYPES = inputs(
        {
            "device": lambda: choice(widgets.devices(), "auto is ComfyUI's own."),
            "image": ("IMAGE", {}),
        }
    )

    def run(self, device: str, image: Tensor) -> tuple[Tensor]:
        try:
            source = models.find("BiRefNet-ep480.pth")
        except WeightsError:
            source = default_model()
        network = models.loaded(source, device=device)
        return (masks(network.predictor, image, Options(kind="mask")),)


class CoreLoader(Node):
    RETURN_TYPES = ("BACKGROUND_REMOVAL",)
    RETURN_NAMES = ("bg_model",)

    INPUT_TYPES = inputs({"bg_removal_name": lambda: (sorted(models.files()),)})

    def run(self, bg_removal_name: str) -> tuple[models.Model]:
        return (models.loaded(models.find(bg_removal_name)),)


class CoreRemove(Node):
    RETURN_TYPES = ("MASK",)
    RETURN_NAMES = ("mask",)

    INPUT_TYPES = inputs(
        {"bg_removal_model": ("BACKGROUND_REMOVAL",), "image": ("IMAGE",)},
        {"resolution": whole(1024, 256, 4096, "Side that the network sees.", step=32)},
    )

    def run(
        self, bg_removal_model: Any, image: Tensor, resolution: int | None = None
    ) -> tuple[Tensor]:
        return (bg_removal_model.encode_image(image, image_size=resolution),)
