"""This package's own nodes that run a network."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Any

from numpy.typing import NDArray
from torch import Tensor

from birefnet.errors import BiRefNetError
from birefnet.imaging.compose import parse_colour
from birefnet.integrations.comfyui import models, widgets
from birefnet.integrations.comfyui.running import Guides, mattes
from birefnet.integrations.comfyui.tensors import backgrounds_of, batch, masks_of
from birefnet.integrations.comfyui.widgets import CATEGORY, MODEL, Inputs
from birefnet.matte import Matte
from birefnet.options import Options
from birefnet.video.frames import Frame
from birefnet.video.stabilise import stabilise

KINDS = ["cutout", "colour", "picture", "blur", "foreground", "overlay"]


class LoadModel:
    """A network by name; also as a model of ComfyUI's own background removal nodes."""

    CATEGORY = CATEGORY
    DESCRIPTION = "Load a BiRefNet network: the bundled one, a file of models/, or a released one."
    RETURN_TYPES = (MODEL, "BACKGROUND_REMOVAL")
    RETURN_NAMES = ("model", "bg_model")
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {
            "required": {
                "model": widgets.choice(
                    models.names(), "Released networks are downloaded once, when first used."
                ),
                "device": widgets.choice(widgets.devices(), "auto is ComfyUI's own."),
                "precision": widgets.choice(
                    widgets.PRECISIONS, "auto is fp16 on CUDA and fp32 elsewhere."
                ),
                "engine": widgets.choice(
                    widgets.ENGINES, "auto is the quickest that is installed for the device."
                ),
            }
        }

    def run(self, model: str, device: str, precision: str, engine: str) -> tuple[Any, Any]:
        source = models.find(model)
        found = models.loaded(source, device=device, dtype=precision, engine=engine)
        return found, found


class RemoveBackground:
    """A batch through a network, with every option of the command `birefnet remove`."""

    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Cut the subject out of a batch of pictures. image is as `output` says, mask the matte, "
        "report a JSON list with coverage and confidence of each picture, found whether any "
        "picture holds a subject."
    )
    RETURN_TYPES = ("IMAGE", "MASK", "STRING", "BOOLEAN")
    RETURN_NAMES = ("image", "mask", "report", "found")
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {
            "required": {
                "image": widgets.wired("IMAGE", "One picture or a batch."),
                "output": widgets.choice(
                    KINDS, "What becomes of the picture; colour, picture and blur are backgrounds."
                ),
            },
            "optional": {
                "model": widgets.wired(MODEL, "Without it the bundled network runs."),
                "guide": widgets.wired("MASK", "Where the meant object is, roughly."),
                "background": widgets.wired("IMAGE", "For the output picture."),
                "colour": widgets.COLOUR,
                "width": widgets.WIDTH,
                "height": widgets.HEIGHT,
                "native_size": widgets.switch(False, "The network sees each picture's own size."),
                "batch_size": widgets.BATCH,
                "boxes": widgets.text(
                    "",
                    "Around the object: x0,y0,x1,y1 in pixels or shares; several: ; between.",
                ),
                "points": widgets.text("", "On the object: x,y; several with ; between."),
                "other_points": widgets.text("", "On what is not meant: x,y; several with ;."),
                "passes": widgets.whole(1, 1, 2, "2 redoes edges at the picture's own resolution."),
                "refine_foreground": widgets.switch(
                    True, "Take the old background's colour out of the edges."
                ),
                "mask_offset": widgets.number(
                    0, -64, 64, 0.5, "Move the edge outwards (> 0) or inwards, in pixels."
                ),
                "mask_blur": widgets.number(0, 0, 64, 0.5, "Soften the edge, in pixels."),
                "threshold": widgets.number(
                    0, 0, 1, 0.01, "Make each pixel all or nothing at this alpha; 0 leaves it soft."
                ),
            },
        }

    def run(
        self,
        image: Tensor,
        output: str,
        model: models.Model | None = None,
        guide: Tensor | None = None,
        background: Tensor | None = None,
        **settings: Any,
    ) -> tuple[Tensor, Tensor, str, bool]:
        network = model or models.loaded(models.default())
        options = options_of(output, settings, has_background=background is not None)
        guides: Guides | None = None if guide is None else masks_of(guide, len(image))
        found = mattes(network, image, options, guides)
        return assemble(found, options, len(image), background)


