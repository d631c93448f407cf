"""The plan of a `birefnet remove`: the command line, checked before a network is loaded."""

from __future__ import annotations

import io
import json
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from birefnet.cli.options import flag_of, message_of
from birefnet.cli.remove.jobs import (
    INDEX,
    STREAM,
    TABLE,
    InputError,
    Job,
    is_one,
    is_table,
    requested_format,
)
from birefnet.cli.remove.manifest import NAME
from birefnet.cli.remove.options import RunOptions
from birefnet.cli.remove.search import Search
from birefnet.errors import BiRefNetError, MissingExtraError
from birefnet.files import StoragePath, is_url, to_path, version_of
from birefnet.imaging.formats import end_of_picture, sniff
from birefnet.imaging.picture import Limits, Remote, Source
from birefnet.inference.stream import Profile
from birefnet.options import OPTIONS, Options
from birefnet.terminal import warn
from birefnet.weights.locate import default_model

if TYPE_CHECKING:
    from concurrent.futures import Future

    from birefnet.inference.predictor import Predictor


@dataclass(frozen=True)
class Plan:
    """Which pictures, and what to do with them.

    Attributes:
        search: finds the jobs.
        options: what to make of each picture, checked, with its files read.
        model: as `birefnet.load` takes it.
        run: how the work is done, as typed.
        is_table: the input is a table of a cluster.
        manifest: the file with the outcome of each picture, or `None`.
        fingerprint: of options and model; another one makes finished pictures unfinished.
        profile: where to add up the time of each stage, or `None`.
        loading: of the model, where it has started.
    """

    search: Search
    options: Options
    model: str
    run: RunOptions
    is_table: bool = False
    manifest: Path | None = None
    fingerprint: str = ""
    profile: Profile | None = None
    loading: Future[Predictor] | None = None

    @property
    def limits(self) -> Limits:
        """Pictures beyond them are refused."""
        return Limits.of_megapixels(self.run.max_megapixels)

    def source_of(self, job: Job) -> Source:
        """The picture of a job, for the predictor."""
        if job.source is None:
            return self.search.stream
        if (data := self.search.pipes.get(str(job.source))) is not None:
            return Remote(lambda: io.BytesIO(data), str(job.source))
        return readable(job.source)


def readable(path: StoragePath) -> Source:
    """A path for the decoder, or a file that opens where it is needed."""
    return path if isinstance(path, Path) else Remote(lambda: path.open("rb"), str(path))


def make_plan(
    inputs: list[str],
    output: str | None,
    options: Options,
    run: RunOptions,
    *,
    model: str | None = None,
    loading: Future[Predictor] | None = None,
) -> Plan:
    """Check the command, and lay out its work.

    Raises:
        InputError: a command that makes no sense: missing files, contradicting options, one output
            for several inputs, an output that is an input.
    """
    model, limits = model or default_model(), Limits.of_megapixels(run.max_megapixels)
    if run.high_resolution:
        options = replace(options, passes=2)
    inputs = [STREAM if text in _STDIN else text for text in inputs]
    try:
        typed = options.checked()
        options = typed.prepared(limits)
        options = replace(options, format=requested_format(options.format, output, inputs))
        if options.format == "jpeg" and options.is_transparent:
            raise InputError("a JPEG cannot be transparent; give --background, or png or webp")
        search = Search(
            tuple(inputs),
            output,
            options.kind,
            options.format,
            INDEX if options.objects else None,
            run.recursive,
            _standard_input(inputs, limits),
            _pipes(inputs, output, limits),
        )
        table = run.engine == "ray" and len(inputs) == 1 and is_table(inputs[0])
        search = replace(search, manifest=_manifest(run.manifest, search, table))
        search.check()
    except (InputError, MissingExtraError):
        raise
    except BiRefNetError as error:
        raise InputError(message_of(error)) from error
    if search.is_stream:
        if options.objects:
            raise InputError("standard output holds one picture, not --objects; give -o FOLDER")
        if run.as_json:
            raise InputError("--json and a picture both want standard output; give -o FILE")
        if sys.stdout.isatty():
            raise InputError("standard output is a terminal; give -o FILE, or redirect it")
    if run.report is not None and run.report.suffix.lower() != ".html":
        raise InputError(f"--report is {run.report}; end it in .html")
    if run.report is not None and (table or search.is_stream):
        raise InputError("--report shows results that are files; give -o FOLDER, or leave it out")
    if table:
        _check_table(search, typed)
        if limits != Limits():
            raise InputError("--max-megapixels is for files, not for tables; leave it out")
    elif run.column or run.name_column:
        raise InputError("--column and --name-column are for one table and --engine ray")
    elif run.engine == "ray" and search.is_stream:
        raise InputError("--engine ray reads and writes files; give -o FOLDER")
    if run.watch and not any(text != STREAM and to_path(text).is_dir() for text in inputs):
        raise InputError("--watch waits for pictures in folders; give one as input")
    return Plan(
        search,
        options,
        model,
        run,
        table,
        search.manifest,
        _fingerprint(typed, model),
        Profile() if run.profile else None,
        loading,
    )


