"""Files and folders on this machine or behind a URL (s3, gs, http, …), under one small interface.

Local places are `pathlib.Path`; URLs are `upath.UPath` of the extra `urls`, which speaks the same
language over every protocol of fsspec.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import urlsplit

from birefnet import files
from birefnet.errors import BiRefNetError, MissingExtraError
from birefnet.imaging.encoding import write_atomic

if TYPE_CHECKING:
    from upath import UPath

Place: TypeAlias = "Path | UPath"

TABLE, SHARD = ".parquet", ".tar"

# Whose uploads appear whole or not at all; elsewhere a temporary name is renamed.
_ATOMIC = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "memory"}


def is_url(text: str) -> bool:
    """Whether what was typed names a protocol rather than a path (`C:\\a.jpg` is a path)."""
    return "://" in text


def to_place(text: str) -> Place:
    """A path, or what is behind a URL.

    Raises:
        MissingExtraError: a URL without the extra `urls`.
        BiRefNetError: a protocol that is not installed or does not exist.
    """
    if not is_url(text):
        return Path(text)
    try:
        from upath import UPath
    except ImportError:
        raise MissingExtraError("reading and writing URLs", "urls") from None
    try:
        place = UPath(text)
        _ = place.fs
    except ImportError:
        raise MissingExtraError(f"{urlsplit(text).scheme}:// addresses", "urls") from None
    except ValueError as error:
        raise BiRefNetError(f"{text!r} cannot be reached: {error}") from None
    return place


def everywhere(place: Place) -> str:
    """A name that means the same on each machine that shares it."""
    return str(place.absolute()) if isinstance(place, Path) else str(place)


def is_table(text: str) -> bool:
    """Whether an input is a table: a Parquet file, a folder of them, or WebDataset shards."""
    if Path(text).suffix.lower() in (TABLE, SHARD):
        return True
    place = to_place(text)
    return place.is_dir() and next(iter(place.glob(f"*{TABLE}")), None) is not None


def is_remote(place: Place) -> bool:
    return not isinstance(place, Path)


def name_of(place: Place) -> str:
    """The last part of the name, without the query of a web address."""
    return Path(urlsplit(str(place)).path).name if is_remote(place) else place.name


def identity(place: Place) -> str:
    """Equal for two places that are one file."""
    return str(place) if is_remote(place) else os.path.realpath(str(place))


def is_same(place: Place, other: Place) -> bool:
    """Whether two places are one file or folder, whatever they are called: links, `..`, the case of
    letters."""
    if is_remote(place) or is_remote(other):
        return str(place).rstrip("/") == str(other).rstrip("/")
    return files.is_same(str(place), str(other))


def is_within(place: Place, folder: Place) -> bool:
    """Whether a place is this folder or lies below it; it need not exist."""
    if is_remote(place) or is_remote(folder):
        return f"{place}/".startswith(f"{str(folder).rstrip('/')}/")
    real = Path(os.path.realpath(str(place)))
    return any(is_same(one, folder) for one in (real, *real.parents))


def version_of(place: Place) -> str:
    """Changes when the file changes: size and time of change, or what a server says of it.

    Raises:
        OSError: the file cannot be looked at.
    """
    if isinstance(place, Path):
        stat = place.stat()
        return f"{stat.st_size}-{stat.st_mtime_ns}"
    facts: dict[str, Any] = place.fs.info(place.path)
    stamps = ("ETag", "etag", "mtime", "LastModified", "created")
    changed = next((facts[key] for key in stamps if key in facts), "")
    return f"{facts.get('size')}-{changed}"


def walk(
    folder: Place, on_error: Callable[[Exception], None]
) -> Iterator[tuple[Place, list[str], list[str]]]:
    """As `os.walk`: each folder below, its folders (remove some to leave them out) and files."""
    if isinstance(folder, Path):
        for root, folders, files in os.walk(folder, onerror=on_error):
            yield Path(root), folders, files
    else:
        for place, folders, files in folder.walk(on_error=on_error):
            yield place, folders, files


def write(place: Place, data: bytes) -> None:
    """Write a file so that it is there whole or not at all, with the folders it needs.

    Raises:
        OSError: it cannot be written.
    """
    if isinstance(place, Path):
        files.check_path(place)
        place.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(place, data)
        return
    fs, path = place.fs, place.path
    if place.protocol in _ATOMIC:
        fs.pipe_file(path, data)
        return
    fs.makedirs(os.path.dirname(path), exist_ok=True)
    temporary = f"{path}.{secrets.token_hex(6)}.tmp"
    try:
        fs.pipe_file(temporary, data)
        fs.mv(temporary, path)
    except BaseException:
        if fs.exists(temporary):
            fs.rm_file(temporary)
        raise
