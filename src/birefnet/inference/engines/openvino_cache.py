"""OpenVINO graphs of weights, kept beside the downloads: the second start needs no torch."""

from __future__ import annotations

import hashlib
import json
import os
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from birefnet.errors import MissingExtraError
from birefnet.files import draft_folder, replace_file
from birefnet.inference.engines.base import KEY, Metadata
from birefnet.inference.engines.openvino_engine import OpenVinoEngine
from birefnet.weights.cache import cache_directory
from birefnet.weights.download import file_sha256
from birefnet.weights.locate import Located, WeightFiles
from birefnet.weights.obtain import weight_files
from birefnet.weights.transfer import Report

if TYPE_CHECKING:
    from openvino import Model

GRAPH = 2  # to be raised whenever the conversion changes


def load_openvino(
    name: str | os.PathLike[str] | Located,
    *,
    device: str = "auto",
    dtype: str = "auto",
    cache_dir: str | os.PathLike[str] | None = None,
    offline: bool | None = None,
    progress: bool | Report | None = None,
) -> OpenVinoEngine:
    """An engine for a network by name, path, Hugging Face id or address.

    Its graph is converted at the first call and kept in the cache; it is found again by the
    checksum of the weights, their settings, and the versions of this package and of OpenVINO. Where
    the cache cannot be written, the graph stays in memory.

    Args:
        name, cache_dir, offline, progress: see `birefnet.weights.checkpoint.load_checkpoint`.
        device, dtype: see `OpenVinoEngine`.

    Raises:
        MissingExtraError: openvino is not installed.
        WeightsError: not found, not fetched, damaged, or not fitting.
        UnknownModuleError: the network cannot be written as a graph.
    """
    files = weight_files(name, cache_dir=cache_dir, offline=offline, progress=progress)
    label = re.sub(r"[^\w.-]+", "-", files.name)
    path = cache_directory(cache_dir) / "openvino" / f"{label}-{_key(files)}.xml"
    if path.is_file() and path.with_suffix(".bin").is_file():
        return OpenVinoEngine(path, device, dtype)
    from birefnet.inference.engines.openvino_convert import convert
    from birefnet.network.simplify import simplify
    from birefnet.weights.checkpoint import read_network

    loaded = read_network(files)
    metadata = Metadata(
        name=loaded.name,
        preprocess=loaded.preprocess,
        size=(loaded.preprocess.width, loaded.preprocess.height),
        dynamic=True,
        guided=loaded.config.guidance_channel,
        licence=loaded.licence,
        source=loaded.source,
    )
    graph = convert(simplify(loaded.network, inplace=True))
    try:
        write_graph(graph, metadata, path)
    except OSError:
        return OpenVinoEngine(graph, device, dtype, metadata=metadata)
    return OpenVinoEngine(path, device, dtype)


def write_graph(graph: Model, metadata: Metadata, path: Path, *, half: bool = False) -> list[Path]:
    """Write `path` (.xml) and its .bin, each whole or not at all; `half` stores weights in fp16."""
    import openvino

    graph.set_rt_info(metadata.to_json(), [KEY])
    path.parent.mkdir(parents=True, exist_ok=True)
    with draft_folder(path) as folder:
        made = folder / path.name
        openvino.save_model(graph, str(made), compress_to_fp16=half)
        # The weights first: a graph is never there without them.
        for suffix in (".bin", ".xml"):
            replace_file(made.with_suffix(suffix), path.with_suffix(suffix))
    return [path, path.with_suffix(".bin")]


def _key(source: WeightFiles) -> str:
    """A checksum of everything that a graph depends on, 16 digits."""
    import birefnet

    try:
        openvino = version("openvino")
    except PackageNotFoundError:
        raise MissingExtraError("the engine openvino", "openvino") from None
    facts = {
        "files": [file_sha256(file) for file in source.files],
        "settings": source.settings,
        "checkpoint": source.checkpoint.name if source.checkpoint else None,
        "versions": [birefnet.__version__, openvino, GRAPH],
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
