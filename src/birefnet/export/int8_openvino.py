"""Post-training quantisation for OpenVINO: NNCF, and integers inside deformable convolution.

NNCF quantises products and convolutions; it knows no deformable convolution. Those are written as
sampling and a product of integers (`engines.openvino_sampling`), whose ranges are
measured on the same pictures.
"""

from __future__ import annotations

import logging

import numpy as np

from birefnet.errors import needs_extra

with needs_extra("openvino", __name__):
    import openvino.opset15 as ops
    from openvino import CompiledModel, Model, Node

from birefnet.export.request import Request
from birefnet.inference.engines.openvino_convert import convert
from birefnet.inference.engines.openvino_engine import shared_core
from birefnet.inference.engines.openvino_nodes import Value, integers
from birefnet.inference.engines.openvino_sampling import (
    Ranges,
    deformable_nodes,
    replace_deformables,
    sample,
    separate,
)

RANGE_PICTURES = 16  # of the calibration pictures, to measure the ranges of samples with
HEADROOM = 1.05  # above the largest value measured
# Part of the encoder's convolutions, from the first on, that stays in floating point: what is wrong
# there is wrong in all that follows.
EARLY = 0.2


def quantised(request: Request) -> Model:
    """The graph of `request.network` with integers of eight bits, calibrated by its pictures.

    Raises:
        MissingExtraError: nncf is not installed.
    """
    with needs_extra("nncf", "quantising for OpenVINO"):
        import nncf
    logging.getLogger("nncf").setLevel(logging.ERROR)
    shared_core()  # before those of NNCF, which end first
    graph = convert(request.network)
    ranges = _ranges(graph.clone(), request)
    separate(graph)
    graph = nncf.quantize(
        graph,
        nncf.Dataset(request.calibration),
        subset_size=len(request.calibration),
        preset=nncf.QuantizationPreset.MIXED,
        model_type=nncf.ModelType.TRANSFORMER,
        ignored_scope=nncf.IgnoredScope(names=sensitive_nodes(graph), validate=False),
    )
    replace_deformables(graph, ranges)
    return graph


def sensitive_nodes(graph: Model) -> list[str]:
    """Names of the nodes that stay in floating point.

    Swin's tokens and biases where windows gather them: biases hold -100 beside small numbers, and
    OpenVINO 2026.4 crashes when it compiles gathers of integers. Of the convolutions the
    first ones of the encoder, depthwise ones (they cost little and lose much), and those of one
    output channel: attention maps, and the logits themselves.
    """
    sensitive, encoder = [], []
    for node in graph.get_ordered_ops():
        kind = node.get_type_name()
        if kind == "Gather" and "index_select" in node.get_friendly_name():
            sensitive.append(node.get_friendly_name())
        if kind not in ("Convolution", "GroupConvolution"):
            continue
        name = node.get_friendly_name()
        if kind == "GroupConvolution" or node.get_output_partial_shape(0)[1] == 1:
            sensitive.append(name)
        if ".encoder.backbone." in name:
            encoder.append(name)
    return sensitive + encoder[: round(EARLY * len(encoder))]


def _ranges(graph: Model, request: Request) -> dict[str, Ranges]:
    """Largest input and largest modulated sample of each deformable convolution of `graph`,
    which is spent."""
    observed: list[str] = []
    for node in deformable_nodes(graph):
        _, columns = sample(node)
        peaks = [_peak(piece) for piece in columns]
        joined = peaks[0] if len(peaks) == 1 else _peak(ops.concat(peaks, 0))
        graph.add_results([ops.result(_peak(node.input_value(0))), ops.result(joined)])
        observed.append(node.get_friendly_name())
    if not observed:
        return {}
    step = -(-len(request.calibration) // RANGE_PICTURES)
    largest = np.zeros(2 * len(observed), np.float32)
    compiled: dict[tuple[int, ...], CompiledModel] = {}
    for number in range(0, len(request.calibration), step):
        picture = request.calibration[number]
        if picture.shape not in compiled:
            graph.reshape(list(picture.shape))
            compiled[picture.shape] = shared_core().compile_model(
                graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
            )
        outputs = compiled[picture.shape]([picture])
        peaks_found = [outputs[i].item() for i in range(1, len(largest) + 1)]
        largest = np.maximum(largest, np.array(peaks_found, np.float32))
    largest = np.maximum(HEADROOM * largest, np.float32(1e-6))
    return {
        name: Ranges(float(largest[2 * i]), float(largest[2 * i + 1]))
        for i, name in enumerate(observed)
    }


def _peak(values: Value) -> Node:
    """The largest of all values, as a vector of one."""
    flat = ops.reshape(values, integers(-1), False)
    return ops.reduce_max(flat, integers(0), True)
