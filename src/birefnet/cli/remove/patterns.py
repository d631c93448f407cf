"""Patterns such as `shots/**/*.jpg`, in paths and in URLs."""

from __future__ import annotations

import glob
import os
import re
from pathlib import Path

from birefnet.cli.remove.storage import StoragePath, is_url, to_path

_UNESCAPE = re.compile(r"\[([*?[])\]")


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
