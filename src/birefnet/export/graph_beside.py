"""The ONNX graph of a model directory, which takes its weights from model.safetensors beside it.

One file of weights then serves every engine: torch reads it by name, and an ONNX file may keep its
tensors in any other file, by offset and length. What simplification makes of a tensor (a scale of
its output channels, a part of its inputs, two tensors joined) is written as operations on it, which
runtimes compute once, when they load the graph. Biases and small tensors stand in the graph itself.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from birefnet.errors import WeightsError
from birefnet.export import graph, onnx
from birefnet.export.request import Request
from birefnet.files import draft_folder, replace_file
from birefnet.network.simplify import simplify
from birefnet.weights.checkpoint import load_checkpoint
from birefnet.weights.locate import GRAPH

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto

WEIGHTS_KEY = "birefnet.weights"  # in the graph's metadata: the SHA-256 of its file of weights
_SMALL = 256  # numbers; a tensor of no more stands in the graph
_TYPES: dict[str, type[np.floating]] = {"F16": np.float16, "F32": np.float32}
_ROUNDING = 2e-7  # of float32, relative to the largest weight


def write_graph(directory: Path) -> Path:
    """Write model.onnx into a model directory that has one model.safetensors; returns its path.

    Its input is a normalised batch (B, 3, H, W) of any size in multiples of 32, its output logits
    (B, 1, H, W).

    Raises:
        MissingExtraError: onnx is not installed.
        WeightsError: the directory has no such file, or a weight of the simplified network does
            not come from one of its tensors.
    """
    loaded = load_checkpoint(directory)
    if loaded.path.name != "model.safetensors":
        raise WeightsError(f"{directory} has no model.safetensors, from which a graph could read")
    request = Request(
        simplify(loaded.network, inplace=True),
        loaded.preprocess,
        dynamic=True,
        name=loaded.name,
        licence=loaded.licence,
        source=loaded.source,
    )
    with draft_folder(directory / GRAPH) as folder:
        traced = folder / "traced.onnx"
        onnx.trace(request, traced, onnx.DEFAULT_OPSET)
        model = graph.tidy(traced)
        _Sharing(model, loaded.path).run()
        onnx.describe(model, request)
        entry = model.metadata_props.add()
        entry.key, entry.value = WEIGHTS_KEY, hashlib.sha256(loaded.path.read_bytes()).hexdigest()
        draft = folder / GRAPH
        draft.write_bytes(model.SerializeToString())
        replace_file(draft, directory / GRAPH)
    return directory / GRAPH


class _Sharing:
    """Puts the tensors of a .safetensors file in place of a graph's own."""

    def __init__(self, model: ModelProto, path: Path) -> None:
        self.graph, self.path = model.graph, path
        self.entries, self.stored = _read(path)
        self.nodes: list[NodeProto] = []
        self.used: set[str] = set()

    def run(self) -> None:
        """Change the graph in place."""
        for tensor in list(self.graph.initializer):
            if len(tensor.dims) > 1 and np.prod(tensor.dims) > _SMALL:
                self.graph.initializer.remove(tensor)
                self._derive(tensor)
        nodes = [*self.nodes, *self.graph.node]
        del self.graph.node[:]
        self.graph.node.extend(nodes)

    def _derive(self, tensor: TensorProto) -> None:
        """Nodes that make `tensor` of what is stored."""
        from onnx import numpy_helper

        values = numpy_helper.to_array(tensor)
        for name, other in self.stored.items():
            if len(other) == len(values) and other.shape[2:] == values.shape[2:]:
                width, most = values.shape[1], other.shape[1]
                for first in {0, most - width} if most >= width else ():
                    scale = _scale(values, other[:, first : first + width])
                    if scale is not None:
                        self._scaled(tensor.name, name, first, width, scale)
                        return
        for name, other in self.stored.items():
            if name.endswith("offset.weight"):
                second = f"{name.removesuffix('offset.weight')}modulator.weight"
                if np.array_equal(values, np.concatenate([other, self.stored[second]])):
                    parts = [self._tensor(name), self._tensor(second)]
                    self._add("Concat", parts, tensor.name, axis=0)
                    return
        raise WeightsError(
            f"the weight {tensor.name} of shape {list(tensor.dims)} is not a scaled tensor of "
            f"{self.path}, a part of one, or two of them joined"
        )

    def _scaled(
        self, name: str, stored: str, first: int, width: int, scale: NDArray[np.float32]
    ) -> None:
        source, shape = self._tensor(stored), self.stored[stored].shape
        if width < shape[1]:
            ends = [self._small([value], name) for value in (first, first + width, 1)]
            source = self._add("Slice", [source, *ends], f"{name}.part")
        factor = self._small(scale.reshape(-1, *[1] * (len(shape) - 1)), name)
        self._add("Mul", [source, factor], name)

    def _tensor(self, stored: str) -> str:
        """The name of a stored tensor in float32."""
        if stored not in self.used:
            self.used.add(stored)
            entry = self.entries[stored]
            tensor = self.graph.initializer.add()
            tensor.name = f"{stored}.stored"
            tensor.dims.extend(entry["shape"])
            tensor.data_type = tensor.FLOAT16 if entry["dtype"] == "F16" else tensor.FLOAT
            tensor.data_location = tensor.EXTERNAL
            first, last = entry["data_offsets"]
            reference = {"location": self.path.name, "offset": first, "length": last - first}
            for key, value in reference.items():
                pair = tensor.external_data.add()
                pair.key, pair.value = key, str(value)
            self._add("Cast", [tensor.name], f"{stored}.float32", to=tensor.FLOAT)
        return f"{stored}.float32"

    def _small(self, values: object, name: str) -> str:
        from onnx import numpy_helper

        label = f"{name}.constant.{len(self.graph.initializer)}"
        self.graph.initializer.append(numpy_helper.from_array(np.asarray(values), label))
        return label

    def _add(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        from onnx import helper

        self.nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output


def _scale(values: NDArray[np.float32], stored: NDArray[np.floating]) -> NDArray[np.float32] | None:
    """The factor of each output channel that makes `stored` into `values`, if there is one."""
    wanted, given = (part.astype(np.float64).reshape(len(part), -1) for part in (values, stored))
    energy = np.maximum((given * given).sum(axis=1), np.finfo(np.float64).tiny)
    scale = ((wanted * given).sum(axis=1) / energy).astype(np.float32)
    error = np.abs(wanted - scale[:, None] * given).max()
    return scale if error <= _ROUNDING * np.abs(wanted).max() else None


def _read(path: Path) -> tuple[dict[str, dict[str, Any]], Mapping[str, NDArray[np.floating]]]:
    """The header of a .safetensors file, offsets counted from its beginning, and its arrays."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    entries: dict[str, dict[str, Any]] = json.loads(data[8 : 8 + length])
    entries.pop("__metadata__", None)
    arrays: dict[str, NDArray[np.floating]] = {}
    for name, entry in entries.items():
        entry["data_offsets"] = [8 + length + offset for offset in entry["data_offsets"]]
        if entry["dtype"] in _TYPES and len(entry["shape"]) > 1:
            first, last = entry["data_offsets"]
            flat: NDArray[np.floating] = np.frombuffer(data[first:last], _TYPES[entry["dtype"]])
            arrays[name] = flat.reshape(entry["shape"])
    return entries, arrays
