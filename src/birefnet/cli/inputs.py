"""From what people type to jobs: which pictures, and where each result goes.

Nothing is read but folders and the first bytes of files, nothing written.
"""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from birefnet.cli.animation import animation_format
from birefnet.cli.places import TABLE, Place, identity, is_url, name_of, to_place, walk
from birefnet.errors import UsageError
from birefnet.imaging.formats import SUFFIXES, is_picture

STREAM = "-"
TYPES = ("cutout", "mask", "trimap", "foreground", "colour", "green", "white", "blur", "overlay")
FORMATS = ("png", "webp", "jpeg", "tiff", "avif", "gif")
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

    source: Place | None
    target: Place | None
    inside: Path
    animation: str | None = None

    @property
    def name(self) -> str:
        """The source, for messages."""
        return str(self.source) if self.source else "standard input"


class InputError(UsageError):
    """Inputs or outputs that make no sense together: a usage error."""


@dataclass(frozen=True)
class Search:
    """The jobs behind what was typed: files, folders, patterns, URLs and `-`.

    Iterating looks through the folders one at a time, in order of names, and gives each picture
    once, with its target. Little is remembered (two numbers per picture at most), so folders may
    hold millions; a later iteration finds what came meanwhile. Hidden files, links to folders, the
    output folder and what an earlier run left beside a picture are passed over.

    Without `output` a target is `NAME.KIND.EXT` beside its source, and standard output for standard
    input; in a folder it is `NAME.EXT` at the same place below it. Where two pictures of one folder
    would share a name they keep their suffix in it (`a.jpg.png`, `a.png.png`), and after that they
    are numbered. No target is an input.

    Args:
        inputs, output: as typed.
        kind: one of `TYPES`.
        format: of the results, one of `FORMATS`; `None` for png (an animation keeps its own).
        suffix: of the targets; `None` for that of the format.
        recursive: look into folders inside folders.
        stream: what came on standard input.
        on_error: told of folders that cannot be read.
    """

    inputs: tuple[str, ...]
    output: str | None = None
    kind: str = "cutout"
    format: str | None = None
    suffix: str | None = None
    recursive: bool = True
    stream: bytes = b""
    on_error: Callable[[Exception], None] = lambda error: None

    @property
    def is_stream(self) -> bool:
        """Whether the one result goes to standard output."""
        return self.output == STREAM or (self.output is None and STREAM in self.inputs)

    @property
    def folder(self) -> Place | None:
        """Where all results go, if that is a folder."""
        if self.output is None or self.is_stream or not is_folder_output(self.output, self.inputs):
            return None
        return to_place(self.output)

    def check(self) -> None:
        """Find what is wrong with the command before anything is done.

        Raises:
            InputError: an input that is not there, a pattern that matches nothing, one output for
                several inputs, or an output that is an input.
        """
        for text in self.inputs:
            _check_input(text)
        if self.is_stream:
            count = sum(len(batch) for batch in self._batches())
            if count != 1:
                raise InputError(
                    f"standard output holds one picture, got {count}; give -o FOLDER instead"
                )
        elif self.folder is not None:
            if self.folder.is_file():
                raise InputError(f"{self.output!r} is a file; several results need a folder")
        elif self.output is not None:
            target = identity(to_place(self.output))
            for job in self:
                if job.source is not None and identity(job.source) == target:
                    raise InputError(f"{self.output!r} is the input; give another -o")

    def count(self) -> int:
        """How many pictures an iteration would give now."""
        return sum(len(batch) for batch in self._batches())

    def __iter__(self) -> Iterator[Job]:
        taken: set[int] = set()
        for batch in self._batches():
            jobs = [self._probed(job) for job in batch]
            if self.is_stream:
                yield from jobs
            elif self.output is not None and self.folder is None:
                target = to_place(self.output)
                if self.suffix is not None:
                    target = target.with_suffix(self.suffix)
                yield from (replace(job, target=target) for job in jobs)
            else:
                yield from self._named(jobs, taken)

    def _probed(self, job: Job) -> Job:
        if job.source is None:
            return replace(job, animation=animation_format(self.stream))
        if isinstance(job.source, Path):
            return replace(job, animation=animation_format(job.source))
        # Behind a URL only the name is looked at: opening each file would take a request.
        return replace(
            job, animation="gif" if name_of(job.source).lower().endswith(".gif") else None
        )

    # Finding

    def _batches(self) -> Iterator[list[Job]]:
        """Jobs without target: those of one folder at a time, single files that follow each other
        together."""
        seen: set[int] | None = set() if len(self.inputs) > 1 else None
        singles: list[Job] = []
        for text in self.inputs:
            if text == STREAM:
                singles.append(Job(None, None, Path("stdin")))
                continue
            if _is_pattern(text):
                singles += _unseen(_matches(text), seen)
                continue
            place = to_place(text)
            if not place.is_dir():
                singles += _unseen([Job(place, None, Path(name_of(place)))], seen)
                continue
            if singles:
                yield singles
                singles = []
            for jobs in self._in_folder(place):
                yield _unseen(jobs, seen)
        if singles:
            yield singles

    def _in_folder(self, folder: Place) -> Iterator[list[Job]]:
        skip = identity(self.folder) if self.folder is not None else None
        top = str(folder)
        for here, folders, files in walk(folder, self.on_error):
            folders[:] = sorted(
                name
                for name in folders
                if self.recursive and not name.startswith(".") and identity(here / name) != skip
            )
            inside = Path(os.path.relpath(str(here), top))
            results = results_among(files)
            yield [
                Job(here / name, None, inside / name)
                for name in sorted(files)
                if is_picture(name) and not name.startswith(".") and name not in results
            ]

    def _finds(self, target: Place) -> bool:
        """Whether iterating would give this file as a source."""
        path = identity(target)
        for text in self.inputs:
            if text == STREAM or _is_pattern(text):
                continue
            top = identity(to_place(text))
            if path == top:
                return True
            if _is_below(path, top) and target.exists():
                inside = Path(os.path.relpath(path, top))
                is_searched = self.recursive or len(inside.parts) == 1
                is_hidden = any(part.startswith(".") for part in inside.parts)
                is_skipped = self.folder is not None and _is_below(identity(self.folder), top)
                if is_searched and not is_hidden and not is_skipped:
                    return is_picture(inside.name) and _kind_in(inside.name) is None
        return False

    # Naming

    def _named(self, jobs: list[Job], taken: set[int]) -> Iterator[Job]:
        sources = {identity(job.source) for job in jobs if job.source is not None}
        shared = Counter(_fold(next(self._candidates(job))) for job in jobs)
        for job in jobs:
            for index, target in enumerate(self._candidates(job)):
                key = _fold(target)
                if index == 0 and shared[key] > 1:
                    continue
                if key in taken or identity(target) in sources or self._finds(target):
                    continue
                taken.add(key)
                yield replace(job, target=target)
                break

    def _candidates(self, job: Job) -> Iterator[Place]:
        """Names for a result, from the plainest on."""
        folder, kind = self.folder, self.kind
        if folder is not None:
            parent, infix = folder.joinpath(*job.inside.parent.parts), ""
        else:
            parent, infix = (job.source.parent if job.source else Path()), f".{kind}"
        suffix = self.suffix or suffix_of(result_format(job, self.format))
        yield parent / f"{job.inside.stem}{infix}{suffix}"
        yield parent / f"{job.inside.name}{infix}{suffix}"
        yield parent / f"{job.inside.name}.{kind}{suffix}"
        number = 2
        while True:
            yield parent / f"{job.inside.name}.{kind}-{number}{suffix}"
            number += 1


