"""Living beside other packs, some of which have a Python module called `birefnet` of their own.

Three things happen there. A pack puts its folder on `sys.path` and imports `birefnet.models…` from
it (ComfyUI_BiRefNet_ll): with this package installed, Python would look only here. A pack replaces
`sys.modules["birefnet"]` while it loads a network (ComfyUI-RMBG): this package could then import
nothing more. Both are cured here, in a module that imports nothing heavy, because ComfyUI runs
`prestartup_script.py` before it chooses a GPU.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import birefnet

_OURS = birefnet  # whatever the name will mean later


def share_name(folders: Iterable[str | Path]) -> list[str]:
    """Let `birefnet.X` also be found in packs that have a folder `birefnet`.

    Args:
        folders: where packs lie, as ComfyUI's `custom_nodes`.

    Returns:
        The folders that were added to this package's search path, behind its own.
    """
    own = {str(Path(path).resolve()) for path in _OURS.__path__}
    added = []
    for folder in map(Path, folders):
        packs = sorted(folder.iterdir()) if folder.is_dir() else []
        for path in (pack / "birefnet" for pack in packs):
            if path.is_dir() and str(path.resolve()) not in own:
                _OURS.__path__.append(str(path))
                own.add(str(path.resolve()))
                added.append(str(path))
    return added


@contextmanager
def own_name() -> Iterator[None]:
    """While this lasts, `birefnet` means this package, whoever took the name in the meantime."""
    package = sys.modules.get("birefnet")
    sys.modules["birefnet"] = _OURS
    try:
        yield
    finally:
        if package is not None:
            sys.modules["birefnet"] = package
