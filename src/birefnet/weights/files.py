"""Read a file of weights, whatever wrote it, without ever running what it carries.

The content decides, not the suffix: files are renamed too often. Values and types are kept.
"""

from __future__ import annotations

import json
import pickle
import re
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from birefnet.errors import WeightsError
from birefnet.weights.locate import FORMAT, first_line, some

if TYPE_CHECKING:
    from torch import Tensor

Format = Literal["safetensors", "torch", "torch-legacy"]

# Where training scripts put the weights. On equal terms the averaged ones are preferred: they are
# what their authors evaluate. A wrapper with more tensors wins, so an average without its buffers
# does not.
_WRAPPERS = (
    *("ema", "model_ema", "ema_state_dict", "state_dict", "model_state_dict", "model"),
    *("network", "net", "module", "weights", "params"),
)
# torch.compile, DataParallel and trainers that hold the network as an attribute.
_LEADING = frozenset({"module", "model", "net", "network", "birefnet"})
_COMPILED = "_orig_mod"


@dataclass
class Weights:
    """Tensors by name, without the prefixes that trainers add, and the file's own description."""

    tensors: dict[str, Tensor]
    metadata: dict[str, str] = field(default_factory=dict)


def sniff(path: Path) -> Format:
    """The format of a file of weights, from its first bytes.

    Raises:
        WeightsError: it is none; the sentence says what it is instead.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(512)
    except OSError as failure:
        raise WeightsError(f"cannot read {path}: {failure.strerror or failure}") from None
    if head.startswith(b"PK\x03\x04"):
        return "torch"
    if len(head) > 8 and head[8:9] == b"{":
        return "safetensors"
    if head.startswith(b"\x80"):
        return "torch-legacy"
    raise WeightsError(f"{path} holds no weights: {_what_else(head)}")


def _what_else(head: bytes) -> str:
    text = head.lstrip().lower()
    if not head:
        return "it is empty; fetch it again"
    if head.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer in place of the file; run `git lfs pull`, or download it"
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "it is a web page saved in place of the file; download the file itself"
    if text.startswith((b"{", b"[")):
        return "it is JSON text; the weights lie in another file"
    if head.startswith(b"GGUF"):
        return "it is a GGUF file, which is not supported; use a .safetensors or .pth file"
    if b"onnx" in text or head.startswith(b"\x08"):
        return "it looks like an ONNX file, which runs in ONNX Runtime and is not read here"
    return "expected a .safetensors or .pth file; it may be damaged, fetch it again"


def read_weights(path: Path) -> Weights:
    """Read the tensors of one file; they are mapped from the disk where the format allows it.

    Raises:
        WeightsError: not a file of weights, damaged, or with code in it (nothing is run).
    """
    kind = sniff(path)
    if kind == "safetensors":
        tensors, metadata = _read_safetensors(path)
    else:
        loaded = _read_torch(path, kind)
        tensors, metadata = _tensors_inside(loaded, path), _metadata_of(loaded)
    return Weights(strip_prefixes(tensors, path), metadata)


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            names = file.keys()
            return {name: file.get_tensor(name) for name in names}, file.metadata() or {}
    except (SafetensorError, OSError, ValueError, RuntimeError, AttributeError) as failure:
        raise WeightsError(
            f"{path} is a damaged or incomplete .safetensors file ({first_line(failure)}); "
            "fetch it again"
        ) from None


def _read_torch(path: Path, kind: Format) -> object:
    import torch

    if kind == "torch":
        _check_archive(path)
    # Newer versions of torch.load go by the suffix too, but not for open files.
    mapped = kind == "torch" and path.suffix != ".safetensors"
    try:
        with open(path, "rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd pickles, which fail below
            return torch.load(
                path if mapped else file, map_location="cpu", weights_only=True, mmap=mapped
            )
    except pickle.UnpicklingError as failure:
        named = re.search(r"GLOBAL ([\w.]+)", str(failure))
        if named or "Unsupported operand" in str(failure):
            what = f" ({named[1]})" if named else ""
            raise WeightsError(
                f"{path} carries Python code besides its tensors{what} and was not opened further: "
                "get it as .safetensors, or have its author save the state dict alone"
            ) from None
        raise _damaged(path, failure) from None
    except Exception as failure:  # a damaged or hostile pickle can raise anything
        raise _damaged(path, failure) from None


def with_settings(state: Mapping[str, Tensor], settings: Mapping[str, object]) -> dict[str, Any]:
    """A state dict for `torch.save` that carries this package's settings.

    They lie where torch keeps the versions of modules, so every program that reads a state dict
    finds the tensors alone in it.
    """
    carrying = OrderedDict(state)
    carrying._metadata = OrderedDict({FORMAT: {FORMAT: json.dumps(settings)}})  # type: ignore[attr-defined]
    return carrying


def _metadata_of(loaded: object) -> dict[str, str]:
    """The settings that `with_settings` put there."""
    metadata = getattr(loaded, "_metadata", None)
    carried = metadata.get(FORMAT) if isinstance(metadata, Mapping) else None
    text = carried.get(FORMAT) if isinstance(carried, Mapping) else None
    return {FORMAT: text} if isinstance(text, str) else {}


def _check_archive(path: Path) -> None:
    """`torch.save` stores its records uncompressed; packed ones could unpack without bounds."""
    try:
        with zipfile.ZipFile(path) as archive:
            records = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError) as failure:
        raise _damaged(path, failure) from None
    if any(record.compress_type != zipfile.ZIP_STORED for record in records):
        raise WeightsError(
            f"{path} is a compressed archive, not a file written by torch.save; unpack it first"
        )


def _damaged(path: Path, failure: Exception) -> WeightsError:
    return WeightsError(
        f"{path} is a damaged or incomplete checkpoint ({first_line(failure)}); fetch it again"
    )


def _tensors_inside(loaded: object, path: Path) -> dict[str, Tensor]:
    """The dictionary of tensors in what was loaded, unwrapped from what trainers put around it."""
    tensors = _unwrap(loaded)
    if not tensors:
        kind = type(loaded).__name__
        inside = f" with {some(loaded)}" if isinstance(loaded, Mapping) else ""
        raise WeightsError(f"{path} holds a {kind}{inside}, but no network's weights by name")
    return tensors


def _unwrap(loaded: object, depth: int = 0) -> dict[str, Tensor]:
    import torch

    if not isinstance(loaded, Mapping) or depth > 4:
        return {}
    best = {
        name: value
        for name, value in loaded.items()
        if isinstance(name, str) and isinstance(value, torch.Tensor)
    }
    for wrapper in _WRAPPERS:
        inner = _unwrap(loaded.get(wrapper), depth + 1)
        if len(inner) > len(best):
            best = inner
    return best


def strip_prefixes(tensors: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Take `module.`, `_orig_mod.` and the like off the names, any number of them in any order.

    `n_averaged`, the counter of torch's weight averaging, is left out.
    """
    stripped: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        parts = [part for part in name.split(".") if part != _COMPILED]
        while len(parts) > 1 and parts[0] in _LEADING:
            parts.pop(0)
        new = ".".join(parts)
        if new == "n_averaged":
            continue
        if new in stripped:
            raise WeightsError(f"{path} holds {new!r} twice, under different prefixes")
        stripped[new] = tensor
    return stripped
