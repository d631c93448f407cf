"""Files that hold a whole network ready to run: .onnx, .xml (OpenVINO) and .pt2 (torch.export)."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import Protocol

from birefnet.engines.base import Engine
from birefnet.engines.metadata import Metadata
from birefnet.errors import WeightsError

# Suffix → module and class. A class is called with (path, device=, dtype=, threads=), reads the
# metadata of its file into `.metadata` and is an `Engine`.
ENGINES = {
    ".onnx": ("birefnet.engines.onnxruntime_engine", "OnnxEngine"),
    ".xml": ("birefnet.engines.openvino_engine", "OpenVinoEngine"),
    ".pt2": ("birefnet.engines.package_engine", "PackageEngine"),
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
) -> ExportedEngine:
    """The engine for an exported file.

    Args:
        path: ends with .onnx, .xml or .pt2.
        device: auto, cpu, cuda … as the engine has them.
        dtype: auto, or the precision that the file was exported in; an exported file has only one.
        threads: of a CPU; `None` for the engine's own choice.

    Raises:
        WeightsError: no such file, or not one of its kind.
        DeviceError: the device is not there, or the file has another precision.
        MissingExtraError: the engine's package is not installed.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise WeightsError(f"there is no file {path}")
    module, name = ENGINES[path.suffix.lower()]
    engine: ExportedEngine = getattr(import_module(module), name)(
        path, device=device, dtype=dtype, threads=threads
    )
    return engine
