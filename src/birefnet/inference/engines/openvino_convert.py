"""A network as an OpenVINO graph, through OpenVINO's reader of PyTorch modules.

The graph serves every batch and size: it is traced in the form that counts sizes inside the graph
(`birefnet.network.exportable`), and shares the memory of the weights.
"""

from __future__ import annotations

import warnings

from birefnet.errors import needs_extra

with needs_extra("torch", __name__):
    import torch
    from torch import nn

with needs_extra("openvino", __name__):
    from openvino import Model, Output, PartialShape, Type
    from openvino.frontend import FrontEndManager, NodeContext
    from openvino.frontend.pytorch import ConversionExtension
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

from birefnet.inference.engines.openvino_engine import (
    UnknownModuleError,
    deformable_convolution,
    shared_core,
)
from birefnet.inference.engines.openvino_sampling import deformable_nodes
from birefnet.network.backbones import BACKBONES
from birefnet.network.birefnet import BiRefNet
from birefnet.network.exportable import exportable
from birefnet.network.guidance import PICTURE_CHANNELS

# Any size will do; one that differs in all sides cannot be mistaken for a constant.
_EXAMPLE = (96, 160)


def convert(network: BiRefNet) -> Model:
    """The graph of a network: `image` float32 [B, 3, H, W] in, `logits` [B, 1, H, W] out.

    With a guidance channel, `image` is [B, 4, H, W]. Nodes are named by the paths of their modules.

    Args:
        network: simplified (`birefnet.network.simplify`), on the CPU, in fp32. The graph shares
            its memory: keep it until the graph is compiled or saved.

    Raises:
        UnknownModuleError: the network has a backbone that may compute with sizes of its own
            (timm), or a module that OpenVINO cannot read.
    """
    if network.config.backbone not in BACKBONES:
        raise UnknownModuleError(
            f"a graph of the backbone {network.config.backbone} may be right for one size only; "
            "run this network with engine torch"
        )
    shared_core()  # before any other core, see there
    channels = PICTURE_CHANNELS + network.config.guidance_channel
    try:
        graph = _read(exportable(network).eval(), channels)
    except Exception as failure:
        reason = (str(failure).strip() or "no reason given").splitlines()[-1]
        raise UnknownModuleError(
            f"OpenVINO cannot read this network ({reason}); run it with engine torch"
        ) from failure
    graph.inputs[0].set_names({"image"})
    graph.outputs[0].set_names({"logits"})
    for node in deformable_nodes(graph):  # read by our own function, so that they have no name
        module, _, _ = node.input_value(1).get_node().get_friendly_name().rpartition("/aten::")
        node.set_friendly_name(f"{module}/{node.get_type_name()}")
    return graph


def _read(module: nn.Module, channels: int) -> Model:
    """The graph of `module`, traced on an example and read with free sizes.

    By OpenVINO's reader itself: `openvino.convert_model` traces twice and takes twice as long.
    """
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the network checks of shapes are constants
        example = torch.zeros(2, channels, *_EXAMPLE)
        traced = torch.jit.trace(module, example, check_trace=False)
        decoder = TorchScriptPythonDecoder(traced)
    reader = FrontEndManager().load_by_framework("pytorch")
    reader.add_extension(ConversionExtension("birefnet::deformable_conv2d", _deformable))
    model = reader.load(decoder)
    (image,) = model.get_inputs()
    model.set_partial_shape(image, PartialShape([-1, channels, -1, -1]))
    model.set_element_type(image, Type.f32)
    return reader.convert(model)


def _deformable(node: NodeContext) -> list[Output]:
    x, offset, mask, weight = (node.get_input(number) for number in range(4))
    padding = node.get_values_from_const_input(4)
    return deformable_convolution(x, offset, mask, weight, [padding, padding]).outputs()
