"""From what people type to jobs: which pictures, and where each result goes.

Nothing is read but folders and the first bytes of files, nothing written.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain, count
from pathlib import Path

from birefnet.cli.remove.jobs import (
    INDEX,
    LONGEST_NAME,
    STREAM,
    InputError,
    Job,
    is_folder_output,
    is_one,
    kind_in,
    result_format,
    results_among,
    shortened,
    suffix_of,
    typed_results,
)
from birefnet.cli.remove.manifest import NAME, Outputs
from birefnet.files import (
    StoragePath,
    check_path,
    folded,
    identity,
    is_pattern,
    is_same,
    is_url,
    is_within,
    matches_of,
    name_of,
    pattern_top,
    safe_name,
    to_path,
    walk,
)
from birefnet.imaging.formats import is_picture, is_raw
from birefnet.imaging.io import animation_format


@dataclass(frozen=True)
class Search:
    """The jobs behind what was typed: files, folders, patterns, URLs and `-`.

    Iterating looks through the folders one at a time, in order of names, and gives each picture
    once, with its target. Little is remembered (two numbers per picture at most), so folders may
    hold millions; a later iteration finds what came meanwhile. Hidden files and links to folders
    are passed over.

    Without `output` a target is `NAME.KIND.EXT` beside its source, and standard output for standard
    input; in a folder it is `NAME.EXT` at the same path below it. Where that lies among the
    inputs it is `NAME.KIND.EXT` as well, or `NAME.SUFFIX.KIND.EXT` (`a.jpg.cutout.png`) if its
    source does not lie beside it. Where two pictures of one folder would share a name they keep
    their suffix in it (`a.jpg.png`, `a.png.png`), and after that they are numbered.

    No output is an input, of this run or an earlier one: an output folder below an input is not
    searched; elsewhere `NAME.KIND.EXT` beside `NAME` and `NAME.SUFFIX.KIND.EXT` are passed over,
    and so is what a manifest in the same or a higher folder of the search calls an output. Of a
    folder that is given as an input and is not an output folder, only names with a kind count as
    outputs: cut-outs may be cut out again.

    Args:
        inputs, output: as typed.
        kind: of result, as `Options.kind`.
        format: of the results, one of `FORMATS`; `None` for png (an animation keeps its own).
        suffix: of the targets; `None` for that of the format.
        recursive: look into folders inside folders.
        stream: what came on standard input.
        pipes: what came from other pipes among the inputs, by their names.
        manifest: of this run, if there will be one.
        on_error: told of folders that cannot be read.
        on_pass: told, in a sentence, of what is not a picture though its name says so.
    """

    inputs: tuple[str, ...]
    output: str | None = None
    kind: str = "cutout"
    format: str | None = None
    suffix: str | None = None
    recursive: bool = True
    stream: bytes = b""
    pipes: Mapping[str, bytes] = field(default_factory=dict)
    manifest: Path | None = None
    on_error: Callable[[Exception], None] = lambda error: None
    on_pass: Callable[[str], None] = lambda sentence: None
    _outputs: dict[Path, Outputs] = field(default_factory=dict)
    _searched: dict[str, bool] = field(default_factory=dict)
    _results: dict[str, set[str]] = field(default_factory=dict)

    @property
    def is_stream(self) -> bool:
        """Whether the one result goes to standard output."""
        return self.output == STREAM or (self.output is None and STREAM in self.inputs)

    @property
    def folder(self) -> StoragePath | None:
        """Where all results go, if that is a folder."""
        if self.output is None or self.is_stream or not is_folder_output(self.output, self.inputs):
            return None
        return to_path(self.output)

    @cached_property
    def _tops(self) -> tuple[StoragePath, ...]:
        """The folders that are searched: those that were given, and those where patterns begin."""
        tops = []
        for text in self.inputs:
            if text != STREAM and is_pattern(text):
                tops.append(pattern_top(text))
            elif text != STREAM and to_path(text).is_dir():
                tops.append(to_path(text))
        return tuple(tops)

    @cached_property
    def _typed(self) -> frozenset[int]:
        """The files that were given by name."""
        names = (text for text in self.inputs if text != STREAM and not is_pattern(text))
        return frozenset(hash(folded(identity(to_path(text)))) for text in names)

    @cached_property
    def _typed_folders(self) -> tuple[StoragePath, ...]:
        """Where several files that were given by name lie, as a shell gives those of a pattern."""
        if len(self.inputs) == 1:
            return ()
        names = (text for text in self.inputs if text != STREAM and not is_pattern(text))
        folders = (to_path(text).parent for text in names if is_one(text))
        return tuple({str(folder): folder for folder in folders}.values())

    def _is_searched(self, folder: StoragePath) -> bool:
        """Whether pictures in this folder would be found as inputs: by us, or by a shell that is
        given the same pattern again."""
        key = str(folder)
        if key not in self._searched:
            self._searched[key] = any(
                is_within(folder, top) and not self._leaves_out(folder, top) for top in self._tops
            ) or any(is_same(folder, typed) for typed in self._typed_folders)
        return self._searched[key]

    def _leaves_out(self, folder: StoragePath, top: StoragePath) -> bool:
        """Whether this folder lies in the output folder, and that below `top`."""
        out = self.folder
        if out is None or is_same(out, top) or not is_within(out, top):
            return False
        return is_within(folder, out)

    def check(self) -> None:
        """Find what is wrong with the command before anything is done.

        Raises:
            InputError: an input that is not there, a pattern that matches nothing, one output for
                several inputs, or an output that is an input.
        """
        for text in self.inputs:
            _check_input(text)
        if self.output is not None and not self.is_stream and not is_url(self.output):
            try:
                check_path(self.output)
            except OSError as error:
                raise InputError(f"-o {self.output}: {error.strerror}") from None
        if self.is_stream:
            if (count := self.count()) != 1:
                raise InputError(
                    f"standard output holds one picture, got {count}; give -o FOLDER instead"
                )
        elif self.folder is not None:
            if self.folder.is_file():
                raise InputError(f"{self.output!r} is a file; several results need a folder")
        elif self.output is not None:
            target = to_path(self.output)
            for job in self:
                if job.source is not None and is_same(job.source, target):
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
                target = to_path(self.output)
                if self.suffix is not None:
                    target = target.with_suffix(self.suffix)
                yield from (replace(job, target=target) for job in jobs)
            else:
                yield from self._named(jobs, taken)

    def _probed(self, job: Job) -> Job:
        if job.source is None:
            return replace(job, animation=animation_format(self.stream))
        if isinstance(job.source, Path):
            there: Path | bytes = self.pipes.get(str(job.source), job.source)
            return replace(job, animation=animation_format(there))
        # Behind a URL only the name is looked at: opening each file would take a request.
        return replace(
            job, animation="gif" if name_of(job.source).lower().endswith(".gif") else None
        )

    # Finding

    def _batches(self) -> Iterator[list[Job]]:
        """Jobs without target: those of one folder at a time, single files that follow each other
        together."""
        # A single folder gives each file once; a pattern follows links to folders.
        is_folder = len(self.inputs) == 1 and not is_pattern(self.inputs[0])
        seen: set[int] | None = None if is_folder else set()
        singles: list[Job] = []
        former = self._former()
        typed = typed_results(self.inputs)
        for text in self.inputs:
            if text == STREAM:
                singles.append(Job(None, None, Path("stdin")))
                continue
            if is_pattern(text):
                singles += _unseen(self._matching(text, former), seen)
                continue
            path = to_path(text)
            if not path.is_dir():
                is_output = len(self.inputs) > 1 and any(path in known for known in former)
                if text in typed or is_output:
                    self.on_pass(f"{text} is passed over: it is the result of another input")
                elif len(self.inputs) > 1 and path.name == NAME:
                    self.on_pass(f"{text} is passed over: it is a manifest, no picture")
                else:
                    singles += _unseen([Job(path, None, Path(name_of(path)))], seen)
                continue
            if singles:
                yield singles
                singles = []
            for jobs in self._in_folder(path, former):
                yield _unseen(jobs, seen)
        if singles:
            yield singles

    def _in_folder(self, top: StoragePath, former: list[Outputs]) -> Iterator[list[Job]]:
        out = self.folder
        below = out is not None and is_within(out, top) and not is_same(out, top)
        manifests: dict[Path, Outputs] = {}
        for here, folders, files in walk(top, self.on_error):
            folders[:] = sorted(
                name
                for name in folders
                if self.recursive
                and not name.startswith(".")
                and not (below and out is not None and is_same(here / name, out))
            )
            inside = Path(os.path.relpath(str(here), str(top)))
            if NAME in files and isinstance(here, Path):
                manifests[here] = self._outputs_by(here / NAME, here)
            known = [
                outputs
                for folder, outputs in manifests.items()
                if f"{here}/".startswith(f"{folder}/")
            ]
            results = results_among(files)
            if raw := sum(is_raw(name) and not name.startswith(".") for name in files):
                them = "a raw camera file is" if raw == 1 else f"{raw:,} raw camera files are"
                self.on_pass(f"in {here} {them} passed over; develop them first")
            yield [
                Job(here / name, None, inside / name)
                for name in sorted(files)
                if is_picture(name)
                and not name.startswith(".")
                and name not in results
                and not _is_output(here / name, [*former, *known], top)
                and self._is_regular(here / name)
            ]

    def _matching(self, pattern: str, former: list[Outputs]) -> list[Job]:
        """The pictures that match, without what earlier runs have made."""
        jobs = []
        top = pattern_top(pattern)
        results: dict[str, set[str]] = {}
        left_out: dict[str, bool] = {}
        for match in matches_of(pattern):
            if not is_picture(match.name) or match.is_dir():
                continue
            parent = str(match.parent)
            if parent not in results:
                results[parent] = results_among(path.name for path in match.parent.iterdir())
                left_out[parent] = self._leaves_out(match.parent, top)
            if match.name in results[parent] or left_out[parent]:
                continue
            if not _is_output(match, former, top) and self._is_regular(match):
                jobs.append(Job(match, None, Path(match.name)))
        return jobs

    def _former(self) -> list[Outputs]:
        """The outputs in the manifests of the output folder and of this run."""
        folder = self.folder
        if not isinstance(folder, Path):
            return []
        paths = {folder / NAME, *([self.manifest] if self.manifest else ())}
        former = [self._outputs_by(path, folder) for path in sorted(paths) if path.is_file()]
        for outputs in former:
            outputs.is_own = True
        return former

    def _outputs_by(self, manifest: Path, folder: Path) -> Outputs:
        outputs = self._outputs.setdefault(manifest, Outputs(manifest, folder))
        outputs.refresh()
        return outputs

    def _is_regular(self, path: StoragePath) -> bool:
        """Whether this is a file: reading a pipe might never end. What cannot be looked at is one,
        and fails by itself."""
        if not isinstance(path, Path):
            return True
        try:
            mode = path.stat().st_mode
        except OSError:
            return True
        if not stat.S_ISREG(mode):
            self.on_pass(f"{path} is passed over: it is {_sort_of(mode)}, not a file")
        return stat.S_ISREG(mode)

    def _finds(self, target: StoragePath) -> bool:
        """Whether iterating would give this file as a source."""
        if hash(folded(identity(target))) in self._typed:
            return True
        if not target.exists() or not is_picture(target.name) or target.name.startswith("."):
            return False
        parent = target.parent
        if not self._is_searched(parent) or _is_output(target, self._outputs.values(), parent):
            return False
        if str(parent) not in self._results:
            self._results.clear()
            self._results[str(parent)] = results_among(each.name for each in parent.iterdir())
        return target.name not in self._results[str(parent)]

    # Naming

    def _named(self, jobs: list[Job], taken: set[int]) -> Iterator[Job]:
        sources = {folded(identity(job.source)) for job in jobs if job.source is not None}
        shared = Counter(_fold(next(self._candidates(job))) for job in jobs)
        for job in jobs:
            for index, target in enumerate(self._candidates(job)):
                key = _fold(target)
                if index == 0 and shared[key] > 1:
                    continue
                if key in taken or folded(identity(target)) in sources or self._finds(target):
                    continue
                taken.add(key)
                yield replace(job, target=target)
                break

    def _candidates(self, job: Job) -> Iterator[StoragePath]:
        """Names for a result, from the plainest on."""
        folder, kind = self.folder, self.kind
        if folder is not None:
            parent = folder.joinpath(*map(safe_name, job.inside.parent.parts))
            is_among = self._is_searched(parent)
            infix = f".{kind}" if is_among else ""
            is_apart = is_among and (job.source is None or not is_same(job.source.parent, parent))
        else:
            is_apart = False
            parent, infix = (job.source.parent if job.source else Path()), f".{kind}"
        suffix = self.suffix or suffix_of(result_format(job, self.format))
        # Objects of a picture put a number before the suffix.
        room = LONGEST_NAME - (len(".1000000.webp") if suffix == INDEX else 0)
        plain = () if is_apart else ((job.inside.stem, infix),)
        ends = chain(
            plain,
            ((job.inside.name, infix), (job.inside.name, f".{kind}")),
            ((job.inside.name, f".{kind}-{number}") for number in count(2)),
        )
        for stem, end in ends:
            if len(os.fsencode(f"{stem}{end}{suffix}")) > room:
                stem = shortened(stem)
            yield parent / safe_name(f"{stem}{end}{suffix}")


def _check_input(text: str) -> None:
    if text == STREAM:
        return
    if is_pattern(text):
        if not any(is_picture(match.name) and not match.is_dir() for match in matches_of(text)):
            raise InputError(f"no picture matches {text!r}; check the pattern")
    elif not to_path(text).exists():
        raise InputError(f"there is no file or folder {text!r}; check the path")


def _is_output(path: StoragePath, manifests: Iterable[Outputs], top: StoragePath) -> bool:
    """Whether a manifest calls this file an output; of a folder that is given as input, and is not
    the output folder, only names with a kind count: cut-outs may be cut out again."""
    return any(
        path in outputs
        and (outputs.is_own or kind_in(path.name) is not None or not is_same(outputs.folder, top))
        for outputs in manifests
    )


def _sort_of(mode: int) -> str:
    kinds = ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"))
    return next((name for is_kind, name in kinds if is_kind(mode)), "a device")


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


def _fold(path: StoragePath) -> int:
    """For comparison: some file systems do not tell `A.png` from `a.png`."""
    return hash(folded(str(path)))
