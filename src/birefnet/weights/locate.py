"""Locate weights by name: a bundled or released network, a path, an id or an address."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

from birefnet.errors import UnknownModelError
from birefnet.weights.local import EXPORTED, SUFFIXES

if TYPE_CHECKING:
    from birefnet.weights.catalogue import Checkpoint

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
