"""Pictures in and mattes out, as an image processor of `transformers`.

The numbers are those of `birefnet.Predictor`: the same decoding, resize and normalisation.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers.image_processing_utils import BaseImageProcessor, BatchFeature
from transformers.utils import logging

from birefnet.errors import ImageError, counted
from birefnet.imaging.geometry import Preprocess, resize_map
from birefnet.imaging.io import decode
from birefnet.imaging.masks import alpha_is_mask, grey_levels
from birefnet.imaging.picture import Picture, to_float
from birefnet.imaging.values import Resolution
from birefnet.inference.predictor import Input, is_single
from birefnet.integrations.transformers.configuration import BiRefNetConfig
from birefnet.integrations.transformers.loading import HubOptions, find_location, has_file

logger = logging.get_logger(__name__)


class BiRefNetImageProcessor(BaseImageProcessor):
    """Resize and normalise pictures, and bring the logits back to their size.

    Args:
        size: `height` and `width` of the network's input [px].
        image_mean, image_std: of RGB in [0, 1].
        fit, interpolation, multiple, minimum, maximum, looks: see
            `birefnet.imaging.geometry.Preprocess`. Several views (`looks`) are for the pipeline
            `background-removal` and for `birefnet.Predictor`; this class makes one, of `size`.
        **kwargs: kept as attributes, as in every image processor.
    """

    model_input_names = ("pixel_values",)

    def __init__(
        self,
        size: Mapping[str, int] | None = None,
        image_mean: Sequence[float] | None = None,
        image_std: Sequence[float] | None = None,
        fit: str = "stretch",
        interpolation: str = "bilinear",
        multiple: int = 32,
        minimum: int = 256,
        maximum: int = 2304,
        looks: Sequence[Sequence[Any]] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        plain = Preprocess()
        self.size = dict(size or {"height": plain.height, "width": plain.width})
        self.image_mean = list(image_mean or plain.mean)
        self.image_std = list(image_std or plain.std)
        self.fit = fit
        self.interpolation = interpolation
        self.multiple = multiple
        self.minimum = minimum
        self.maximum = maximum
        self.looks = [list(view) for view in looks]
        _ = self.preprocess_config  # refuses what makes no sense

    @property
    def preprocess_config(self) -> Preprocess:
        """The same as this package's other parts take it."""
        return Preprocess.from_dict(
            {
                "width": self.size["width"],
                "height": self.size["height"],
                "mean": self.image_mean,
                "std": self.image_std,
                "looks": self.looks,
                **{name: getattr(self, name) for name in _SAME},
            }
        )

    @classmethod
    def from_preprocess(cls, preprocess: Preprocess) -> BiRefNetImageProcessor:
        """From what belongs to the weights."""
        return cls(
            size={"height": preprocess.height, "width": preprocess.width},
            image_mean=preprocess.mean,
            image_std=preprocess.std,
            looks=preprocess.views,
            **{name: getattr(preprocess, name) for name in _SAME},
        )

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | os.PathLike[str], **kwargs: object
    ) -> Any:
        """From preprocessor_config.json, or from what is known of the model where it has none.

        Takes the names and arguments of `BiRefNetForImageSegmentation.from_pretrained`.
        """
        options = HubOptions.taken_from(dict(kwargs))
        location = find_location(pretrained_model_name_or_path)
        if has_file(location, "preprocessor_config.json", options):
            where = location.repo or location.folder
            return super().from_pretrained(where, **kwargs)
        HubOptions.taken_from(kwargs)
        config = BiRefNetConfig.from_pretrained(location.name, **vars(options))
        processor = cls.from_preprocess(config.preprocess_config)
        for name, value in kwargs.items():
            if hasattr(processor, name):
                setattr(processor, name, value)
        return processor

    def __call__(self, images: object, *args: Any, **kwargs: Any) -> BatchFeature:
        """As `preprocess`."""
        return self.preprocess(images, *args, **kwargs)

    def preprocess(
        self,
        images: object,
        segmentation_maps: Any = None,
        *,
        resolution: Resolution | None = None,
        return_tensors: str | None = "pt",
        **kwargs: Any,
    ) -> BatchFeature:
        """Pictures → `pixel_values` (B,3,h,w), float32; mattes → `labels` (B,h,w) in [0, 1].

        Args:
            images: one picture or several: paths, bytes, Pillow images, arrays H x W x 3 (or
                3 x H x W, for tensors) of uint8 or of floats in [0, 1], `Picture`s.
            segmentation_maps: mattes of these pictures, likewise; grey, or the alpha they carry.
            resolution: instead of `size`, see `birefnet.Predictor.predict`.
            return_tensors: `pt` or `np`.

        Raises:
            ValueError: a picture that cannot be read, or pictures that do not make one batch.
        """
        config = self.preprocess_config
        if config.views and resolution is None:
            logger.warning_once(
                f"these weights average views of {' and '.join(map(str, config.views))}, and an "
                f"image processor makes one, of {config.width}x{config.height}: mattes differ. "
                "background_removal(...) and model.predictor() use all views"
            )
        plan = config.plan
        pictures = [as_picture(image) for image in _flat(images)]
        plans = [plan(p.height, p.width, resolution) for p in pictures]
        sizes = {p.input for p in plans}
        if len(sizes) > 1:
            raise ImageError(
                f"the pictures become inputs of {counted(len(sizes), 'size')}, which are no "
                "batch; give them "
                "one by one, or give a resolution"
            )
        pairs = list(zip(plans, pictures, strict=True))
        data = {"pixel_values": np.stack([p.apply(picture.pixels) for p, picture in pairs])}
        if segmentation_maps is not None:
            mattes = [_matte(mask) for mask in _flat(segmentation_maps)]
            if len(mattes) != len(pictures):
                raise ImageError(
                    f"got {counted(len(mattes), 'matte')} for {counted(len(pictures), 'picture')}"
                )
            data["labels"] = np.stack(
                [_placed(m, p.box, p.input) for m, p in zip(mattes, plans, strict=True)]
            )
        return BatchFeature(data=data, tensor_type=return_tensors)

    def post_process_mattes(
        self, outputs: Any, target_sizes: Iterable[tuple[int, int]] | None = None
    ) -> list[Tensor]:
        """Mattes, float32 in [0, 1], H x W each.

        Args:
            outputs: of the model, or its logits (B,1,h,w).
            target_sizes: height and width of each picture; `None` leaves the size of the input.
        """
        logits = outputs if isinstance(outputs, Tensor) else outputs["logits"]
        maps = torch.sigmoid(logits.detach().float()).cpu().numpy()[:, 0]
        if target_sizes is None:
            return [torch.from_numpy(map) for map in maps]
        wide = (maps.shape[2], maps.shape[1])
        plans = [self.preprocess_config.plan(int(h), int(w), wide) for h, w in target_sizes]
        return [
            torch.from_numpy(np.clip(plan.restore(map), 0, 1))
            for plan, map in zip(plans, maps, strict=True)
        ]

    def post_process_semantic_segmentation(
        self,
        outputs: object,
        target_sizes: Iterable[tuple[int, int]] | None = None,
        threshold: float = 0.5,
    ) -> list[Tensor]:
        """0 for background and 1 for foreground, int64 H x W each; see `post_process_mattes`."""
        mattes = self.post_process_mattes(outputs, target_sizes)
        return [(matte >= threshold).long() for matte in mattes]


