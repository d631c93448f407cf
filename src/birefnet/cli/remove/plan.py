"""What `birefnet remove` is asked to do, checked before a network is loaded."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from birefnet.cli.common import warn
from birefnet.cli.options import message_of
from birefnet.cli.remove.inputs import INDEX, STREAM, InputError, Search, asked_format, is_one
from birefnet.cli.remove.manifest import NAME
from birefnet.cli.remove.storage import TABLE, is_table, is_url, to_place, version_of
from birefnet.errors import BiRefNetError, MissingExtraError
from birefnet.imaging.formats import end_of_picture, sniff
from birefnet.imaging.picture import Limits
from birefnet.inference.profiling import Profile
from birefnet.options import Options
from birefnet.weights.local import default_model

if TYPE_CHECKING:
    from concurrent.futures import Future

    from birefnet.inference.predictor import Predictor

Skip = Literal["finished", "existing", "nothing"]


@dataclass(frozen=True)
class Plan:
    """Which pictures, and what to do with them.

    Attributes:
        search: finds the jobs.
        settings: the same for all.
        model, device, dtype: as `birefnet.load` takes them.
        engine: `ray` for a cluster; otherwise this machine, with the engine of that name.
        is_table: the input is a table of a cluster; `column` holds its pictures and `name_column`
            names their files.
        skip: pictures that the manifest calls finished, those whose output exists too, or none.
        manifest: the file that says what became of each picture, or `None`.
        fingerprint: of settings and model; another one makes finished pictures unfinished.
        retries: of a picture whose reading or writing failed in a way that may pass.
        watch: go on with pictures that come later.
        workers: threads that read, and as many that write (on a cluster: networks); `None` for
            the usual number.
        as_json: report for programs.
        profile: where to add up the time of each stage, or `None`.
        report: where the HTML report goes, or `None`.
        limits: which pictures are refused as too large.
        loading: of the model, where it has started.
    """

    search: Search
    settings: Options
    model: str
    device: str = "auto"
    dtype: str = "auto"
    engine: str = "auto"
    is_table: bool = False
    column: str | None = None
    name_column: str | None = None
    skip: Skip = "nothing"
    manifest: Path | None = None
    fingerprint: str = ""
    retries: int = 0
    watch: bool = False
    workers: int | None = None
    as_json: bool = False
    profile: Profile | None = None
    report: Path | None = None
    limits: Limits = field(default_factory=Limits)
    loading: Future[Predictor] | None = None


def plan(
    inputs: list[str],
    output: str | None,
    settings: Options,
    *,
    model: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    engine: str = "auto",
    column: str | None = None,
    name_column: str | None = None,
    overwrite: bool | None = None,
    recursive: bool = True,
    manifest: str | None = None,
    retries: int = 0,
    watch: bool = False,
    workers: int | None = None,
    as_json: bool = False,
    profile: bool = False,
    report: Path | None = None,
    limits: Limits | None = None,
    loading: Future[Predictor] | None = None,
) -> Plan:
    """Check the command, and lay out its work.

    Args:
        overwrite: do all pictures; `False`: none whose output exists; `None`: those that the
            manifest does not call finished.
        manifest: its path; `None` for `manifest.jsonl` in the output folder, if there is one and
            more than one picture may go there; empty for none.

    Raises:
        InputError: a command that makes no sense: missing files, contradicting options, one output
            for several inputs, an output that is an input.
    """
    model, limits = model or default_model(), limits or Limits()
    inputs = [STREAM if text in _STDIN else text for text in inputs]
    try:
        typed = settings.checked()
        settings = typed.prepared(limits)
        settings = replace(settings, format=asked_format(settings.format, output, inputs))
        search = Search(
            tuple(inputs),
            output,
            settings.kind,
            settings.format,
            INDEX if settings.objects else None,
            recursive,
            _standard_input(inputs, limits),
            _pipes(inputs, output, limits),
        )
        table = engine == "ray" and len(inputs) == 1 and is_table(inputs[0])
        search = replace(search, manifest=_manifest(manifest, search, table))
        search.check()
    except (InputError, MissingExtraError):
        raise
    except BiRefNetError as error:
        raise InputError(message_of(error)) from error
    if search.is_stream:
        if settings.objects:
            raise InputError("standard output holds one picture, not --objects; give -o FOLDER")
        if as_json:
            raise InputError("--json and a picture both want standard output; give -o FILE")
        if sys.stdout.isatty():
            raise InputError("standard output is a terminal; give -o FILE, or redirect it")
    if report is not None and report.suffix.lower() != ".html":
        raise InputError(f"--report is {report}; end it in .html")
    if report is not None and (table or search.is_stream):
        raise InputError("--report shows results that are files; give -o FOLDER, or leave it out")
    if table:
        _check_table(search, settings)
        if limits != Limits():
            raise InputError("--max-megapixels is for files, not for tables; leave it out")
    elif column or name_column:
        raise InputError("--column and --name-column are for one table and --engine ray")
    elif engine == "ray" and search.is_stream:
        raise InputError("--engine ray reads and writes files; give -o FOLDER")
    if watch and not any(text != STREAM and to_place(text).is_dir() for text in inputs):
        raise InputError("--watch waits for pictures in folders; give one as input")
    skips: dict[bool | None, Skip] = {None: "finished", False: "existing", True: "nothing"}
    return Plan(
        search,
        settings,
        model,
        device,
        dtype,
        engine,
        table,
        column,
        name_column,
        skip=skips[overwrite],
        manifest=search.manifest,
        fingerprint=_fingerprint(typed, model),
        retries=retries,
        watch=watch,
        workers=workers,
        as_json=as_json,
        profile=Profile() if profile else None,
        report=report,
        limits=limits,
        loading=loading,
    )


_STDIN = ("/dev/stdin", "/dev/fd/0", "/proc/self/fd/0")


def _standard_input(inputs: list[str], limits: Limits) -> bytes:
    if STREAM not in inputs:
        return b""
    # One byte above the limit is enough for the decoder to refuse it.
    return _one_picture(sys.stdin.buffer.read(limits.max_bytes + 1), "standard input")


def _pipes(inputs: list[str], output: str | None, limits: Limits) -> dict[str, bytes]:
    """What comes from pipes and devices among the inputs, such as a shell's `<(...)`: they can be
    read once."""
    found = {}
    for text in inputs:
        if text == STREAM or is_url(text):
            continue
        place = Path(text)
        if not place.exists() or place.is_dir() or place.is_file():
            continue
        if output is None:
            raise InputError(f"{text} is a pipe, so no result can lie beside it; give -o FILE")
        try:
            with place.open("rb") as file:
                found[text] = _one_picture(file.read(limits.max_bytes + 1), text)
        except OSError as error:
            raise InputError(f"{text} cannot be read: {error.strerror}; give a file") from error
    return found


def _one_picture(data: bytes, name: str) -> bytes:
    """The same; says where other pictures follow the first."""
    rest = data[end_of_picture(data) :]
    if rest and (kind := sniff(rest)):
        warn(
            f"{name} holds more after its first picture (a {kind} begins there); only the first is "
            "cut out: give files for several"
        )
    return data


def _check_table(search: Search, settings: Options) -> None:
    if search.output is None:
        raise InputError("give -o FOLDER for files, or -o NAME.parquet for another table")
    is_plain = settings.guidance is None and settings.passes == 1
    is_adjusted = settings.threshold or settings.mask_blur or settings.mask_offset
    if is_adjusted or settings.keep_profile or not is_plain:
        raise InputError(
            "--threshold, --mask-blur, --mask-offset, --keep-profile, --refine-passes and guidance "
            "are for files, not for tables; leave them out"
        )
    if settings.matting != "none" or settings.shadow != "none" or settings.objects or settings.crop:
        raise InputError(
            "--matting, --objects, --crop and --shadow are for files, not for tables; leave them "
            "out"
        )


def _manifest(asked: str | None, search: Search, is_table: bool) -> Path | None:
    if asked is not None:
        if is_url(asked):
            raise InputError(f"--manifest is {asked!r}; give a file on this machine")
        return Path(asked) if asked else None
    folder = search.folder
    if is_table and str(search.output).endswith(TABLE):
        return None
    is_single = (
        not is_table
        and len(search.inputs) == 1
        and (search.inputs[0] == STREAM or is_one(search.inputs[0]))
    )
    return folder / NAME if isinstance(folder, Path) and not is_single else None


def _fingerprint(settings: Options, model: str) -> str:
    """Settings that are not the usual ones, and model, as text; files among them count with their
    size and time of change."""
    usual = asdict(Options())
    asked = asdict(replace(settings, batch_size=None))
    parts = {name: value for name, value in asked.items() if value != usual[name]}
    parts["model"] = model
    for name in ("background", "guide", "model"):
        path = Path(str(parts.get(name)))
        if parts.get(name) and path.exists():
            parts[name] = [str(path.resolve()), version_of(path)]
    return json.dumps(parts, default=str)
