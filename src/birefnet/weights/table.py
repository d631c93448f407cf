"""Released checkpoints by name: `CHECKPOINTS`, and the names that find them."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from types import MappingProxyType

from birefnet.errors import UnknownModelError
from birefnet.weights.catalogue import ENTRIES
from birefnet.weights.records import Checkpoint, Score

__all__ = ["CHECKPOINTS", "Checkpoint", "Score", "find", "lookup"]

CHECKPOINTS: Mapping[str, Checkpoint] = MappingProxyType({entry.name: entry for entry in ENTRIES})


def _names(checkpoint: Checkpoint) -> Iterator[str]:
    yield checkpoint.name
    yield from checkpoint.aliases
    if checkpoint.repo:
        yield checkpoint.repo
        yield checkpoint.repo.rpartition("/")[2]
    if checkpoint.filename != "model.safetensors":
        yield checkpoint.filename
        yield PurePosixPath(checkpoint.filename).stem


def _index() -> dict[str, str]:
    index: dict[str, str] = {}
    for checkpoint in ENTRIES:
        for name in _names(checkpoint):
            index.setdefault(name.lower(), checkpoint.name)
    return index


_INDEX = _index()


def lookup(name: str) -> Checkpoint | None:
    """The checkpoint that `name` means, or `None`.

    Takes names, aliases, Hugging Face ids and the file names of releases, in any case of letters.
    """
    found = _INDEX.get(name.lower())
    return None if found is None else CHECKPOINTS[found]


def onnx_of(checkpoint: Checkpoint) -> Checkpoint | None:
    """The published ONNX file of the same network; of such a file, itself."""
    if checkpoint.kind == "onnx":
        return checkpoint
    return CHECKPOINTS.get(checkpoint.onnx or f"{PurePosixPath(checkpoint.filename).stem}.onnx")


def find(name: str, others: Sequence[str] = ()) -> Checkpoint:
    """As `lookup`, but an unknown name is a `WeightsError` that lists what is near.

    `others` are names that are known besides those of the table.
    """
    found = lookup(name)
    if found is None:
        raise unknown_name(name, others)
    return found


def unknown_name(name: str, others: Sequence[str] = ()) -> UnknownModelError:
    """The sentence for a name that nothing has."""
    near = difflib.get_close_matches(name.lower(), [*others, *_INDEX], n=3, cutoff=0.5)
    short = [*others, *(c.name for c in ENTRIES if c.kind == "network" and c.repo)]
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(short)}"
    return UnknownModelError(f"no model is called {name!r}; {hint} (all: `birefnet models list`)")