_SAME = ("fit", "interpolation", "multiple", "minimum", "maximum")


def as_picture(image: Input | Tensor) -> Picture:
    """Whatever a picture may be given as; tensors are 3 x H x W.

    Raises:
        ImageError: it cannot be read.
    """
    if isinstance(image, Picture):
        return image
    if isinstance(image, Tensor):
        image = image.detach().cpu().permute(1, 2, 0).numpy()
    if isinstance(image, np.ndarray) and image.dtype.kind == "f":
        image = image.astype(np.float32)
    return decode(image)


def _flat(images: Any) -> list[Any]:
    """One picture or a batch of them → a list."""
    if isinstance(images, (Tensor, np.ndarray)) and images.ndim == 4:
        return list(images)
    if is_single(images) or isinstance(images, Tensor):
        return [images]
    return list(images)


def _matte(mask: Any) -> NDArray[np.float32]:
    if isinstance(mask, Tensor):
        mask = mask.detach().cpu().squeeze().numpy()
    picture = as_picture(mask)
    if alpha_is_mask(picture):
        assert picture.alpha is not None
        return picture.alpha
    return to_float(grey_levels(picture.rgb8()))


def _placed(matte: NDArray[np.float32], box: Any, size: tuple[int, int]) -> NDArray[np.float32]:
    """A matte where its picture lies in the network's input."""
    out = np.zeros(size, np.float32)
    box.cut(out)[:] = resize_map(matte, box.height, box.width)
    return out
