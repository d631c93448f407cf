"""Names of results: how they are made, and how those of an earlier run are recognised."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import get_args

from birefnet.cli.remove.jobs import STREAM
from birefnet.cli.remove.storage import is_url
from birefnet.imaging.formats import is_picture
from birefnet.imaging.values import Kind

LONGEST_NAME = 255  # bytes, on nearly all file systems
SHORT_NAME = 200  # bytes of a name that has to be cut
_SHORTENED = re.compile(r"~[0-9a-f]{8}$")


def shortened(name: str) -> str:
    """The beginning of a long name with 8 digits that stand for all of it."""
    data = os.fsencode(name)
    digits = hashlib.blake2b(data, digest_size=4).hexdigest()
    return f"{data[: SHORT_NAME - 9].decode(errors='ignore')}~{digits}"


def results_among(names: Iterable[str]) -> set[str]:
    """Of the files of one folder, those that an earlier run has written: `a.cutout.png` where
    `a.jpg` lies beside, and `a.jpg.cutout.png` anyway."""
    pictures = [name for name in names if is_picture(name)]
    sources = {*pictures, *(Path(name).stem for name in pictures)}
    return {
        name
        for name in pictures
        if kind_in(name) and _is_source(_without_number(name).rpartition(".")[0], sources)
    }


def typed_results(inputs: Sequence[str]) -> set[str]:
    """Of files that are given by name, the results of others among them, as a shell's pattern
    gives them in a rerun."""
    folders: dict[str, dict[str, str]] = {}
    for text in inputs:
        if text != STREAM and not is_url(text):
            folders.setdefault(os.path.dirname(text), {})[os.path.basename(text)] = text
    return {
        names[name] for names in folders.values() if len(names) > 1 for name in results_among(names)
    }


def _is_source(stem: str, sources: set[str]) -> bool:
    return stem in sources or is_picture(stem) or bool(_SHORTENED.search(stem))


def kind_in(name: str) -> str | None:
    """`cutout` in `a.cutout.png` and `a.jpg.cutout-2.png`: the mark of a result that was written
    beside its source."""
    kind = _without_number(name).rpartition(".")[2].partition("-")[0]
    return kind if kind in get_args(Kind) else None


def _without_number(name: str) -> str:
    """`a.cutout` of `a.cutout.png`, and of `a.cutout.2.png`, which is one object of a picture."""
    stem = Path(name).stem
    rest, _, number = stem.rpartition(".")
    return rest if number.isdecimal() else stem
