"""Clean a traced ONNX graph before it is written: fold, merge, sort."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from onnx import ModelProto

# A file of protocol buffers holds 2 GiB at most: weights beyond that go into a file beside it.
LARGEST_FILE = 2**31 - 2**24


def tidy(path: Path, example: Mapping[str, NDArray] | None = None) -> ModelProto:
    """The traced file with constants folded and duplicates merged.

    By ONNX Runtime's basic optimisation, whose result is a standard graph for every runtime.

    Args:
        path: the traced file.
        example: an input by name, of a network that takes one size only: with it the sizes of all
            maps are known, and what depends on them is a constant.
    """
    import onnx
    import onnxruntime

    model = onnx.load(str(path))
    if not 0 < model.ByteSize() < LARGEST_FILE:
        return model  # too large to be handed over in one piece; runtimes tidy it when they load it
    if example is not None:
        _fix_sizes(model, example)
        _fix_shapes(model, example)
        onnx.save(model, str(path))
    done = path.with_name("tidy.onnx")
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(done)
    options.log_severity_level = 3
    try:
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as failure:
        if "DeformConv" not in str(failure):
            raise
        return model  # an older ONNX Runtime, which has no kernel for it
    tidied = onnx.load(str(done))
    if any(node.domain not in ("", "ai.onnx") for node in tidied.graph.node):
        return model
    del tidied.opset_import[:]
    tidied.opset_import.extend(one for one in model.opset_import if one.domain in ("", "ai.onnx"))
    fold_padding(tidied)
    return tidied


def _fix_sizes(model: ModelProto, example: Mapping[str, NDArray]) -> None:
    """Make constants of all sizes of maps that the graph reads, except the batch.

    Behind a resize nobody can infer them while the batch is free; one run tells them.
    """
    import onnx

    constants = {one.name: one for one in model.graph.initializer}
    constants |= {
        node.output[0]: node.attribute[0].t
        for node in model.graph.node
        if node.op_type == "Constant" and node.attribute[0].name == "value"
    }
    shapes = {node.output[0] for node in model.graph.node if node.op_type == "Shape"}
    sides = [
        node
        for node in model.graph.node
        if node.op_type == "Gather"
        and node.input[0] in shapes
        and (index := _constant(constants, node, 1)) is not None
        and index.all()
    ]
    values = _observed(model, [node.output[0] for node in sides], example)
    for node in sides:
        value = values[node.output[0]]
        model.graph.initializer.append(onnx.numpy_helper.from_array(value, node.output[0]))
        model.graph.node.remove(node)


def _fix_shapes(model: ModelProto, example: Mapping[str, NDArray]) -> None:
    """Make constants of the shapes of Reshape and the factors of Resize; the batch stays free.

    Two runs, with one picture and with two, tell which number of a shape is the batch's.
    """
    import onnx

    nodes = [
        node
        for node in model.graph.node
        if node.op_type == "Reshape" or (node.op_type == "Resize" and len(node.input) == 4)
    ]
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    maps = sorted({name for node in nodes for name in (node.input[0], node.output[0])})
    probe.graph.node.extend(
        onnx.helper.make_node("Shape", [name], [f"shape of {name}"]) for name in maps
    )
    names = [f"shape of {name}" for name in maps]
    pair = {name: np.concatenate([value, value]) for name, value in example.items()}
    one, two = (_observed(probe, names, given) for given in (example, pair))
    for number, node in enumerate(nodes):
        source, target = f"shape of {node.input[0]}", f"shape of {node.output[0]}"
        name, value = f"fixed_shape_{number}", one[target].copy()
        if node.op_type == "Resize":
            value = _factors(one[source], value)
            node.input[2] = name
            del node.input[3]
        else:
            free = one[target] != two[target]
            if free.sum() > 1:
                continue
            value[free] = -1
            node.input[1] = name
        model.graph.initializer.append(onnx.numpy_helper.from_array(value, name))
    drop_unused(model)


def _factors(source: NDArray, target: NDArray) -> NDArray:
    """Of a Resize, in float32: the sides of `source` times them, rounded down, are `target`'s."""
    factors = (target / source).astype(np.float32)
    is_low = factors.astype(np.float64) * source < target  # runtimes multiply in either precision
    factors[is_low] = np.nextafter(factors[is_low], np.float32(np.inf))
    return factors


