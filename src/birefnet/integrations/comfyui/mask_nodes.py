"""This package's own nodes that need no network: what pictures and mattes are made into."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from birefnet.errors import BiRefNetError, needs_extra

with needs_extra("torch", __name__):
    from torch import Tensor

from birefnet.imaging.compose import parse_colour
from birefnet.imaging.foreground import estimate_foreground
from birefnet.imaging.picture import Picture, Pixels
from birefnet.integrations.comfyui import settings, widgets
from birefnet.integrations.comfyui.tensors import backgrounds_of, batch, masks_of, pictures_of
from birefnet.integrations.comfyui.widgets import Node, inputs
from birefnet.matte import Matte
from birefnet.options import Options


def mattes_of(images: Tensor, masks: Tensor) -> Iterator[Matte]:
    """Pictures with masks of the same size; a picture's own alpha is left out.

    Raises:
        ImageError: another number of masks, or other sizes.
    """
    alphas = masks_of(masks, len(images))
    for picture, alpha in zip(pictures_of(images), alphas, strict=True):
        yield Matte(alpha, picture)


def foregrounds(
    images: Tensor, masks: Tensor, radius: int | None, second_radius: int | None
) -> Tensor:
    """The subject's own colours, (B,H,W,3); see `estimate_foreground` for the windows."""
    colours = (
        estimate_foreground(
            matte.picture.pixels,
            matte.alpha,
            radius=radius,
            second_radius=second_radius,
            dtype=matte.picture.pixels.dtype,
        )
        for matte in mattes_of(images, masks)
    )
    return batch(colours, len(images))


def adjusted(
    mask: NDArray[np.float32], *, offset: float = 0, blur: float = 0, threshold: float | None = None
) -> NDArray[np.float32]:
    """`Matte.adjusted` where there is no picture."""
    blank = np.broadcast_to(np.uint8(0), (*mask.shape, 3))
    return Matte(mask, Picture(blank)).adjusted(offset=offset, blur=blur, threshold=threshold).alpha


class Foreground(Node):
    """The subject's own colours behind a mask, by blur fusion."""

    DESCRIPTION = "Take the old background's colour out of soft edges (Forte, ICIP 2021)."
    RETURN_TYPES = ("IMAGE",)
    RETURN_NAMES = ("foreground",)

    INPUT_TYPES = inputs(
        {
            "image": widgets.wired("IMAGE", "Pictures."),
            "mask": widgets.wired("MASK", "Their mattes."),
            "blur_size": widgets.whole(
                0, 0, 1024, "Side of the wide window in pixels; 0 follows the picture's size."
            ),
            "blur_size_two": widgets.whole(
                0, 0, 255, "Side of the narrow window in pixels; 0 follows the picture's size."
            ),
        }
    )

    def run(self, image: Tensor, mask: Tensor, blur_size: int, blur_size_two: int) -> tuple[Tensor]:
        return (foregrounds(image, mask, blur_size or None, blur_size_two or None),)


class Composite(Node):
    """A picture's subject before something else."""

    DESCRIPTION = "Put the subject of a picture, as its mask says, before another background."
    RETURN_TYPES = ("IMAGE",)
    RETURN_NAMES = ("image",)

    INPUT_TYPES = inputs(
        {
            "image": widgets.wired("IMAGE", "Pictures."),
            "mask": widgets.wired("MASK", "Their mattes."),
            "background": widgets.choice(
                ["colour", "picture", "blur", "transparent"], "What comes behind the subject."
            ),
            "refine_foreground": settings.widget("refine"),
            "colour": widgets.COLOUR,
            "blur_radius": widgets.number(
                0, 0, 512, 0.5, "Of the background out of focus, in pixels; 0 suits the size."
            ),
            "fit": widgets.choice(
                ["fill", "fit"], "A background picture covers everything, or is shown whole."
            ),
        },
        {"picture": widgets.wired("IMAGE", "One, or one for each picture.")},
    )

    def run(
        self,
        image: Tensor,
        mask: Tensor,
        background: str,
        refine_foreground: bool,
        colour: str,
        blur_radius: float,
        fit: Any,
        picture: Tensor | None = None,
    ) -> tuple[Tensor]:
        count = len(image)
        if background == "picture" and picture is None:
            raise BiRefNetError("the background picture is missing: connect one to the node")
        behind = None if picture is None else backgrounds_of(picture, count)

        def rendered() -> Iterator[Pixels]:
            for index, matte in enumerate(mattes_of(image, mask)):
                if background == "transparent":
                    yield matte.cutout(refine=refine_foreground)
                elif background == "blur":
                    yield matte.blurred(blur_radius or None, refine=refine_foreground)
                elif background == "colour":
                    yield matte.on(parse_colour(colour), refine=refine_foreground)
                else:
                    assert behind is not None
                    yield matte.on(behind[index], mode=fit, refine=refine_foreground)

        return (batch(rendered(), count),)


class AdjustMask(Node):
    """Corrections of mattes: the edge moved, softened, made hard."""

    DESCRIPTION = "Move a mask's edge, then soften it, then make it hard."
    RETURN_TYPES = ("MASK",)
    RETURN_NAMES = ("mask",)

    INPUT_TYPES = inputs(
        {
            "mask": widgets.wired("MASK", "Mattes."),
            "offset": settings.widget("mask_offset"),
            "blur": settings.widget("mask_blur"),
            "threshold": settings.widget("threshold"),
            "invert": widgets.switch(False, "Swap subject and background, in the end."),
        }
    )

    def run(
        self, mask: Tensor, offset: float, blur: float, threshold: float, invert: bool
    ) -> tuple[Tensor]:
        masks = masks_of(mask, len(mask))
        moved = (adjusted(m, offset=offset, blur=blur, threshold=threshold or None) for m in masks)
        out = batch(moved, len(masks))
        return (1 - out if invert else out,)


class Objects(Node):
    """Each connected object of a matte by itself, as lists, for they may differ in size."""

    DESCRIPTION = "Split pictures into their objects, the largest first; one list for the batch."
    RETURN_TYPES = ("IMAGE", "MASK", "INT")
    RETURN_NAMES = ("cutouts", "masks", "count")
    OUTPUT_IS_LIST = (True, True, False)

    INPUT_TYPES = inputs(
        {
            "image": widgets.wired("IMAGE", "Pictures."),
            "mask": widgets.wired("MASK", "Their mattes."),
            "min_object": settings.widget("min_object"),
            "crop": widgets.switch(True, "Trim each to its object."),
            "crop_margin": settings.widget("crop_margin"),
            "aspect": settings.widget("aspect"),
            "refine_foreground": settings.widget("refine"),
        }
    )

    def run(
        self,
        image: Tensor,
        mask: Tensor,
        min_object: str,
        crop: bool,
        crop_margin: str,
        aspect: str,
        refine_foreground: bool,
    ) -> tuple[list[Tensor], list[Tensor], int]:
        options = Options.of_form(
            {
                "objects": True,
                "min_object": min_object,
                "crop": crop,
                "crop_margin": crop_margin,
                "aspect": aspect or None,
                "refine": refine_foreground,
            }
        ).prepared()
        cutouts, alphas = [], []
        for whole in mattes_of(image, mask):
            for part in options.parts(options.finish(whole)):
                matte = options.framed(part.matte)
                cutouts.append(batch([options.render(matte)], 1))
                alphas.append(batch([matte.alpha], 1))
        return cutouts, alphas, len(cutouts)
