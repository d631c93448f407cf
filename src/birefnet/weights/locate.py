"""Locate weights by name: a bundled or released network, a path, an id or an address; and what lies
at a path of this machine, with its settings, without reading a tensor."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict, cast

from birefnet.errors import UnknownModelError, WeightsError

if TYPE_CHECKING:
    from birefnet.weights.catalogue import Checkpoint

FORMAT = "birefnet"  # of settings, in config.json, and the key under which files carry them
# In a bundled directory: its network as an ONNX graph, which reads model.safetensors beside it.
GRAPH = "model.onnx"

SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt", ".bin")
# Files that hold a whole network ready to run: ONNX, OpenVINO, torch.export.
EXPORTED = (".onnx", ".xml", ".pt2")

FORMAT_VERSION = 1
_MAX_CONFIG_BYTES = 1 << 20
# How files of weights are named that a folder's config.json describes.
_OF_FOLDERS = ("model.", "pytorch_model.")


class Settings(TypedDict, total=False):
    """This project's config.json beside weights, or inside their file."""

    format: str
    format_version: int
    name: str
    network: dict[str, Any]
    preprocess: dict[str, Any]
    licence: str | None
    source: str | None
    training: dict[str, Any]
    # Of bundled networks.
    title: str
    task: str
    use: str
    data: str
    parameters: int
    precision: str
    scores: list[dict[str, object]]


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
    settings: Settings = field(default_factory=Settings)
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


def settings_beside(path: Path) -> Settings:
    """Those of the config.json that describes a file of weights, by the file's name."""
    if path.name.startswith(_OF_FOLDERS) and path.suffix in (".safetensors", ".bin"):
        return read_settings(path.with_name("config.json"))
    return {}


def read_settings(path: Path) -> Settings:
    """This project's settings in a config.json; `{}` where there is none or it is of others."""
    if not path.is_file():
        return {}
    return check_settings(read_json(path), str(path))


def settings_in_metadata(metadata: dict[str, str], path: Path) -> Settings:
    """The same from the header of a .safetensors file, or a .pth file's state dict."""
    text = metadata.get(FORMAT)
    if not text:
        return {}
    try:
        values = json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        raise WeightsError(f"the settings inside {path} are not valid JSON") from None
    return check_settings(values, str(path)) if isinstance(values, dict) else {}


def check_settings(values: dict[str, object], where: str) -> Settings:
    """`values` if they are this project's and of a version that is understood, else `{}`."""
    if values.get("format") != FORMAT:
        return {}
    version = values.get("format_version", 1)
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise WeightsError(
            f"{where} has format version {version!r} and this birefnet understands up to "
            f"{FORMAT_VERSION}: upgrade it (pip install -U birefnet)"
        )
    return cast(Settings, values)


def find_weights(folder: Path) -> list[Path]:
    """The files of weights of a directory: one, or all parts of a split one.

    Raises:
        WeightsError: there are none, or several that could be meant.
    """
    for index in ("model.safetensors.index.json", "pytorch_model.bin.index.json"):
        if (folder / index).is_file():
            return _parts(folder, folder / index)
    for usual in ("model.safetensors", "pytorch_model.bin", "model.pth"):
        if (folder / usual).is_file():
            return [folder / usual]
    for suffix in SUFFIXES:
        candidates = sorted(p for p in folder.glob(f"*{suffix}") if p.is_file())
        if len(candidates) == 1:
            return candidates
        if candidates:
            raise WeightsError(
                f"{folder} holds several files of weights ({some(p.name for p in candidates)}): "
                "give the path of one"
            )
    raise WeightsError(f"{folder} holds no file of weights ({', '.join(SUFFIXES)})")


def _parts(folder: Path, index: Path) -> list[Path]:
    parts = [folder / name for name in part_names(index)]
    for part in parts:
        if not part.is_file():
            raise WeightsError(f"{index} names {part.name!r}, which is not a file beside it")
    return parts


def part_names(index: Path) -> list[str]:
    """The files that the index of split weights names; they lie beside it and nowhere else."""
    parts = read_json(index).get("weight_map")
    names = list(parts.values()) if isinstance(parts, dict) else []
    for name in names:
        if not isinstance(name, str) or not re.fullmatch(r"\w[\w.\-]*", name):
            raise WeightsError(f"{index} names {name!r}, which is not a file beside it")
    if not names:
        raise WeightsError(f"{index} names no files")
    return list(dict.fromkeys(names))


def read_json(path: Path) -> dict[str, Any]:
    """A small JSON object, as data."""
    try:
        if path.stat().st_size > _MAX_CONFIG_BYTES:
            raise WeightsError(f"{path} is larger than a configuration file may be (1 MiB)")
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as failure:
        raise WeightsError(f"cannot read {path}: {first_line(failure)}") from None
    except (json.JSONDecodeError, RecursionError) as failure:
        raise WeightsError(f"{path} is not valid JSON ({first_line(failure)})") from None
    if not isinstance(values, dict):
        raise WeightsError(f"{path} should hold a JSON object, got {type(values).__name__}")
    return values


