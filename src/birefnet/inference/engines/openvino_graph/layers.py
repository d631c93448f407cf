"""Ordinary layers."""

from __future__ import annotations

import openvino.opset15 as ops
from openvino import Node
from torch import Tensor, nn

from birefnet.inference.engines.openvino_graph.emitter import Emitter, array, constant, emits
from birefnet.inference.engines.openvino_nodes import Value, integers, lengths
from birefnet.network.backbones.base import DropPath
from birefnet.network.guidance import GuidedConv2d


@emits(nn.Identity, nn.Dropout, DropPath)
def identity(emit: Emitter, module: nn.Module, x: Value) -> Value:
    return x


@emits(nn.Sequential)
def sequential(emit: Emitter, module: nn.Sequential, x: Value) -> Value:
    for layer in module:
        x = emit(layer, x)
    return x


@emits(nn.ReLU)
def relu(emit: Emitter, module: nn.ReLU, x: Value) -> Node:
    return ops.relu(x)


@emits(nn.ReLU6)
def relu6(emit: Emitter, module: nn.ReLU6, x: Value) -> Node:
    return ops.clamp(x, 0.0, 6.0)


@emits(nn.MaxPool2d)
def max_pool(emit: Emitter, module: nn.MaxPool2d, x: Value) -> Value:
    kernel, stride, padding = (
        _pair(v) for v in (module.kernel_size, module.stride, module.padding)
    )
    pooled = ops.max_pool(x, stride, [1, 1], padding, padding, kernel, "floor")
    return pooled.output(0)  # the other is the indices


@emits(nn.Conv2d, GuidedConv2d)
def convolution(emit: Emitter, module: nn.Conv2d, x: Value) -> Node:
    y = convolve(
        x,
        module.whole_weight if isinstance(module, GuidedConv2d) else module.weight,
        module.bias,
        stride=_pair(module.stride),
        padding=_pair(module.padding),
        dilation=_pair(module.dilation),
        groups=module.groups,
    )
    emit.label(y, module)
    return y


def convolve(
    x: Value,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: list[int] | None = None,
    padding: list[int] | None = None,
    dilation: list[int] | None = None,
    groups: int = 1,
) -> Node:
    """Convolution of `x` (B, C, H, W) by `weight` (O, C / groups, k, k)."""
    stride, padding, dilation = stride or [1, 1], padding or [0, 0], dilation or [1, 1]
    if groups == 1:
        y = ops.convolution(x, constant(weight), stride, padding, padding, dilation)
    else:
        kernel = array(weight).reshape(groups, -1, *weight.shape[1:])
        y = ops.group_convolution(x, constant(kernel), stride, padding, padding, dilation)
    return y if bias is None else ops.add(y, constant(array(bias).reshape(1, -1, 1, 1)))


@emits(nn.Linear)
def linear(emit: Emitter, module: nn.Linear, x: Value) -> Node:
    y = product(x, module.weight, module.bias)
    emit.label(y, module)
    return y


def product(x: Value, weight: Tensor, bias: Tensor | None = None) -> Node:
    """`x` (..., I) times the transpose of `weight` (O, I), plus `bias` (O)."""
    y = ops.matmul(x, constant(weight), False, True)
    return y if bias is None else ops.add(y, constant(bias))


@emits(nn.LayerNorm)
def layer_norm(emit: Emitter, module: nn.LayerNorm, x: Value) -> Node:
    """Over the last axis."""
    y = ops.mvn(x, integers(-1), True, module.eps, "inside_sqrt")
    return ops.add(ops.multiply(y, constant(module.weight)), constant(module.bias))


def gelu(x: Value) -> Node:
    return ops.gelu(x, "erf")


def resize(x: Value, height: Node, width: Node) -> Node:
    """`x` (B, C, h, w) at another size: bilinear, corners aligned."""
    return ops.interpolate(
        x,
        ops.concat([height, width], 0),
        "linear_onnx",
        "sizes",
        coordinate_transformation_mode="align_corners",
        axes=integers(2, 3),
    )


def resize_like(x: Value, reference: Value) -> Node:
    """`x` at the size of `reference`."""
    return resize(x, *lengths(reference, 2, 3))


def _pair(value: int | tuple[int, ...] | str | None) -> list[int]:
    assert not isinstance(value, str)
    assert value is not None
    return [value, value] if isinstance(value, int) else list(value)