def _check_input(text: str) -> None:
    if text == STREAM:
        return
    if _is_pattern(text):
        if not _matches(text):
            raise InputError(f"no picture matches {text!r}; check the pattern")
    elif not to_place(text).exists():
        raise InputError(f"there is no file or folder {text!r}; check the path")


def _is_pattern(text: str) -> bool:
    if not glob.has_magic(text):
        return False
    # A name may look like a pattern; in web addresses `?` starts the query.
    return not text.startswith(("http://", "https://")) and not to_place(text).exists()


def _matches(pattern: str) -> list[Job]:
    if is_url(pattern):
        parts = pattern.split("/")
        first = next(index for index, part in enumerate(parts) if glob.has_magic(part))
        found: Iterable[Place] = to_place("/".join(parts[:first])).glob("/".join(parts[first:]))
        matches: list[Place] = sorted(found, key=str)
    else:
        matches = [Path(match) for match in sorted(glob.glob(pattern, recursive=True))]
    results: dict[str, set[str]] = {}
    jobs = []
    for match in matches:
        if not is_picture(match.name) or not match.is_file():
            continue
        parent = str(match.parent)
        if parent not in results:
            results[parent] = results_among(place.name for place in match.parent.iterdir())
        if match.name not in results[parent]:
            jobs.append(Job(match, None, Path(match.name)))
    return jobs


