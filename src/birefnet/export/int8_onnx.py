"""Eight bits for ONNX Runtime: static quantisation with calibration pictures."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

_QUANTISED = ["Conv", "MatMul"]
# Part of the encoder's convolutions and products, from the first on, that stays in float: what is
# wrong there is wrong in all that follows.
EARLY = 0.2
# On the way to where DeformConv samples there is nothing else.
_TRANSPARENT = {"Split", "Sigmoid", "Mul", "Slice"}


def quantise(model: ModelProto, calibration: Sequence[NDArray[np.float32]]) -> ModelProto:
    """`model` with convolutions and products in eight bits (weights by channel).

    In float stay the operations that suffer: the first ones of the encoder, depthwise convolutions
    (they cost little and lose much), those that say where and how strongly deformable convolutions
    sample (a pixel's error of an offset is a pixel's error of an edge), those with one output
    channel (attention maps and heads, the logits themselves), and all that ONNX Runtime has in
    float only (DeformConv, norms, softmax, resizing).

    Args:
        model: in fp32.
        calibration: normalised pictures, (1, 3, h, w), like those that the network will see.
    """
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    for number, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}_{number}"
    with tempfile.TemporaryDirectory(prefix="birefnet-int8-") as name:
        folder = Path(name)
        source, prepared, done = (folder / f"{n}.onnx" for n in ("fp32", "prepared", "int8"))
        onnx.save(model, str(source))
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(done),
            _Reader(model.graph.input[0].name, calibration),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=_QUANTISED,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=sorted(sensitive_nodes(onnx.load(str(prepared)))),
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={"CalibMovingAverage": True},
        )
        return onnx.load(str(done))


def sensitive_nodes(model: ModelProto) -> set[str]:
    """Names of the nodes that `quantise` leaves in float."""
    made_by = {name: node for node in model.graph.node for name in node.output}
    shapes = {one.name: tuple(one.dims) for one in model.graph.initializer}
    sensitive = _early_nodes(model)
    for node in model.graph.node:
        if node.op_type == "DeformConv":
            for name in (node.input[2], node.input[4]):
                sensitive |= {one.name for one in _upstream(made_by, name)}
        elif node.op_type == "Conv":
            groups = [one.i for one in node.attribute if one.name == "group"]
            if shapes.get(node.input[1], (0,))[0] == 1 or max(groups, default=1) > 1:
                sensitive.add(node.name)
    return sensitive


def _early_nodes(model: ModelProto) -> set[str]:
    """The first nodes of the encoder's pass over the picture, and of the one over its half."""
    passes: dict[str, list[str]] = {}
    for node in model.graph.node:
        # Traced names are paths of modules; the second pass is /encoder/backbone_1.
        path = node.output[0].split("/")
        if node.op_type in _QUANTISED and "encoder" in path[:-1]:
            passes.setdefault(path[path.index("encoder") + 1], []).append(node.name)
    return {name for names in passes.values() for name in names[: round(EARLY * len(names))]}


def _upstream(made_by: dict[str, NodeProto], name: str) -> Iterator[NodeProto]:
    """The nodes that make `name`, back to the first convolution."""
    node = made_by.get(name)
    if node is None:
        return
    yield node
    if node.op_type in _TRANSPARENT:
        for one in node.input:
            yield from _upstream(made_by, one)


class _Reader:
    """Hands the pictures to ONNX Runtime's calibration, one at a time."""

    def __init__(self, name: str, pictures: Sequence[NDArray[np.float32]]) -> None:
        self.name = name
        self.pictures = pictures
        self.rewind()

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        """The next picture, or `None` behind the last."""
        batch = next(self.iterator, None)
        return None if batch is None else {self.name: batch}

    def rewind(self) -> None:
        """From the first picture again."""
        self.iterator = iter(self.pictures)
