"""Weights on this machine: files and folders, and the settings beside or inside them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from birefnet.errors import UnknownModelError, WeightsError
from birefnet.weights.files import FORMAT, GRAPH, find_weights, read_json

if TYPE_CHECKING:
    from birefnet.weights.catalogue import Checkpoint

FORMAT_VERSION = 1
# How files of weights are named that a folder's config.json describes.
_OF_FOLDERS = ("model.", "pytorch_model.")


@dataclass(frozen=True)
class WeightFiles:
    """A network's files on this machine, and what is known of them without reading their tensors.

    Attributes:
        name: for messages and reports.
        files: one, or the parts of a split one.
        source: what was asked for, or the address it came from.
        settings: of this project's config.json; empty for files of others.
        checkpoint: the catalogue's entry, if it is one.
    """

    name: str
    files: list[Path]
    source: str
    settings: dict[str, Any] = field(default_factory=dict)
    checkpoint: Checkpoint | None = None

    @property
    def graph(self) -> Path:
        """Of a bundled network: its ONNX graph, which takes its weights from the file beside it."""
        return self.files[0].with_name(GRAPH)


def at_path(path: Path, source: str) -> WeightFiles:
    """The weights at a path, a file or a directory.

    Raises:
        UnknownModelError: there is nothing.
        WeightsError: a directory without weights, or settings that are not understood.
    """
    if path.is_dir():
        settings, files = read_settings(path / "config.json"), find_weights(path)
        name = path.absolute().name
    elif path.is_file():
        settings, files, name = settings_beside(path), [path], path.stem
        if settings or path.name == "model.safetensors":
            name = path.absolute().parent.name
    else:
        raise UnknownModelError(f"there is no file or directory {path}")
    return WeightFiles(str(settings.get("name") or name), files, source, settings)


def settings_beside(path: Path) -> dict[str, Any]:
    """Those of the config.json that describes a file of weights, by the file's name."""
    if path.name.startswith(_OF_FOLDERS) and path.suffix in (".safetensors", ".bin"):
        return read_settings(path.with_name("config.json"))
    return {}


def read_settings(path: Path) -> dict[str, Any]:
    """This project's settings in a config.json; `{}` where there is none or it is of others."""
    if not path.is_file():
        return {}
    return check_settings(read_json(path), str(path))


def settings_in_metadata(metadata: dict[str, str], path: Path) -> dict[str, Any]:
    """The same from the header of a .safetensors file, or a .pth file's state dict."""
    text = metadata.get(FORMAT)
    if not text:
        return {}
    try:
        values = json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        raise WeightsError(f"the settings inside {path} are not valid JSON") from None
    return check_settings(values, str(path)) if isinstance(values, dict) else {}


def check_settings(values: dict[str, Any], where: str) -> dict[str, Any]:
    """`values` if they are this project's and of a version that is understood, else `{}`."""
    if values.get("format") != FORMAT:
        return {}
    version = values.get("format_version", 1)
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise WeightsError(
            f"{where} has format version {version!r} and this birefnet understands up to "
            f"{FORMAT_VERSION}: upgrade it (pip install -U birefnet)"
        )
    return values
