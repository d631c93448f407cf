"""Files that hold a whole network ready to run: .onnx, .xml (OpenVINO) and .pt2 (torch.export)."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import Protocol

from birefnet.errors import UnknownModelError
from birefnet.imaging.geometry import Preprocess
from birefnet.inference.engines.base import Engine
from birefnet.inference.engines.metadata import Metadata, Output
from birefnet.weights.local import Source

# Suffix → module and class. A class is called with (path, device=, dtype=, threads=), reads the
# metadata of its file into `.metadata` and is an `Engine`.
ENGINES = {
    ".onnx": ("birefnet.inference.engines.onnxruntime_engine", "OnnxEngine"),
    ".xml": ("birefnet.inference.engines.openvino_engine", "OpenVinoEngine"),
    ".pt2": ("birefnet.inference.engines.package_engine", "PackageEngine"),
}


class ExportedEngine(Engine, Protocol):
    """An engine that runs a file."""

    metadata: Metadata


def is_exported(source: str | os.PathLike[str]) -> bool:
    """Whether `source` names a file that an engine runs as it is, by its suffix."""
    return Path(source).suffix.lower() in ENGINES


def open_exported(
    path: str | os.PathLike[str],
    *,
    device: str = "auto",
    dtype: str = "auto",
    threads: int | None = None,
    output: Output | None = None,
) -> ExportedEngine:
    """The engine for an exported file.

    Args:
        path: ends with .onnx, .xml or .pt2.
        device: auto, cpu, cuda … as the engine has them.
        dtype: auto, or the precision that the file was exported in; an exported file has only one.
        threads: of a CPU; `None` for the engine's own choice.
        output: what an ONNX file of others gives; `None` finds it out, which needs onnx.

    Raises:
        WeightsError: no such file (`UnknownModelError`), or not one of its kind.
        DeviceError: the device is not there, or the file has another precision.
        MissingExtraError: the engine's package is not installed.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise UnknownModelError(f"there is no file {path}")
    module, name = ENGINES[path.suffix.lower()]
    more = {} if output is None else {"output": output}
    engine: ExportedEngine = getattr(import_module(module), name)(
        path, device=device, dtype=dtype, threads=threads, **more
    )
    return engine


def open_bundled(
    source: Source, engine: str, *, device: str = "auto", dtype: str = "auto"
) -> ExportedEngine:
    """The ONNX graph of a bundled network in an engine other than torch.

    Args:
        source: see `birefnet.weights.local.bundled`.
        engine: onnx or openvino.
        device, dtype: as the engine has them.

    Raises: as `open_exported`.
    """
    if engine == "onnx":
        return open_exported(source.graph, device=device, dtype=dtype)
    from birefnet.inference.engines.openvino_engine import OpenVinoEngine

    settings = source.settings
    preprocess = Preprocess.from_dict(settings["preprocess"])
    metadata = Metadata(
        name=source.name,
        preprocess=preprocess,
        size=(preprocess.width, preprocess.height),
        dynamic=True,
        licence=settings.get("licence"),
        source=settings.get("source"),
    )
    return OpenVinoEngine(source.graph, device, dtype, metadata=metadata)
