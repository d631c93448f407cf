"""From what people type to jobs: which pictures, and where each result goes.

Pure: nothing is read but folders, nothing written.
"""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from birefnet.errors import BiRefNetError
from birefnet.imaging.formats import SUFFIXES, is_picture

STREAM = "-"
TYPES = ("cutout", "mask", "foreground", "colour", "green", "white", "blur", "overlay")
FORMATS = ("png", "webp", "jpeg", "tiff", "avif", "gif")
_SUFFIX_OF = {"jpeg": ".jpg", "tiff": ".tif", "apng": ".png"}


@dataclass(frozen=True)
class Job:
    """One picture to cut out.

    Attributes:
        source: the file, or `None` for standard input.
        target: the file to write, or `None` for standard output.
        inside: where the source lies below the folder that was given; its name for a single file.
        animation: the source's own format if it is animated: gif, webp or apng.
    """

    source: Path | None
    target: Path | None
    inside: Path
    animation: str | None = None

    @property
    def name(self) -> str:
        """The source, for messages."""
        return str(self.source) if self.source else "standard input"


class InputError(BiRefNetError):
    """Inputs or outputs that make no sense together: a usage error."""


def find_sources(
    inputs: Iterable[str], *, skip: Path | None = None, recursive: bool = True
) -> list[Job]:
    """The pictures behind files, folders, patterns and `-`, each once, without targets yet.

    Folders are searched through, in order of names; hidden files, links to folders, `skip` and what
    an earlier run left beside a picture are passed over.

    Raises:
        InputError: a file that is not there, or a pattern that matches nothing.
    """
    jobs: list[Job] = []
    seen: set[Path] = set()
    for text in inputs:
        for job in _expand(text, skip, recursive):
            if job.source is not None:
                real = job.source.resolve()
                if real in seen:
                    continue
                seen.add(real)
            jobs.append(job)
    return jobs


def _expand(text: str, skip: Path | None, recursive: bool) -> Iterator[Job]:
    if text == STREAM:
        yield Job(None, None, Path("stdin"))
        return
    path = Path(text)
    if path.is_dir():
        yield from _search(path, skip, recursive)
    elif path.exists():
        yield Job(path, None, Path(path.name))
    elif glob.has_magic(text):
        matches = [Path(match) for match in sorted(glob.glob(text, recursive=True))]
        pictures = [match for match in matches if match.is_file() and is_picture(match)]
        if not pictures:
            raise InputError(f"no picture matches {text!r}; check the pattern")
        yield from (Job(match, None, Path(match.name)) for match in _without_results(pictures))
    else:
        raise InputError(f"there is no file or folder {text!r}; check the path")


def _search(folder: Path, skip: Path | None, recursive: bool) -> Iterator[Job]:
    excluded = skip.resolve() if skip and skip.resolve() != folder.resolve() else None
    for root, folders, files in os.walk(folder):
        here = Path(root)
        folders[:] = sorted(
            name
            for name in folders
            if recursive and not name.startswith(".") and (here / name).resolve() != excluded
        )
        pictures = [
            here / name for name in sorted(files) if is_picture(name) and not name.startswith(".")
        ]
        for picture in _without_results(pictures):
            yield Job(picture, None, picture.relative_to(folder))


def _without_results(pictures: list[Path]) -> list[Path]:
    """Drop `a.cutout.png` where `a.jpg` lies beside it: an earlier run has written it."""
    beside: dict[Path, set[str]] = {}  # folder → names of its pictures, with and without suffix

    def is_result(picture: Path) -> bool:
        source, _, kind = picture.stem.rpartition(".")
        if kind not in TYPES:
            return False
        if picture.parent not in beside:
            names = [name for name in os.listdir(picture.parent) if is_picture(name)]
            beside[picture.parent] = {*names, *(Path(name).stem for name in names)}
        return source in beside[picture.parent]

    return [picture for picture in pictures if not is_result(picture)]


def result_format(job: Job, asked: str | None) -> str:
    """What to write: png, webp, jpeg, tiff, avif; gif or apng for animations.

    Args:
        asked: one of `FORMATS`; `None` for png, or the animation's own.
    """
    if job.animation:
        return {None: job.animation, "png": "apng"}.get(asked, asked or "")
    return asked or "png"


