"""Background removal as a pipeline of `transformers`: pictures in, cut-outs out."""

from __future__ import annotations

import os
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from transformers import Pipeline
from transformers.image_utils import load_image

from birefnet.errors import BiRefNetError
from birefnet.imaging.picture import to_uint8
from birefnet.imaging.views import apply_view, merge_views
from birefnet.inference.engines.devices import resolve_device
from birefnet.inference.engines.devices import resolve_dtype as dtype_for
from birefnet.inference.stream import Prepared
from birefnet.integrations.transformers.image_processing import BiRefNetImageProcessor, as_picture
from birefnet.integrations.transformers.modeling import BiRefNetForImageSegmentation
from birefnet.options import Options

TASK = "background-removal"
# Options that change how the network is asked; `Predictor` does that, a pipeline runs it once.
_GUIDANCE = ("boxes", "points", "other_points", "guide", "passes")
# Of files, or with several results of a picture.
_ELSEWHERE = (
    *("batch_size", "format", "quality", "keep_profile", "metadata", "objects", "min_object"),
)
_OPTIONS = {field.name for field in fields(Options)} - {*_GUIDANCE, *_ELSEWHERE}


class BackgroundRemovalPipeline(Pipeline):
    """Cuts subjects out; options as in `birefnet remove`, see `birefnet.options.Options`.

    Args:
        model: a `BiRefNetForImageSegmentation`.
        image_processor: default: as the model's configuration says.
        **kwargs: of every pipeline (`device`, `batch_size`, `num_workers` …), and options that hold
            where a call gives none.

    Example:
        >>> from birefnet.integrations.transformers import background_removal
        >>> remove = background_removal("nano")
        >>> remove("photo.jpg").save("photo.png")  # doctest: +SKIP
        >>> remove(["a.jpg", "b.jpg"], kind="mask", batch_size=2)  # doctest: +SKIP
    """

    _load_processor = False
    _load_image_processor = False  # the model knows
    _load_feature_extractor = False
    _load_tokenizer = False

    def __init__(
        self,
        model: BiRefNetForImageSegmentation,
        image_processor: BiRefNetImageProcessor | None = None,
        **kwargs: Any,
    ) -> None:
        if not isinstance(model, BiRefNetForImageSegmentation):
            raise BiRefNetError(
                f"got a {type(model).__name__}; {TASK} runs a BiRefNetForImageSegmentation"
            )
        processor = image_processor or BiRefNetImageProcessor.from_preprocess(
            model.config.preprocess_config
        )
        self._views = processor.preprocess_config.views
        super().__init__(model=model, image_processor=processor, **kwargs)

    def _sanitize_parameters(
        self, return_matte: bool | None = None, timeout: float | None = None, **options: Any
    ) -> tuple[dict[str, object], dict[str, Any], dict[str, object]]:
        guided = [name for name in _GUIDANCE if name in options]
        if guided:
            raise BiRefNetError(
                f"{guided[0]} is not for a pipeline; use model.predictor().predict_guided"
            )
        unknown = [name for name in options if name not in _OPTIONS]
        if unknown:
            raise BiRefNetError(
                f"there is no option {unknown[0]!r}; there are {', '.join(sorted(_OPTIONS))}"
            )
        preprocess: dict[str, object] = {"timeout": timeout} if timeout is not None else {}
        forward = {}
        if "resolution" in options:
            preprocess["resolution"] = options.pop("resolution")
            forward["once"] = preprocess["resolution"] is not None
        if options.get("background") is not None:
            options["background"] = Options(background=options["background"]).prepared().background
        if return_matte is not None:
            options["return_matte"] = return_matte
        return preprocess, forward, options

    def preprocess(
        self, image: Any, resolution: object = None, timeout: float | None = None
    ) -> dict[str, Any]:
        if isinstance(image, str) and image.startswith(("http://", "https://")):
            image = load_image(image, timeout=timeout)
        picture = as_picture(image)
        config = self.image_processor.preprocess_config
        if resolution is None and self._views:
            resolution = self._views[0][:2]
        geometry = config.plan(picture.height, picture.width, resolution)
        prepared = Prepared(picture, geometry, geometry.apply(picture.pixels))
        return {"pixel_values": torch.from_numpy(prepared.input)[None], "prepared": [prepared]}

    def _forward(self, inputs: dict[str, Any], once: bool = False) -> dict[str, object]:
        views = () if once else self._views
        if views:
            shown = inputs["pixel_values"].float().cpu().numpy()
            shrunk = (torch.from_numpy(apply_view(shown, view)) for view in views)
            planes = [self._logits(one).float().cpu().numpy() for one in shrunk]
            logits = torch.from_numpy(merge_views(planes, views))
        else:
            logits = self._logits(inputs["pixel_values"])
        return {"logits": logits, "prepared": inputs["prepared"]}

    def _logits(self, pixel_values: torch.Tensor) -> torch.Tensor:
        parameter = next(self.model.parameters())
        output = self.model(pixel_values.to(parameter.device, parameter.dtype))
        logits: torch.Tensor = output.logits
        return logits

    def postprocess(self, outputs: dict[str, Any], return_matte: bool = False, **given: Any) -> Any:
        logits = outputs["logits"].float().cpu().numpy()
        options = Options(**given).prepared()
        matte = options.finish(outputs["prepared"][0].restore(np.ascontiguousarray(logits[0, 0])))
        if return_matte:
            return matte
        from PIL import Image

        return Image.fromarray(to_uint8(options.render(matte)))


def background_removal(
    model: str | os.PathLike[str] | BiRefNetForImageSegmentation = "nano",
    *,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    batch_size: int = 1,
    **kwargs: Any,
) -> BackgroundRemovalPipeline:
    """A pipeline in one call, for official ids too: no remote code, no image processor to find.

    Args:
        model: a model, or what `BiRefNetForImageSegmentation.from_pretrained` takes.
        device: auto (CUDA, MPS, CPU, in that order), cpu, cuda, cuda:1, mps.
        dtype: auto (fp16 on CUDA, fp32 elsewhere), fp32, fp16, bf16.
        batch_size: pictures that run together.
        **kwargs: options, see `BackgroundRemovalPipeline`.

    Raises:
        ValueError: no such model, device or option.
        OSError: the Hub cannot be reached or shows no such repository.
    """
    torch_device = resolve_device(device)
    precision = dtype_for(dtype, torch_device)
    loaded = (
        model.to(precision)
        if isinstance(model, BiRefNetForImageSegmentation)
        else BiRefNetForImageSegmentation.from_pretrained(model, dtype=precision)
    )
    return BackgroundRemovalPipeline(
        model=loaded, device=torch_device, batch_size=batch_size, task=TASK, **kwargs
    )
