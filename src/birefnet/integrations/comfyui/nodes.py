"""This package's own nodes that run a network."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from birefnet.errors import needs_extra

with needs_extra("torch", __name__):
    from torch import Tensor

from birefnet.imaging.framing import union
from birefnet.imaging.picture import Alpha, Pixels
from birefnet.inference.stabilise import stabilise
from birefnet.integrations.comfyui import models, settings, widgets
from birefnet.integrations.comfyui.running import Guides, mattes
from birefnet.integrations.comfyui.settings import options_of
from birefnet.integrations.comfyui.tensors import backgrounds_of, batch, masks_of
from birefnet.integrations.comfyui.widgets import MODEL, ChoosesDevice, Node, inputs
from birefnet.matte import Matte
from birefnet.options import Options

_OUTPUT = widgets.choice(
    settings.KINDS, "What becomes of a picture; colour, picture and blur are backgrounds."
)
_NETWORK = widgets.wired(MODEL, "Without it the default network runs, which is bundled.")
_OF_FRAMES = [
    "colour",
    "width",
    "height",
    "batch_size",
    "refine_foreground",
    "mask_offset",
    "mask_blur",
]
_BEHIND = widgets.wired("IMAGE", "For the output picture: one, or one for each.")


class LoadModel(ChoosesDevice):
    """A network by name; also as a model of ComfyUI's own background removal nodes."""

    DESCRIPTION = "Load a BiRefNet network: the bundled one, a file of models/, or a released one."
    RETURN_TYPES = (MODEL, "BACKGROUND_REMOVAL")
    RETURN_NAMES = ("model", "bg_model")

    INPUT_TYPES = inputs(
        {
            "model": lambda: widgets.choice(
                models.names(), "Released networks are downloaded once, when first used."
            ),
            "device": lambda: widgets.choice(widgets.devices(), "auto is ComfyUI's own."),
            "precision": widgets.choice(
                widgets.PRECISIONS, "auto is fp16 on CUDA and fp32 elsewhere."
            ),
            "engine": widgets.choice(
                widgets.ENGINES, "auto is the quickest that is installed for the device."
            ),
        }
    )

    def run(
        self, model: str, device: str, precision: str, engine: str
    ) -> tuple[models.Model, models.Model]:
        source = models.find(model)
        network = models.loaded(source, device=device, dtype=precision, engine=engine)
        return network, network


class RemoveBackground(Node):
    """A batch through a network, with every option of the command `birefnet remove`."""

    DESCRIPTION = (
        "Cut the subject out of a batch of pictures. image is as `output` says, mask the matte, "
        "report a JSON list with coverage and confidence of each picture, found whether any "
        "picture holds a subject."
    )
    RETURN_TYPES = ("IMAGE", "MASK", "STRING", "BOOLEAN")
    RETURN_NAMES = ("image", "mask", "report", "found")

    INPUT_TYPES = inputs(
        {
            "image": widgets.wired("IMAGE", "One picture or a batch."),
            "output": _OUTPUT,
        },
        {
            "model": _NETWORK,
            "guide": widgets.wired("MASK", "Where the meant object is, roughly."),
            "background": _BEHIND,
            **settings.WIDGETS,
        },
    )

    def run(
        self,
        image: Tensor,
        output: str,
        model: models.Model | None = None,
        guide: Tensor | None = None,
        background: Tensor | None = None,
        **values: Any,
    ) -> tuple[Tensor, Tensor, str, bool]:
        options = options_of(output, has_background=background is not None, **values)
        guides: Guides | None = None if guide is None else masks_of(guide, len(image))
        network = model or models.default()
        results = mattes(network.predictor, image, options, guides)
        return assemble(results, options, len(image), background)


class VideoFrames(Node):
    """Frames of a film: batches through the network, mattes steadied between neighbours."""

    DESCRIPTION = "Cut the subject out of the frames of a video; steady mattes do not flicker."
    RETURN_TYPES = ("IMAGE", "MASK")
    RETURN_NAMES = ("images", "masks")

    INPUT_TYPES = inputs(
        {
            "images": widgets.wired("IMAGE", "Frames in their order."),
            "output": _OUTPUT,
            "steady": widgets.switch(True, "Weigh each matte with those of the frames around."),
        },
        {
            "model": _NETWORK,
            "background": _BEHIND,
            **{name: settings.WIDGETS[name] for name in _OF_FRAMES},
        },
    )

    def run(
        self,
        images: Tensor,
        output: str,
        steady: bool,
        model: models.Model | None = None,
        background: Tensor | None = None,
        **values: Any,
    ) -> tuple[Tensor, Tensor]:
        options = options_of(output, has_background=background is not None, **values)
        # Corrections of the edge come after steadying, which compares what the network said.
        plain = Options(kind="mask", resolution=options.resolution, batch_size=options.batch_size)
        results = mattes((model or models.default()).predictor, images, plain)
        finished = map(options.finish, stabilise(results) if steady else results)
        image, mask, _, _ = assemble(finished, options, len(images), background)
        return image, mask


def assemble(
    results: Iterable[Matte], options: Options, count: int, background: Tensor | None = None
) -> tuple[Tensor, Tensor, str, bool]:
    """Finished mattes → IMAGE, MASK, the report, and whether any holds a subject."""
    behind = None if background is None else backgrounds_of(background, count)
    alphas: list[Alpha] = []
    report: list[dict[str, object]] = []
    box = None
    if options.crop:
        results = list(results)
        box = union(matte.visible_box for matte in results)

    def rendered() -> Iterator[Pixels]:
        for index, matte in enumerate(results):
            report.append(
                {
                    "coverage": round(matte.coverage, 4),
                    "confidence": round(matte.confidence, 4),
                    "empty": matte.is_empty,
                }
            )
            alphas.append(options.framed(matte, box).alpha)
            own = options if behind is None else replace(options, background=behind[index])
            yield own.render(matte, box)

    image = batch(rendered(), count)
    if image.ndim == 3:  # masks and trimaps, as grey pictures
        image = image[..., None].repeat(1, 1, 1, 3)
    mask = batch(alphas, count)
    return image, mask, json.dumps(report), not all(entry["empty"] for entry in report)
