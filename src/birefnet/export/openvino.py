"""OpenVINO: an .xml graph with its .bin of weights, for `birefnet.load` and for any OpenVINO."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from birefnet.errors import UsageError, require
from birefnet.export.request import Request
from birefnet.inference.engines.openvino_cache import write_graph

if TYPE_CHECKING:
    from openvino import Model


def export_openvino(request: Request, path: Path) -> list[Path]:
    """Write `path` (.xml) and the .bin beside it; both appear whole or not at all.

    Input `image`: float32 [B, 3, H, W], normalised; output `logits`: float32 [B, 1, H, W], of
    which the sigmoid is the matte. The metadata lie in the runtime information under `birefnet`.

    Raises:
        MissingExtraError: openvino, or for int8 nncf, is not installed.
        BiRefNetError: the request has something that this format lacks.
    """
    require("exporting to OpenVINO", "openvino")
    if request.with_preprocessing:
        raise UsageError(
            "an OpenVINO file holds the network alone, with its preprocessing as metadata; export "
            "to ONNX with --with-preprocessing to have it inside the graph"
        )
    half = request.precision == "fp16"
    return write_graph(_graph(request), request.metadata(), path, half=half)


def _graph(request: Request) -> Model:
    from birefnet.inference.engines.openvino_convert import convert

    if request.precision == "int8":
        from birefnet.export.int8_openvino import quantised

        graph = quantised(request)
    else:
        graph = convert(request.network)
    if not request.is_dynamic:
        width, height = request.input_size
        graph.reshape([-1, request.channels, height, width])
        from openvino.passes import ConstantFolding, Manager

        manager = Manager()
        manager.register_pass(ConstantFolding())
        manager.run_passes(graph)
    return graph
