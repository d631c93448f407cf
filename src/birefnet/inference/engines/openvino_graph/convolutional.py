"""Backbones of convolutions: VGG, ResNet and EfficientNet-Lite."""

from __future__ import annotations

import openvino.opset15 as ops
from openvino import Node

from birefnet.inference.engines.openvino_graph.emitter import Emitter, emits
from birefnet.inference.engines.openvino_nodes import Value, integers, lengths
from birefnet.network.backbones.efficientnet_lite import (
    ConvNorm,
    EfficientNetLite,
    InvertedResidual,
)
from birefnet.network.backbones.resnet import Bottleneck, ResNet50
from birefnet.network.backbones.vgg import VGG16


@emits(VGG16)
def vgg(emit: Emitter, module: VGG16, x: Value) -> list[Value]:
    maps = []
    for stage in module.children():
        x = emit(stage, x)
        maps.append(x)
    return maps


@emits(Bottleneck)
def bottleneck(emit: Emitter, module: Bottleneck, x: Value) -> Node:
    y = ops.relu(emit(module.bn1, emit(module.conv1, x)))
    y = ops.relu(emit(module.bn2, emit(module.conv2, y)))
    y = emit(module.bn3, emit(module.conv3, y))
    return ops.relu(ops.add(y, emit(module.downsample, x)))


@emits(ResNet50)
def resnet(emit: Emitter, module: ResNet50, x: Value) -> list[Value]:
    *stem, first = module.conv1.children()
    for layer in stem:
        x = emit(layer, x)
    maps = []
    for stage in (first, module.conv2, module.conv3, module.conv4):
        x = emit(stage, x)
        maps.append(x)
    return maps


@emits(ConvNorm)
def conv_norm(emit: Emitter, module: ConvNorm, x: Value) -> Value:
    if module.conv.stride[0] == 2:
        kernel = module.conv.kernel_size[0]
        pads = [_same_padding(length, kernel) for length in lengths(x, 2, 3)]
        begin = ops.concat([integers(0, 0), *(before for before, _ in pads)], 0)
        end = ops.concat([integers(0, 0), *(after for _, after in pads)], 0)
        x = ops.pad(x, begin, end, "constant")
    return emit(module.activation, emit(module.norm, emit(module.conv, x)))


def _same_padding(length: Node, kernel: int) -> tuple[Node, Node]:
    """As `efficientnet_lite.same_padding`, of a length that the graph knows."""
    before = ops.add(ops.mod(length, integers(2)), integers(kernel // 2 - 1))
    return before, integers(kernel // 2)


@emits(InvertedResidual)
def inverted_residual(emit: Emitter, module: InvertedResidual, x: Value) -> Value:
    y = emit(module.project, emit(module.depthwise, emit(module.expand, x)))
    return ops.add(x, y) if module.shortcut else y


@emits(EfficientNetLite)
def efficientnet_lite(emit: Emitter, module: EfficientNetLite, x: Value) -> list[Value]:
    x = emit(module.stem, x)
    maps = []
    for i, block in enumerate(module.blocks):
        x = emit(block, x)
        if i in module._taps:
            maps.append(x)
    return maps