def some(names: Iterable[object], limit: int = 4) -> str:
    """The first of these names, for a message."""
    listed = [str(name) for name in names]
    more = f" and {len(listed) - limit} more" if len(listed) > limit else ""
    return ", ".join(listed[:limit]) + more


def first_line(failure: Exception) -> str:
    """The first line of what a library says of a failure, for a message."""
    lines = str(failure).strip().splitlines()
    return lines[0][:200].rstrip(".:; ") if lines else type(failure).__name__


# The catalogue is imported where it is needed: a bundled network starts sooner without it.

BUNDLED_MODEL = "nano"
BUNDLED = Path(__file__).parent / "bundled"


class Repository(NamedTuple):
    """A repository `owner/name` on Hugging Face at a branch, tag or commit."""

    repo: str
    revision: str = "main"

    def __str__(self) -> str:
        return self.repo if self.revision == "main" else f"{self.repo}@{self.revision}"


@dataclass(frozen=True)
class Located:
    """The meaning of a name of weights; nothing has been read or downloaded for it. One of:

    Attributes:
        name: as it was given.
        path: a file or folder of this machine; of a bundled network, its folder.
        is_bundled: whether the package carries it.
        checkpoint: an entry of the catalogue.
        repository: on Hugging Face.
        address: http(s), of a file.
    """

    name: str
    path: Path | None = None
    is_bundled: bool = False
    checkpoint: Checkpoint | None = None
    repository: Repository | None = None
    address: str | None = None

    @property
    def exported(self) -> str | None:
        """The suffix of a file that holds a whole network and that an engine runs as it is."""
        if self.checkpoint is not None:
            return ".onnx" if self.checkpoint.kind == "onnx" else None
        suffix = PurePosixPath(self.address or self.path or "").suffix.lower()
        return suffix if suffix in EXPORTED else None

    @property
    def onnx(self) -> Checkpoint | None:
        """The published ONNX file of the same network, or this entry if it is one."""
        if self.checkpoint is None:
            return None
        from birefnet.weights.catalogue import onnx_of

        return onnx_of(self.checkpoint)

    @property
    def absolute(self) -> str:
        """The name, so that it means the same in another working folder."""
        return str(self.path.absolute()) if self.path and not self.is_bundled else self.name


def locate(name: str | os.PathLike[str] | Located) -> Located:
    """Find out what `name` means. Nothing is downloaded.

    In this order: a bundled name, a name of the catalogue, an existing path, a Hugging Face id, an
    http(s) address. A path wins over an id and, where it ends as files of weights do, over a name
    of the catalogue; `./name` is always a path.

    Raises:
        UnknownModelError: no such name, and no such path; whether an id or an address leads to
            weights shows only when it is fetched.
    """
    if isinstance(name, Located):
        return name
    text = os.fspath(name)
    if isinstance(name, str):
        text = text.strip()
        if not text:
            raise UnknownModelError("the name of the model is empty; give one, or leave it out")
        if is_bundled(text):
            return Located(text, BUNDLED / text.lower(), is_bundled=True)
        if "://" in text:
            return Located(text, address=text)
    path = Path(text).expanduser()
    is_there = path.exists()
    is_word = isinstance(name, str) and "/" not in text and os.sep not in text
    is_word = is_word and path.suffix.lower() not in (*SUFFIXES, *EXPORTED)
    if is_there and not is_word:
        return Located(text, path)
    if isinstance(name, str):
        from birefnet.weights.catalogue import lookup, unknown_name

        if (checkpoint := lookup(text)) is not None:
            return Located(text, checkpoint=checkpoint)
        if is_there:
            return Located(text, path)
        if (repository := parse_repository(text)) is not None:
            return Located(text, repository=repository)
        if is_word:
            raise unknown_name(text, bundled_names())
    raise UnknownModelError(f"there is no file or directory {text}")


def default_model() -> str:
    """The model where none is named: BIREFNET_MODEL, or the one that the package carries."""
    return os.environ.get("BIREFNET_MODEL") or BUNDLED_MODEL


def bundled_names() -> list[str]:
    """Names of the networks that the package carries."""
    return sorted(p.parent.name for p in BUNDLED.glob("*/config.json"))


def is_bundled(name: str | os.PathLike[str]) -> bool:
    """Whether the package carries a network of this name, in any case of letters."""
    return isinstance(name, str) and name.strip().lower() in bundled_names()


def parse_repository(text: str) -> Repository | None:
    """`owner/name` or `owner/name@revision`; `None` for anything else, such as paths of files."""
    match = re.fullmatch(r"(\w[\w.\-]*/\w[\w.\-]*)(?:@(\w[\w.\-]*))?", text)
    if (
        match is None
        or PurePosixPath(match[1]).suffix.lower() in (*SUFFIXES, *EXPORTED)
        or ".." in text
    ):
        return None
    return Repository(match[1], match[2] or "main")
