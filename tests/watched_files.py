"""Which files this process opens, for tests of what must not be read."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

_WATCHING: list[list[str]] = []


@contextlib.contextmanager
def opened() -> Iterator[list[str]]:
    """Names of all files and folders that are opened or listed within the block."""
    names: list[str] = []
    _WATCHING.append(names)
    try:
        yield names
    finally:
        _WATCHING.remove(names)


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _WATCHING and event in ("open", "os.listdir", "os.scandir", "glob.glob"):
        for names in _WATCHING:
            names.append(str(arguments[0]))


sys.addaudithook(_hook)
