"""From what a user writes to files on the disk: names, paths, ids and addresses of networks."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from birefnet.errors import UnknownModelError
from birefnet.weights.download import cached, fetch, file_sha256
from birefnet.weights.files import SUFFIXES
from birefnet.weights.hub import (
    Repository,
    cached_repository,
    fetch_repository,
    parse_repository,
)
from birefnet.weights.local import Source, at_path, bundled, bundled_names, is_bundled
from birefnet.weights.records import Checkpoint
from birefnet.weights.table import CHECKPOINTS, lookup, unknown_name
from birefnet.weights.transfer import Report


@dataclass(frozen=True)
class Missing:
    """Weights that would have to be downloaded.

    Attributes:
        name: for messages.
        address: of the file, or of the repository's page.
        bytes: how large the file is, perhaps roughly; `None` where that is not known.
        checkpoint: the table's entry, if it is one.
    """

    name: str
    address: str
    bytes: int | None = None
    checkpoint: Checkpoint | None = None

    def __str__(self) -> str:
        size = f"about {self.bytes / 1e6:,.0f} MB" if self.bytes else "of unknown size"
        return f"{self.name} ({self.address}, {size})"


def resolve(
    source: str | os.PathLike[str],
    *,
    cache_dir: str | os.PathLike[str] | None = None,
    offline: bool | None = None,
    progress: bool | Report | None = None,
) -> Source:
    """Find, and if need be fetch, the files that `source` means.

    In this order: a bundled name, a name of the table, an existing path, a Hugging Face id, an
    http(s) address. A path wins over an id, and `./name` is always a path.

    Raises:
        WeightsError: nothing of the kind is known or there.
    """
    found = _find(source)
    if isinstance(found, Source):
        return found
    if isinstance(found, Repository):
        folder = fetch_repository(found, cache_dir=cache_dir, offline=offline, progress=progress)
        local = at_path(folder, str(found))
        local.name = str(found)
        return local
    path = fetch(found, cache_dir=cache_dir, offline=offline, progress=progress)
    if isinstance(found, str):
        return at_path(path, found)
    return Source(found.name, [path], found.addresses[0], checkpoint=found)


def missing(
    source: str | os.PathLike[str], *, cache_dir: str | os.PathLike[str] | None = None
) -> Missing | None:
    """What `resolve` would download for `source`; `None` where all of it is there.

    Raises:
        WeightsError: nothing of the kind is known or there.
    """
    found = _find(source)
    if isinstance(found, Source):
        return None
    if isinstance(found, Repository):
        there = cached_repository(found, cache_dir=cache_dir)
        return None if there else Missing(str(found), found.page)
    if cached(found, cache_dir=cache_dir):
        return None
    if isinstance(found, str):
        return Missing(found, found)
    return Missing(found.name, found.addresses[0], found.approximate_bytes, found)


def _find(source: str | os.PathLike[str]) -> Source | Checkpoint | Repository | str:
    """What is here, or else the table's entry, repository or address to fetch it from."""
    if isinstance(source, os.PathLike):
        return at_path(Path(source), os.fspath(source))
    text = source.strip()
    if (carried := bundled(text)) is not None:
        return carried
    if "://" in text:
        return text
    checkpoint = lookup(text)
    is_word = "/" not in text and os.sep not in text
    path = Path(text).expanduser()
    if not (checkpoint and is_word) and path.exists():
        return at_path(path, text)
    if checkpoint is not None:
        _require_network(checkpoint)
        return checkpoint
    repository = parse_repository(text)
    if repository is not None:
        return repository
    raise _unknown(text)


def check_name(source: str) -> None:
    """Refuse what `resolve` knows nothing of, without fetching anything.

    Raises:
        UnknownModelError: no such name, and no such path; whether an id or an address leads to
            weights shows only when it is fetched.
    """
    text = source.strip()
    if is_bundled(text) or "://" in text or Path(text).expanduser().exists():
        return
    if lookup(text) is None and parse_repository(text) is None:
        raise _unknown(text)


def _unknown(text: str) -> UnknownModelError:
    if "/" in text or os.sep in text or Path(text).suffix.lower() in SUFFIXES:
        return UnknownModelError(f"there is no file or directory {text}")
    return unknown_name(text, bundled_names())


def _require_network(checkpoint: Checkpoint) -> None:
    if checkpoint.kind == "onnx":
        raise UnknownModelError(
            f"{checkpoint.name} is an ONNX file, which runs as it is (`birefnet.load`, `--model "
            f"{checkpoint.name}`) and holds no weights to train or convert"
        )
    if checkpoint.kind == "backbone":
        raise UnknownModelError(
            f"{checkpoint.name} is a backbone to start training from, not a whole network"
        )


def recognise(source: Source, backbone: str) -> Checkpoint | None:
    """The table's entry of a local file: by checksum, or by the name of the file or its folder.

    A name counts only if the entry has the same backbone, for files are renamed.
    """
    if source.checkpoint is not None:
        return source.checkpoint
    path = source.files[0]
    size = path.stat().st_size
    same_size = [c for c in CHECKPOINTS.values() if c.kind == "network" and c.bytes == size]
    if any(c.sha256 for c in same_size):
        actual = file_sha256(path)
        for checkpoint in same_size:
            if checkpoint.sha256 == actual:
                return checkpoint
    # Hugging Face's cache calls the folder of a repository models--owner--name.
    folders = [p.name.removeprefix("models--").replace("--", "/") for p in path.absolute().parents]
    names = [source.origin, path.name, path.stem, *folders[:3]]
    for name in names:
        found = lookup(name)
        if found is not None and found.kind == "network" and found.preset == backbone:
            return found
    return None
