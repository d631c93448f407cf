"""One picture of a run: where it comes from, and the name and format of its result."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from birefnet.errors import UsageError
from birefnet.files import StoragePath, is_url, to_path
from birefnet.imaging.formats import SUFFIXES, is_picture
from birefnet.imaging.values import Kind

STREAM = "-"
TABLE, SHARD = ".parquet", ".tar"
FORMATS = ("png", "webp", "jpeg", "tiff", "avif", "gif")
INDEX = ".json"  # names of files that list the objects of a picture
LONGEST_NAME = 255  # bytes, on nearly all file systems
SHORT_NAME = 200  # bytes of a name that has to be cut
_SHORTENED = re.compile(r"~[0-9a-f]{8}$")
_SUFFIX_OF = {"jpeg": ".jpg", "tiff": ".tif", "apng": ".png"}


@dataclass(frozen=True)
class Job:
    """One picture to cut out.

    Attributes:
        source: the file, or `None` for standard input.
        target: the file to write, or `None` for standard output.
        inside: where the source lies below the folder that was given; its name for a single file.
        animation: the format of its own if it is animated (gif, webp, apng) or has several pages
            (tiff).
    """

    source: StoragePath | None
    target: StoragePath | None
    inside: Path
    animation: str | None = None

    @property
    def name(self) -> str:
        """The source, for messages."""
        return str(self.source) if self.source else "standard input"


class InputError(UsageError):
    """Inputs or outputs that make no sense together: a usage error."""


def suffix_of(format: str) -> str:
    """`.jpg` for jpeg: how files of a format are called."""
    return _SUFFIX_OF.get(format, f".{format}")


def result_format(job: Job, requested: str | None) -> str:
    """The format of a job's result: png, webp, jpeg, tiff, avif; gif or apng for animations.

    Args:
        requested: one of `FORMATS`; `None` for png, or that of animations and several pages.
    """
    if job.animation == "tiff":
        return requested or "tiff"
    if job.animation:
        return {None: job.animation, "png": "apng"}.get(requested, requested or "")
    return requested or "png"


def requested_format(format: str | None, output: str | None, inputs: Sequence[str]) -> str | None:
    """The format that `--format` or the name of an output file asks for, if any.

    Raises:
        InputError: one that cannot be written, or two that differ.
    """
    named = None
    if output and _has_foreign_suffix(output, inputs):
        raise InputError(
            f"-o {output} has no suffix of a picture; give one of {', '.join(FORMATS)}, or end the "
            "name of a folder in /"
        )
    if output and _is_named_as_picture(output) and is_folder_output(output, inputs):
        raise InputError(
            f"-o {output} is the name of one picture, but there can be several results; give a "
            "folder, or end its name in /"
        )
    if output and output != STREAM and not is_folder_output(output, inputs):
        named = SUFFIXES[Path(output).suffix.lower()]
        if named not in FORMATS:
            raise InputError(f"{named} cannot be written; choose one of {', '.join(FORMATS)}")
    if format is not None and format not in FORMATS:
        raise InputError(f"--format is {format!r}; choose one of {', '.join(FORMATS)}")
    if format and named and format != named:
        raise InputError(f"--format {format} and -o {output} differ; leave one out")
    return format or named


def _is_named_as_picture(output: str) -> bool:
    """Whether a new output has the suffix of a picture, and no slash at its end."""
    return not _is_named_as_folder(output) and Path(output).suffix.lower() in SUFFIXES


def _has_foreign_suffix(output: str, inputs: Sequence[str]) -> bool:
    """Whether one picture would go into a new folder with the name of a file, as `cutout.pdf`."""
    if not _is_one_picture(inputs) or _is_named_as_folder(output):
        return False
    suffix = Path(output).suffix.lower()
    return suffix[1:].isalpha() and suffix not in {*SUFFIXES, TABLE}


def _is_named_as_folder(output: str) -> bool:
    """Whether an output is a folder that is there, or ends in a slash."""
    return output.endswith(("/", os.sep)) or to_path(output).is_dir()


def _is_one_picture(inputs: Sequence[str]) -> bool:
    """Whether the inputs are one file, or a stream."""
    return len(inputs) == 1 and (inputs[0] == STREAM or is_one(inputs[0]))


def is_one(text: str) -> bool:
    """Whether this is one file, or a pipe."""
    path = to_path(text)
    return path.exists() and not path.is_dir()


def is_table(text: str) -> bool:
    """Whether an input is a table: a Parquet file, a folder of them, or WebDataset shards."""
    if Path(text).suffix.lower() in (TABLE, SHARD):
        return True
    path = to_path(text)
    return path.is_dir() and next(iter(path.glob(f"*{TABLE}")), None) is not None


def is_folder_output(output: str, inputs: Sequence[str]) -> bool:
    """Whether `-o OUTPUT` means a folder: it is one, ends in a slash, or has no picture's suffix.

    For several inputs, a folder or a pattern it always does.
    """
    return not (_is_one_picture(inputs) and _is_named_as_picture(output))


# Names of results: how they are shortened, and how those of an earlier run are recognised.


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