def options_of(output: str, settings: dict[str, Any], *, has_background: bool) -> Options:
    """What the widgets of `RemoveBackground` say, checked.

    Raises:
        BiRefNetError: one sentence on what makes no sense.
    """
    if has_background != (output == "picture"):
        raise BiRefNetError(
            "the output picture needs a background: connect one to the node"
            if output == "picture"
            else f"a background is connected and the output is {output}; choose picture"
        )
    kind = "colour" if output == "picture" else output
    colour = parse_colour(settings.get("colour", "#ffffff")) if kind == "colour" else None
    return Options(
        kind=kind,
        background=colour,
        resolution=widgets.resolution_of(
            settings.get("width", 0), settings.get("height", 0), settings.get("native_size", False)
        ),
        batch_size=settings.get("batch_size") or None,
        threshold=settings.get("threshold") or None,
        mask_blur=settings.get("mask_blur", 0),
        mask_offset=settings.get("mask_offset", 0),
        refine=settings.get("refine_foreground", True),
        boxes=_several(settings.get("boxes", "")),
        points=_several(settings.get("points", "")),
        other_points=_several(settings.get("other_points", "")),
        passes=settings.get("passes", 1),
    ).prepared()


def _several(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(";") if part.strip())


def assemble(
    found: Iterable[Matte], options: Options, count: int, background: Tensor | None = None
) -> tuple[Tensor, Tensor, str, bool]:
    """Mattes → IMAGE, MASK, the report, and whether any holds a subject."""
    behind = None if background is None else backgrounds_of(background, count)
    alphas: list[Any] = []
    report: list[dict[str, Any]] = []

    def rendered() -> Iterator[NDArray[Any]]:
        for index, matte in enumerate(found):
            alphas.append(matte.alpha)
            report.append(
                {
                    "coverage": round(matte.coverage, 4),
                    "confidence": round(matte.confidence, 4),
                    "empty": matte.is_empty,
                }
            )
            own = options if behind is None else replace(options, background=behind[index])
            yield own.render(matte)

    image = batch(rendered(), count)
    mask = batch(alphas, count)
    return image, mask, json.dumps(report), not all(entry["empty"] for entry in report)


class VideoFrames:
    """Frames of a film: batches through the network, mattes steadied between neighbours."""

    CATEGORY = CATEGORY
    DESCRIPTION = "Cut the subject out of the frames of a video; steady mattes do not flicker."
    RETURN_TYPES = ("IMAGE", "MASK")
    RETURN_NAMES = ("images", "masks")
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {
            "required": {
                "images": widgets.wired("IMAGE", "Frames in their order."),
                "output": widgets.choice(
                    KINDS, "What becomes of a frame; colour, picture and blur are backgrounds."
                ),
                "steady": widgets.switch(True, "Weigh each matte with those of the frames around."),
            },
            "optional": {
                "model": widgets.wired(MODEL, "Without it the bundled network runs."),
                "background": widgets.wired("IMAGE", "One picture, or one for each frame."),
                "colour": widgets.COLOUR,
                "width": widgets.WIDTH,
                "height": widgets.HEIGHT,
                "batch_size": widgets.BATCH,
                "refine_foreground": widgets.switch(
                    True, "Take the old background's colour out of the edges."
                ),
                "mask_offset": widgets.number(
                    0, -64, 64, 0.5, "Move the edge outwards (> 0) or inwards, in pixels."
                ),
                "mask_blur": widgets.number(0, 0, 64, 0.5, "Soften the edge, in pixels."),
            },
        }

    def run(
        self,
        images: Tensor,
        output: str,
        steady: bool,
        model: models.Model | None = None,
        background: Tensor | None = None,
        **settings: Any,
    ) -> tuple[Tensor, Tensor]:
        network = model or models.loaded(models.default())
        options = options_of(output, settings, has_background=background is not None)
        # Corrections of the edge come after steadying, which compares what the network said.
        plain = Options(
            kind="mask", resolution=options.resolution, batch_size=options.batch_size
        ).prepared()
        found = mattes(network, images, plain)
        if steady:
            pairs = (
                (Frame(index, 1, Fraction(index), matte.picture), matte)
                for index, matte in enumerate(found)
            )
            found = (matte for _, matte in stabilise(pairs))
        finished = map(options.finish, found)
        image, mask, _, _ = assemble(finished, options, len(images), background)
        return image, mask
