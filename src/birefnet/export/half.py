"""Half precision for ONNX files: float32 for inputs and outputs, and where half would overflow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from birefnet.export.graph import put_in_order

if TYPE_CHECKING:
    from onnx import ModelProto

# Half precision ends at 65504. Numbers that come this near to it on the examples may pass it on
# other pictures.
SAFE = 65504 / 8
# What a sampling position is computed by; eleven bits are too few for a fraction of the picture.
_ARITHMETIC = {"Add", "Sub", "Mul", "Div", "Concat", "Unsqueeze", "Reshape", "Cast", "Transpose"}


def to_half(model: ModelProto, examples: Sequence[Mapping[str, NDArray]]) -> ModelProto:
    """`model` in half precision; its inputs and outputs stay as they are.

    In float32 stay: operations with an input or output beyond `SAFE` on one of the `examples`
    (inputs by name), GridSample and what computes its positions, and the preparation of pixels.
    """
    from onnxruntime.transformers.float16 import (
        DEFAULT_OP_BLOCK_LIST,
        convert_float_to_float16,
    )

    for number, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}_{number}"
    large = large_tensors(model, examples)
    exact = {
        node.name for node in model.graph.node if large.intersection([*node.input, *node.output])
    }
    exact |= _positions(model)
    half = convert_float_to_float16(
        model,
        keep_io_types=True,
        op_block_list=[*DEFAULT_OP_BLOCK_LIST, "GridSample"],
        node_block_list=sorted(exact),
    )
    put_in_order(half)  # the conversion appends its casts, some of them twice
    return half


def large_tensors(model: ModelProto, examples: Sequence[Mapping[str, NDArray]]) -> set[str]:
    """Names of the tensors with a number beyond `SAFE` on an example, or among the weights."""
    import onnx
    import onnxruntime

    weights = {one.name: onnx.numpy_helper.to_array(one) for one in model.graph.initializer}
    large = {
        name for name, value in weights.items() if value.dtype.kind == "f" and _peak(value) > SAFE
    }
    probe = onnx.shape_inference.infer_shapes(model)
    own = {output.name for output in probe.graph.output}
    inner = [
        info
        for info in probe.graph.value_info
        if info.type.tensor_type.elem_type == onnx.TensorProto.FLOAT and info.name not in own
    ]
    probe.graph.output.extend(inner)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # Fused operations would hide what is between them.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        probe.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    for example in examples:
        values = session.run(names, dict(example))
        large |= {name for name, value in zip(names, values, strict=True) if _peak(value) > SAFE}
    return large


def _peak(values: NDArray) -> float:
    return float(np.abs(values).max(initial=0))


def _positions(model: ModelProto) -> set[str]:
    """Names of the nodes that compute the second input of each GridSample."""
    made_by = {name: node for node in model.graph.node for name in node.output}
    pending = [node.input[1] for node in model.graph.node if node.op_type == "GridSample"]
    positions: set[str] = set()
    while pending:
        node = made_by.get(pending.pop())
        if node is None or node.name in positions or node.op_type not in _ARITHMETIC:
            continue
        positions.add(node.name)
        pending += node.input
    return positions
