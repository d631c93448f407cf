"""One picture of a run: where it comes from, where its result goes, and in which format."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from birefnet.cli.remove.storage import TABLE, StoragePath, to_path
from birefnet.errors import UsageError
from birefnet.imaging.formats import SUFFIXES

STREAM = "-"
FORMATS = ("png", "webp", "jpeg", "tiff", "avif", "gif")
INDEX = ".json"  # names of files that list the objects of a picture
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
    if output and output != STREAM and not is_folder_output(output, inputs):
        named = SUFFIXES[Path(output).suffix.lower()]
        if named not in FORMATS:
            raise InputError(f"{named} cannot be written; choose one of {', '.join(FORMATS)}")
    if format is not None and format not in FORMATS:
        raise InputError(f"--format is {format!r}; choose one of {', '.join(FORMATS)}")
    if format and named and format != named:
        raise InputError(f"--format {format} and -o {output} differ; leave one out")
    return format or named


def _has_foreign_suffix(output: str, inputs: Sequence[str]) -> bool:
    """Whether one picture would go into a new folder with the name of a file, as `cutout.pdf`."""
    if len(inputs) != 1 or output.endswith(("/", os.sep)) or to_path(output).is_dir():
        return False
    suffix = Path(output).suffix.lower()
    is_single = inputs[0] == STREAM or is_one(inputs[0])
    return is_single and suffix[1:].isalpha() and suffix not in {*SUFFIXES, TABLE}


def is_one(text: str) -> bool:
    """Whether this is one file, or a pipe."""
    path = to_path(text)
    return path.exists() and not path.is_dir()


def is_folder_output(output: str, inputs: Sequence[str]) -> bool:
    """Whether `-o OUTPUT` means a folder: it is one, ends in a slash, or has no picture's suffix.

    For several inputs, a folder or a pattern it always does.
    """
    if output.endswith(("/", os.sep)) or to_path(output).is_dir():
        return True
    if len(inputs) == 1 and (inputs[0] == STREAM or is_one(inputs[0])):
        return Path(output).suffix.lower() not in SUFFIXES
    return True
