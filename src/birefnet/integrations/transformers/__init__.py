"""BiRefNet in Hugging Face's `transformers`, without remote code.

    import birefnet.integrations.transformers  # registers the classes below
    from transformers import AutoModelForImageSegmentation, pipeline

    remove = pipeline("background-removal", model="DIR")
    model = AutoModelForImageSegmentation.from_pretrained("DIR")

or, for the official ids, whose configuration asks for remote code before any class is chosen:

    from birefnet.integrations.transformers import BiRefNetForImageSegmentation, background_removal

    model = BiRefNetForImageSegmentation.from_pretrained("ZhengPeng7/BiRefNet")
    remove = background_removal("ZhengPeng7/BiRefNet")

Works with transformers 4.50 and later, and 5.
"""

from __future__ import annotations

from birefnet.errors import needs_extra

with needs_extra("transformers", "birefnet.integrations.transformers"):
    import transformers as _transformers

from transformers.pipelines import PIPELINE_REGISTRY

from birefnet.integrations.transformers.configuration import BiRefNetConfig
from birefnet.integrations.transformers.image_processing import BiRefNetImageProcessor
from birefnet.integrations.transformers.model_card import model_card
from birefnet.integrations.transformers.modeling import (
    BiRefNetForImageSegmentation,
    BiRefNetOutput,
)
from birefnet.integrations.transformers.pipeline import (
    TASK,
    BackgroundRemovalPipeline,
    background_removal,
)

__all__ = [
    "BackgroundRemovalPipeline",
    "BiRefNetConfig",
    "BiRefNetForImageSegmentation",
    "BiRefNetImageProcessor",
    "BiRefNetOutput",
    "background_removal",
    "model_card",
]


def _register() -> None:
    from transformers.models.auto import modeling_auto

    _transformers.AutoConfig.register(BiRefNetConfig.model_type, BiRefNetConfig, exist_ok=True)
    for auto in (_transformers.AutoModel, _transformers.AutoModelForImageSegmentation):
        auto.register(BiRefNetConfig, BiRefNetForImageSegmentation, exist_ok=True)
    _transformers.AutoImageProcessor.register(
        BiRefNetConfig, slow_image_processor_class=BiRefNetImageProcessor, exist_ok=True
    )
    # The pipeline "image-segmentation" asks this table of names whether it knows a model.
    modeling_auto.MODEL_FOR_IMAGE_SEGMENTATION_MAPPING_NAMES.setdefault(
        BiRefNetConfig.model_type, BiRefNetForImageSegmentation.__name__
    )
    if TASK not in PIPELINE_REGISTRY.get_supported_tasks():
        PIPELINE_REGISTRY.register_pipeline(
            TASK,
            pipeline_class=BackgroundRemovalPipeline,
            pt_model=_transformers.AutoModelForImageSegmentation,
            type="image",
        )


_register()
