"""Files and folders on this machine or behind a URL (s3, gs, http, …), under one small interface.

Local paths are `pathlib.Path`; URLs are `upath.UPath` of the extra `urls`, which speaks the same
language over every protocol of fsspec.
"""

from __future__ import annotations

import glob
import os
import re
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import urlsplit

from birefnet import files
from birefnet.errors import BiRefNetError, MissingExtraError, needs_extra
from birefnet.imaging.encoding import write_atomic

if TYPE_CHECKING:
    from upath import UPath

StoragePath: TypeAlias = "Path | UPath"

TABLE, SHARD = ".parquet", ".tar"

# Whose uploads appear whole or not at all; elsewhere a temporary name is renamed.
_ATOMIC = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "memory"}

_UNESCAPE = re.compile(r"\[([*?[])\]")  # what `glob.escape` wrote


def is_url(text: str) -> bool:
    """Whether what was typed names a protocol rather than a path (`C:\\a.jpg` is a path)."""
    return "://" in text


def to_path(text: str) -> StoragePath:
    """A path, or what is behind a URL.

    Raises:
        MissingExtraError: a URL without the extra `urls`.
        BiRefNetError: a protocol that is not installed or does not exist.
    """
    if not is_url(text):
        return Path(text)
    with needs_extra("urls", "reading and writing URLs"):
        from upath import UPath
    try:
        path = UPath(text)
        _ = path.fs
    except ImportError:
        raise MissingExtraError(f"{urlsplit(text).scheme}:// addresses", "urls") from None
    except ValueError as error:
        raise BiRefNetError(f"{text!r} cannot be reached: {error}") from None
    return path


def absolute(path: StoragePath) -> str:
    """A name that means the same on each machine that shares it."""
    return str(path.absolute()) if isinstance(path, Path) else str(path)


def is_table(text: str) -> bool:
    """Whether an input is a table: a Parquet file, a folder of them, or WebDataset shards."""
    if Path(text).suffix.lower() in (TABLE, SHARD):
        return True
    path = to_path(text)
    return path.is_dir() and next(iter(path.glob(f"*{TABLE}")), None) is not None


def is_remote(path: StoragePath) -> bool:
    return not isinstance(path, Path)


def name_of(path: StoragePath) -> str:
    """The last part of the name, without the query of a web address."""
    return Path(urlsplit(str(path)).path).name if is_remote(path) else path.name


def identity(path: StoragePath) -> str:
    """The same text for two paths of one file."""
    return str(path) if is_remote(path) else os.path.realpath(str(path))


def is_same(path: StoragePath, other: StoragePath) -> bool:
    """Whether two paths are one file or folder, whatever they are called: links, `..`, the case of
    letters."""
    if is_remote(path) or is_remote(other):
        return str(path).rstrip("/") == str(other).rstrip("/")
    return files.is_same(str(path), str(other))


def is_within(path: StoragePath, folder: StoragePath) -> bool:
    """Whether a path is this folder or lies below it; it need not exist."""
    if is_remote(path) or is_remote(folder):
        return f"{path}/".startswith(f"{str(folder).rstrip('/')}/")
    real = Path(os.path.realpath(str(path)))
    return any(is_same(one, folder) for one in (real, *real.parents))


def version_of(path: StoragePath) -> str:
    """Changes when the file changes: size and time of change, or what a server says of it.

    Raises:
        OSError: the file cannot be looked at.
    """
    if isinstance(path, Path):
        stat = path.stat()
        return f"{stat.st_size}-{stat.st_mtime_ns}"
    facts: dict[str, object] = path.fs.info(path.path)
    stamps = ("ETag", "etag", "mtime", "LastModified", "created")
    changed = next((facts[key] for key in stamps if key in facts), "")
    return f"{facts.get('size')}-{changed}"


def walk(
    folder: StoragePath, on_error: Callable[[Exception], None]
) -> Iterator[tuple[StoragePath, list[str], list[str]]]:
    """As `os.walk`: each folder below, its folders (remove some to leave them out) and files."""
    if isinstance(folder, Path):
        for root, folders, files in os.walk(folder, onerror=on_error):
            yield Path(root), folders, files
    else:
        for path, folders, files in folder.walk(on_error=on_error):
            yield path, folders, files


def write(path: StoragePath, data: bytes) -> None:
    """Write a file so that it is there whole or not at all, with the folders it needs.

    Raises:
        OSError: it cannot be written.
    """
    if isinstance(path, Path):
        files.check_path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, data)
        return
    fs, name = path.fs, path.path
    if path.protocol in _ATOMIC:
        fs.pipe_file(name, data)
        return
    fs.makedirs(os.path.dirname(name), exist_ok=True)
    temporary = f"{name}.{secrets.token_hex(6)}.tmp"
    try:
        fs.pipe_file(temporary, data)
        fs.mv(temporary, name)
    except BaseException:
        if fs.exists(temporary):
            fs.rm_file(temporary)
        raise


# Patterns such as `shots/**/*.jpg`, in paths and in URLs.


def is_pattern(text: str) -> bool:
    if not glob.has_magic(text):
        return False
    # A name may look like a pattern; in web addresses `?` starts the query.
    return not text.startswith(("http://", "https://")) and not to_path(text).exists()


def matches_of(pattern: str) -> list[StoragePath]:
    """The files and folders that match, sorted."""
    if not is_url(pattern):
        return [Path(match) for match in sorted(glob.glob(_literal(pattern), recursive=True))]
    parts = pattern.split("/")
    first = next(index for index, part in enumerate(parts) if glob.has_magic(part))
    return sorted(to_path("/".join(parts[:first])).glob("/".join(parts[first:])), key=str)


def pattern_top(pattern: str) -> StoragePath:
    """The folder in which a pattern begins to match."""
    parts = _literal(pattern).split("/")
    first = next((index for index, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    top = "/".join(parts[:first]) or ("/" if pattern.startswith("/") else ".")
    return to_path(top if is_url(pattern) else _UNESCAPE.sub(r"\1", top))


def _literal(pattern: str) -> str:
    """The same, with the brackets in the names of folders that are there escaped."""
    if is_url(pattern):
        return pattern
    *folders, last = pattern.replace(os.sep, "/").split("/")
    known = ""
    for index, part in enumerate(folders):
        if glob.has_magic(part):
            if not os.path.isdir(known + part):
                break
            folders[index] = glob.escape(part)
        known += f"{part}/"
    return "/".join([*folders, last])