OF_TABLES = frozenset(
    ("kind", "background", "refine", "format", "quality", "metadata", "resolution", "batch_size")
)
"""Options that a table on a cluster takes."""

_STDIN = ("/dev/stdin", "/dev/fd/0", "/proc/self/fd/0")


def _standard_input(inputs: list[str], limits: Limits) -> bytes:
    if STREAM not in inputs:
        return b""
    # One byte above the limit is enough for the decoder to refuse it.
    return _one_picture(sys.stdin.buffer.read(limits.max_bytes + 1), "standard input")


def _pipes(inputs: list[str], output: str | None, limits: Limits) -> dict[str, bytes]:
    """The contents of pipes and devices among the inputs, such as a shell's `<(...)`: they can be
    read once."""
    contents = {}
    for text in inputs:
        if text == STREAM or is_url(text):
            continue
        path = Path(text)
        if not path.exists() or path.is_dir() or path.is_file():
            continue
        if output is None:
            raise InputError(f"{text} is a pipe, so no result can lie beside it; give -o FILE")
        try:
            with path.open("rb") as file:
                contents[text] = _one_picture(file.read(limits.max_bytes + 1), text)
        except OSError as error:
            raise InputError(f"{text} cannot be read: {error.strerror}; give a file") from error
    return contents


def _one_picture(data: bytes, name: str) -> bytes:
    """The same; says where other pictures follow the first."""
    rest = data[end_of_picture(data) :]
    if rest and (kind := sniff(rest)):
        warn(
            f"{name} holds more after its first picture (a {kind} begins there); only the first is "
            "cut out: give files for several"
        )
    return data


def _check_table(search: Search, typed: Options) -> None:
    if search.output is None:
        raise InputError("give -o FOLDER for files, or -o NAME.parquet for another table")
    others = [flag_of(name) for name in OPTIONS if name not in OF_TABLES and typed.is_set(name)]
    if others:
        raise InputError(f"{', '.join(others)}: for files, not for tables; leave them out")


def _manifest(typed: str | None, search: Search, is_table: bool) -> Path | None:
    if typed is not None:
        if is_url(typed):
            raise InputError(f"--manifest is {typed!r}; give a file on this machine")
        return Path(typed) if typed else None
    folder = search.folder
    if is_table and str(search.output).endswith(TABLE):
        return None
    is_single = (
        not is_table
        and len(search.inputs) == 1
        and (search.inputs[0] == STREAM or is_one(search.inputs[0]))
    )
    return folder / NAME if isinstance(folder, Path) and not is_single else None


def _fingerprint(options: Options, model: str) -> str:
    """Options that are not the usual ones, and model, as text; files among them count with their
    size and time of change."""
    usual = asdict(Options())
    chosen = asdict(replace(options, batch_size=None))
    parts = {name: value for name, value in chosen.items() if value != usual[name]}
    parts["model"] = model
    for name in ("background", "guide", "model"):
        path = Path(str(parts.get(name)))
        if parts.get(name) and path.exists():
            parts[name] = [str(path.resolve()), version_of(path)]
    return json.dumps(parts, default=str)
