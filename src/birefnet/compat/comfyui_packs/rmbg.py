"""The BiRefNet nodes of ComfyUI-RMBG (github.com/1038lab/ComfyUI-RMBG, version 3.0)."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from birefnet.imaging.compose import parse_colour
from birefnet.integrations.comfyui import models
from birefnet.integrations.comfyui.mask_nodes import adjusted, mattes_of
from birefnet.integrations.comfyui.running import masks
from birefnet.integrations.comfyui.tensors import batch
from birefnet.integrations.comfyui.widgets import (
    Node,
    Widget,
    choice,
    inputs,
    number,
    switch,
    text,
    whole,
)
from birefnet.options import Options
from birefnet.weights.catalogue import CHECKPOINTS

# That pack's names, in its order → ours. Its files lie in models/RMBG/BiRefNet/NAME.safetensors.
NAMES = {
    "BiRefNet-general": "general",
    "BiRefNet_512x512": "general-512",
    "BiRefNet-HR": "hr",
    "BiRefNet-portrait": "portrait",
    "BiRefNet-matting": "matting",
    "BiRefNet-HR-matting": "hr-matting",
    "BiRefNet_lite": "lite",
    "BiRefNet_lite-2K": "lite-2k",
    "BiRefNet_dynamic": "dynamic",
    "BiRefNet_lite-matting": "lite-matting",
    "BiRefNet_toonout": "toonout",
}


def _finishing(reach: int) -> dict[str, Widget]:
    """The widgets of `_finish`; the edge moves by at most `reach` pixels."""
    return {
        "mask_blur": whole(0, 0, 64, "Soften the edge, in pixels."),
        "mask_offset": whole(
            0, -reach, reach, "Move the edge outwards (> 0) or inwards, in pixels."
        ),
        "invert_output": switch(False, "Swap subject and background, in image and mask."),
        "refine_foreground": switch(False, "Take the old background's colour out of the edges."),
        "background": choice(["Alpha", "Color"], "Transparent, or of one colour."),
        "background_color": text("#222222", "#rrggbb or #rrggbbaa, or a name."),
    }


class _Node(Node):
    CATEGORY = "image/birefnet/RMBG"
    RETURN_TYPES = ("IMAGE", "MASK", "IMAGE")
    RETURN_NAMES = ("IMAGE", "MASK", "MASK_IMAGE")


class BiRefNetRMBG(_Node):
    INPUT_TYPES = inputs(
        {"image": ("IMAGE",), "model": choice(list(NAMES), "Of the network.")},
        _finishing(20),
    )

    def run(self, image: Tensor, model: str, **settings: Any) -> tuple[Tensor, Tensor, Tensor]:
        name = NAMES[model]
        checkpoint = CHECKPOINTS[name]
        network = models.loaded(models.find(model, name))
        # Said here, for the files of that pack need not carry names that tell it.
        options = Options(
            kind="mask", resolution="native" if checkpoint.native else checkpoint.size
        )
        return _finish(image, masks(network.predictor, image, options), **settings)


class RMBG(_Node):
    DESCRIPTION = "RMBG-2.0; its weights are for non-commercial use."

    INPUT_TYPES = inputs(
        {"image": ("IMAGE",), "model": choice(["RMBG-2.0"], "Of the network.")},
        {
            "sensitivity": number(1, 0, 1, 0.01, "Below 1, alpha is multiplied by up to 2."),
            "process_res": whole(1024, 256, 2048, "Side that the network sees.", step=8),
            **_finishing(64),
        },
    )

    def run(
        self,
        image: Tensor,
        model: str,
        sensitivity: float = 1.0,
        process_res: int = 1024,
        **settings: Any,
    ) -> tuple[Tensor, Tensor, Tensor]:
        network = models.loaded(models.find(f"{model}/model.safetensors", model))
        mask = masks(network.predictor, image, Options(kind="mask", resolution=process_res))
        return _finish(image, (mask * (2 - sensitivity)).clamp(0, 1), **settings)


def _finish(
    image: Tensor,
    mask: Tensor,
    mask_blur: int = 0,
    mask_offset: int = 0,
    invert_output: bool = False,
    refine_foreground: bool = False,
    background: str = "Alpha",
    background_color: str = "#222222",
) -> tuple[Tensor, Tensor, Tensor]:
    """The corrected mask, and the picture with it as alpha or on a colour."""
    count = len(image)
    corrected = (adjusted(m.numpy(), offset=mask_offset, blur=mask_blur) for m in mask)
    mask = batch(corrected, count)
    if invert_output:
        mask = 1 - mask
    colour = parse_colour(background_color)
    pictures = batch(
        (
            matte.cutout(refine=refine_foreground)
            if background == "Alpha"
            else matte.on(colour, refine=refine_foreground)[..., :3]
            for matte in mattes_of(image, mask)
        ),
        count,
    )
    return pictures, mask, mask[..., None].expand(-1, -1, -1, 3).contiguous()
