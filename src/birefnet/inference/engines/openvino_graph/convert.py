"""The whole network as one graph."""

from __future__ import annotations

import openvino.opset15 as ops
from openvino import Model, PartialShape, Type

from birefnet.inference.engines.openvino_graph import (
    convolutional,
    decoder,
    deformable,
    layers,
    transformers,
)
from birefnet.inference.engines.openvino_graph.emitter import Emitter
from birefnet.network.birefnet import BiRefNet
from birefnet.network.guidance import PICTURE_CHANNELS

# Importing these registers what they emit.
PARTS = (layers, convolutional, transformers, deformable, decoder)


def convert(network: BiRefNet) -> Model:
    """The graph of a network: `image` float32 [B, 3, H, W] in, `logits` [B, 1, H, W] out.

    With a guidance channel, `image` is [B, 4, H, W].

    Args:
        network: simplified (`birefnet.network.simplify`), on the CPU, in fp32. The graph shares
            its memory: keep it until the graph is compiled or saved.

    Raises:
        UnknownModuleError: the network has a module that is not known here (a timm backbone).
    """
    channels = PICTURE_CHANNELS + network.config.guidance_channel
    image = ops.parameter(PartialShape([-1, channels, -1, -1]), Type.f32, name="image")
    logits = Emitter(network)(network, image)
    result = ops.result(logits)
    image.output(0).set_names({"image"})
    result.output(0).set_names({"logits"})
    return Model([result], [image], "birefnet")
