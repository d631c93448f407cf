"""Files that hold a whole network ready to run: .onnx, .xml (OpenVINO) and .pt2 (torch.export)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

from birefnet.errors import UnknownModelError, WeightsError
from birefnet.imaging.geometry import Preprocess
from birefnet.inference.engines.base import Engine
from birefnet.inference.engines.metadata import Metadata, Output
from birefnet.weights.files import EXPORTED
from birefnet.weights.local import WeightFiles


class ExportedEngine(Engine, Protocol):
    """An engine that runs a file."""

    metadata: Metadata


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
        output: what an ONNX file of others gives; `None` finds it out.

    Raises:
        WeightsError: no such file (`UnknownModelError`), or not one of its kind.
        DeviceError: the device is not there, or the file has another precision.
        MissingExtraError: the engine's package is not installed.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise UnknownModelError(f"there is no file {path}")
    # Each engine brings a library that the others do not need.
    match path.suffix.lower():
        case ".onnx":
            from birefnet.inference.engines.onnxruntime_engine import OnnxEngine

            return OnnxEngine(path, device, dtype, threads, output)
        case ".xml":
            from birefnet.inference.engines.openvino_engine import OpenVinoEngine

            return OpenVinoEngine(path, device, dtype, threads)
        case ".pt2":
            from birefnet.inference.engines.program_engine import ProgramEngine

            return ProgramEngine(path, device, dtype, threads)
    raise WeightsError(f"{path} is not a file that an engine runs ({', '.join(EXPORTED)})")


def open_bundled(
    files: WeightFiles, engine: str, *, device: str = "auto", dtype: str = "auto"
) -> ExportedEngine:
    """The ONNX graph of a bundled network in an engine other than torch.

    Args:
        files: of the network.
        engine: onnx or openvino.
        device, dtype: as the engine has them.

    Raises: as `open_exported`.
    """
    if engine == "onnx":
        return open_exported(files.graph, device=device, dtype=dtype)
    from birefnet.inference.engines.openvino_engine import OpenVinoEngine

    settings = files.settings
    preprocess = Preprocess.from_dict(settings["preprocess"])
    metadata = Metadata(
        name=files.name,
        preprocess=preprocess,
        size=(preprocess.width, preprocess.height),
        dynamic=True,
        licence=settings.get("licence"),
        source=settings.get("source"),
    )
    return OpenVinoEngine(files.graph, device, dtype, metadata=metadata)