def asked_format(format: str | None, output: str | None, inputs: list[str]) -> str | None:
    """The format that `--format` or the name of an output file asks for, if any.

    Raises:
        InputError: one that cannot be written, or two that differ.
    """
    named = None
    if output and output != STREAM and not is_folder_output(output, inputs):
        named = SUFFIXES[Path(output).suffix.lower()]
        if named not in FORMATS:
            raise InputError(f"{named} cannot be written; choose one of {', '.join(FORMATS)}")
    if format is not None and format not in FORMATS:
        raise InputError(f"--format is {format!r}; choose one of {', '.join(FORMATS)}")
    if format and named and format != named:
        raise InputError(f"--format {format} and -o {output} differ; leave one out")
    return format or named


def is_folder_output(output: str, inputs: list[str]) -> bool:
    """Whether `-o OUTPUT` means a folder: it is one, ends in a slash, or has no picture's suffix.

    For several inputs, a folder or a pattern it always does.
    """
    if Path(output).is_dir() or output.endswith(("/", os.sep)):
        return True
    if len(inputs) == 1 and (inputs[0] == STREAM or Path(inputs[0]).is_file()):
        return Path(output).suffix.lower() not in SUFFIXES
    return True


def assign_targets(
    jobs: list[Job], inputs: list[str], output: str | None, *, kind: str, format: str | None
) -> list[Job]:
    """Give each job its target; no two share one, and none is an input.

    Without `output`, `NAME.KIND.EXT` beside the source, and standard output for standard input.
    In a folder, `NAME.EXT` at the same place below it. Where two sources would share a name, they
    keep their suffix in it (`a.jpg.png`, `a.png.png`), and after that they are numbered.

    Args:
        jobs: from `find_sources`.
        inputs: as they were typed.
        output: as it was typed.
        kind: one of `TYPES`.
        format: of the results, one of `FORMATS`; `None` for png (an animation keeps its own).

    Raises:
        InputError: one output for several inputs, or an output that is an input.
    """
    if output == STREAM or (output is None and any(job.source is None for job in jobs)):
        if len(jobs) != 1:
            raise InputError(
                f"standard output holds one picture, got {len(jobs)}; give -o FOLDER instead"
            )
        return [replace(jobs[0], target=None)]
    if output is not None and not is_folder_output(output, inputs):
        target = Path(output)
        _refuse_input(target, jobs)
        return [replace(job, target=target) for job in jobs]
    if output is not None and Path(output).is_file():
        raise InputError(f"{output!r} is a file; several results need a folder")
    return _name_targets(jobs, Path(output) if output else None, kind, format)


def _name_targets(jobs: list[Job], folder: Path | None, kind: str, format: str | None) -> list[Job]:
    sources = {job.source.resolve() for job in jobs if job.source is not None}

    def candidates(job: Job) -> Iterator[Path]:
        base = job.source.parent if folder is None and job.source else None
        parent = base if base is not None else (folder or Path()) / job.inside.parent
        result = result_format(job, format)
        suffix = _SUFFIX_OF.get(result, f".{result}")
        infix = f".{kind}" if folder is None else ""
        yield parent / f"{job.inside.stem}{infix}{suffix}"
        yield parent / f"{job.inside.name}{infix}{suffix}"
        yield parent / f"{job.inside.name}.{kind}{suffix}"
        number = 2
        while True:
            yield parent / f"{job.inside.name}.{kind}-{number}{suffix}"
            number += 1

    shared = Counter(_fold(next(candidates(job))) for job in jobs)
    taken: set[str] = set()
    named = []
    for job in jobs:
        for index, target in enumerate(candidates(job)):
            key = _fold(target)
            if index == 0 and shared[key] > 1:
                continue
            if key not in taken and target.resolve() not in sources:
                taken.add(key)
                named.append(replace(job, target=target))
                break
    return named


def _fold(path: Path) -> str:
    """For comparison: some file systems do not tell `A.png` from `a.png`."""
    return str(path).casefold()


def _refuse_input(target: Path, jobs: list[Job]) -> None:
    real = target.resolve()
    for job in jobs:
        if job.source is not None and job.source.resolve() == real:
            raise InputError(f"{str(target)!r} is the input; give another -o")
