"""Modulated deformable convolution as OpenVINO's operation."""

from __future__ import annotations

import openvino.opset15 as ops
from openvino import Node

from birefnet.inference.engines.openvino_graph.emitter import Emitter, array, constant, emits
from birefnet.inference.engines.openvino_nodes import Value, integers, number
from birefnet.network.simplify import InferenceDeformableConv2d


@emits(InferenceDeformableConv2d)
def deformable_convolution(emit: Emitter, module: InferenceDeformableConv2d, x: Value) -> Node:
    """OpenVINO takes offsets as pairs (dy, dx), taps row by row, as ours are.

    With `bilinear_interpolation_pad` the picture continues with zeros, between which and the first
    row a sample mixes.
    """
    padding = 2 * [module.weight.shape[-1] // 2]
    sampling = ops.variadic_split(
        emit(module.sampling, x), integers(1), integers(2 * module.taps, module.taps)
    )
    y = ops.deformable_convolution(
        x,
        sampling.output(0),
        constant(module.weight),
        [1, 1],
        padding,
        padding,
        [1, 1],
        mask=ops.multiply(ops.sigmoid(sampling.output(1)), number(2.0)),
        bilinear_interpolation_pad=True,
    )
    emit.label(y, module)
    assert module.bias is not None
    return ops.add(y, constant(array(module.bias).reshape(1, -1, 1, 1)))