def _observed(
    model: ModelProto, names: list[str], example: Mapping[str, NDArray]
) -> dict[str, NDArray]:
    """Integer tensors inside a graph, by name, for one input."""
    import onnx
    import onnxruntime

    if not names:
        return {}
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    probe.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        probe.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return dict(zip(names, session.run(names, dict(example)), strict=True))


def drop_unused(model: ModelProto) -> None:
    """Remove the nodes and constants that nothing needs."""
    needed = {output.name for output in model.graph.output}
    for node in reversed(model.graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
    for items in (model.graph.node, model.graph.initializer):
        for item in list(items):
            if not needed.intersection(getattr(item, "output", None) or [item.name]):
                items.remove(item)


def to_short_indices(model: ModelProto) -> None:
    """Let Gather and Slice have indices of 32 bits, for runtimes that have no longer ones."""
    import onnx

    constants = {one.name: one for one in model.graph.initializer}
    indices = [
        (node, number)
        for node in model.graph.node
        for number in range(1, len(node.input))
        if node.op_type in ("Gather", "Slice") and node.input[number] in constants
    ]
    for name in {node.input[number] for node, number in indices}:
        value = onnx.numpy_helper.to_array(constants[name])
        value = np.clip(value, -(2**31), 2**31 - 1).astype(np.int32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(value, f"{name}_32"))
    for node, number in indices:
        node.input[number] += "_32"
    drop_unused(model)


def fold_padding(model: ModelProto) -> None:
    """Let convolutions pad with zeros themselves where a Pad of known widths is before them."""
    import onnx

    constants = {one.name: one for one in model.graph.initializer}
    uses = Counter(name for node in model.graph.node for name in node.input)
    pads = {node.output[0]: node for node in model.graph.node if node.op_type == "Pad"}
    folded = []
    for conv in model.graph.node:
        pad = pads.get(conv.input[0]) if conv.op_type == "Conv" else None
        if pad is None or uses[pad.output[0]] != 1:
            continue
        widths = _constant(constants, pad, 1)
        value = _constant(constants, pad, 2)
        mode = next((one.s for one in pad.attribute if one.name == "mode"), b"constant")
        is_zero = (value is not None and not value.any()) or len(pad.input) < 3 or not pad.input[2]
        if widths is None or mode != b"constant" or not is_zero or len(pad.input) > 3:
            continue
        before, after = widths[: len(widths) // 2], widths[len(widths) // 2 :]
        if before[:2].any() or after[:2].any() or min(widths) < 0:
            continue
        own = next((one for one in conv.attribute if one.name == "pads"), None)
        inner = np.array(own.ints) if own is not None else np.zeros(2 * len(before) - 4, int)
        if own is not None:
            conv.attribute.remove(own)
        total = inner + np.concatenate([before[2:], after[2:]])
        conv.attribute.append(onnx.helper.make_attribute("pads", [int(n) for n in total]))
        conv.input[0] = pad.input[0]
        folded.append(pad)
    for pad in folded:
        model.graph.node.remove(pad)


def _constant(constants: dict, node: object, index: int) -> NDArray | None:
    import onnx

    inputs = list(node.input)  # type: ignore[attr-defined]
    tensor = constants.get(inputs[index]) if index < len(inputs) else None
    return None if tensor is None else onnx.numpy_helper.to_array(tensor)


def put_in_order(model: ModelProto) -> None:
    """Put every node behind those that it needs, and drop those that are there twice."""
    import onnx

    nodes = {node.output[0]: node for node in model.graph.node}
    made_by = {name: node for node in nodes.values() for name in node.output}
    ordered: list[onnx.NodeProto] = []
    done: set[str] = set()
    for root in nodes.values():
        pending = [root]
        while pending:
            node = pending[-1]
            needed = [made_by[name] for name in node.input if name in made_by]
            missing = [one for one in needed if one.output[0] not in done]
            if missing:
                pending += missing
                continue
            pending.pop()
            if node.output[0] not in done:
                done.add(node.output[0])
                ordered.append(node)
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in ordered]
    del model.graph.node[:]
    model.graph.node.extend(copies)