def results_among(names: Iterable[str]) -> set[str]:
    """Of the files of one folder, those like `a.cutout.png` where `a.jpg` lies beside: an earlier
    run has written them."""
    pictures = [name for name in names if is_picture(name)]
    sources = {*pictures, *(Path(name).stem for name in pictures)}
    return {
        name
        for name in pictures
        if _kind_in(name) and _without_number(name).rpartition(".")[0] in sources
    }


def _kind_in(name: str) -> str | None:
    """`cutout` in `a.cutout.png`: the mark of a result that was written beside its source."""
    kind = _without_number(name).rpartition(".")[2]
    return kind if kind in TYPES else None


def _without_number(name: str) -> str:
    """`a.cutout` of `a.cutout.png`, and of `a.cutout.2.png`, which is one object of a picture."""
    stem = Path(name).stem
    rest, _, number = stem.rpartition(".")
    return rest if number.isdecimal() else stem


def _unseen(jobs: list[Job], seen: set[int] | None) -> list[Job]:
    """Those whose file has not come before; `None` if none can come twice."""
    if seen is None:
        return jobs
    kept = []
    for job in jobs:
        key = hash(identity(job.source)) if job.source is not None else None
        if key is None or key not in seen:
            kept.append(job)
        if key is not None:
            seen.add(key)
    return kept


def _is_below(path: str, folder: str) -> bool:
    return path.startswith(folder.rstrip("/" + os.sep) + ("/" if is_url(folder) else os.sep))


def _fold(place: Place) -> int:
    """For comparison: some file systems do not tell `A.png` from `a.png`."""
    return hash(str(place).casefold())


def suffix_of(format: str) -> str:
    """`.jpg` for jpeg: how files of a format are called."""
    return _SUFFIX_OF.get(format, f".{format}")


def result_format(job: Job, asked: str | None) -> str:
    """What to write: png, webp, jpeg, tiff, avif; gif or apng for animations.

    Args:
        asked: one of `FORMATS`; `None` for png, or that of animations and several pages.
    """
    if job.animation == "tiff":
        return asked or "tiff"
    if job.animation:
        return {None: job.animation, "png": "apng"}.get(asked, asked or "")
    return asked or "png"


def asked_format(format: str | None, output: str | None, inputs: Sequence[str]) -> str | None:
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
    if len(inputs) != 1 or output.endswith(("/", os.sep)) or to_place(output).is_dir():
        return False
    suffix = Path(output).suffix.lower()
    is_one = inputs[0] == STREAM or to_place(inputs[0]).is_file()
    return is_one and suffix[1:].isalpha() and suffix not in {*SUFFIXES, TABLE}


def is_folder_output(output: str, inputs: Sequence[str]) -> bool:
    """Whether `-o OUTPUT` means a folder: it is one, ends in a slash, or has no picture's suffix.

    For several inputs, a folder or a pattern it always does.
    """
    if output.endswith(("/", os.sep)) or to_place(output).is_dir():
        return True
    if len(inputs) == 1 and (inputs[0] == STREAM or to_place(inputs[0]).is_file()):
        return Path(output).suffix.lower() not in SUFFIXES
    return True
