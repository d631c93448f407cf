"""The work of `birefnet remove`: plan it, run it, with reading and writing beside the network.

Everything that may be wrong with the command itself is found while planning, before a network is
loaded or a file is written.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from numpy.typing import NDArray

from birefnet.cli.animation import animation_format
from birefnet.cli.common import INTERRUPTED, is_debugging, say
from birefnet.cli.inputs import (
    InputError,
    Job,
    asked_format,
    assign_targets,
    find_sources,
    is_folder_output,
    result_format,
)
from birefnet.cli.report import Outcome, Report, facts_of
from birefnet.errors import BiRefNetError
from birefnet.imaging.encoding import ANIMATIONS, encode_animation, write_atomic
from birefnet.imaging.picture import Limits
from birefnet.matte import Kind, Matte, check_kind, read_background
from birefnet.profiling import Profile, timed

if TYPE_CHECKING:
    from birefnet.predictor import Predictor

WRITERS = 2  # threads that refine, encode and write
DEFAULT_FRAME_MS = 100  # of a still picture that is written as an animation


@dataclass(frozen=True)
class Settings:
    """What to make of each picture; names and meanings as in `birefnet remove --help`."""

    kind: str = "cutout"
    background: Any = None  # as typed; once planned, a colour or a decoded picture
    resolution: int | tuple[int, int] | Literal["native"] | None = None
    batch_size: int | None = None
    format: str | None = None
    quality: int | None = None
    threshold: float | None = None
    mask_blur: float = 0
    mask_offset: float = 0
    refine: bool = True
    keep_profile: bool = False

    def finish(self, matte: Matte) -> Matte:
        """The matte with its edge corrected and, where they will be seen, its colours refined."""
        matte = matte.adjusted(
            offset=self.mask_offset, blur=self.mask_blur, threshold=self.threshold
        )
        if self.kind not in ("mask", "overlay"):
            matte.foreground(refine=self.refine)  # the matte keeps it
        return matte

    def render(self, matte: Matte) -> NDArray[Any]:
        return matte.render(cast(Kind, self.kind), background=self.background, refine=self.refine)

    def encode(self, matte: Matte, format: str) -> bytes:
        return matte.encode(
            format,
            cast(Kind, self.kind),
            background=self.background,
            refine=self.refine,
            quality=self.quality,
            icc_profile=matte.picture.icc_profile if self.keep_profile else None,
        )


@dataclass(frozen=True)
class Plan:
    """Jobs with their targets, and what to make of them.

    Attributes:
        jobs: to do.
        skipped: whose output is there already.
        settings: the same for all.
        data: what came on standard input, if a job reads it.
        as_json: report for programs.
        profile: where to add up the time of each stage, or None.
    """

    jobs: list[Job]
    skipped: list[Job]
    settings: Settings
    data: bytes | None = None
    as_json: bool = False
    profile: Profile | None = None


def plan(
    inputs: list[str],
    output: str | None,
    settings: Settings,
    *,
    overwrite: bool = True,
    recursive: bool = True,
    as_json: bool = False,
    profile: bool = False,
) -> Plan:
    """Find the pictures and name the results.

    Raises:
        InputError: a command that makes no sense: missing files, contradicting options, one output
            for several inputs, an output that is an input.
    """
    try:
        check_kind(settings.kind, has_background=settings.background is not None)
        if settings.background is not None:
            settings = replace(settings, background=read_background(settings.background))
    except BiRefNetError as error:
        raise InputError(str(error)) from error
    format = asked_format(settings.format, output, inputs)
    folder = Path(output) if output and is_folder_output(output, inputs) else None
    jobs = find_sources(inputs, skip=folder, recursive=recursive)
    data = None
    if any(job.source is None for job in jobs):
        # One byte above the limit is enough for the decoder to refuse it.
        data = sys.stdin.buffer.read(Limits().max_bytes + 1)
    jobs = [replace(job, animation=animation_format(job.source or data or b"")) for job in jobs]
    jobs = assign_targets(jobs, inputs, output, kind=settings.kind, format=format)
    if any(job.target is None for job in jobs):
        if as_json:
            raise InputError("--json and a picture both want standard output; give -o FILE")
        if sys.stdout.isatty():
            raise InputError("standard output is a terminal; give -o FILE, or redirect it")
    done_before = [
        job for job in jobs if not overwrite and job.target is not None and job.target.exists()
    ]
    return Plan(
        [job for job in jobs if job not in done_before],
        done_before,
        replace(settings, format=format),
        data,
        as_json,
        Profile() if profile else None,
    )


def run(plan: Plan, model: str | None, device: str, dtype: str) -> int:
    """Do the jobs, report, and return the exit status."""
    report = Report([*plan.skipped, *plan.jobs], profile=plan.profile)
    report.outcomes = [Outcome(job, "skipped") for job in plan.skipped]
    if report.total == 0:
        say("no pictures found")
    start = time.perf_counter()
    try:
        if plan.jobs:
            with timed(plan.profile, "load", pictures=0):
                from birefnet.api import load

                predictor = load(model, device=device, dtype=dtype)
            predictor.profile = plan.profile
            predictor.convert_to_srgb = not plan.settings.keep_profile
            report.model, report.engine = predictor.name or "", predictor.engine.name
            with _progress(len(plan.jobs)) as advance:

                def record(outcome: Outcome) -> None:
                    report.outcomes.append(outcome)
                    advance()

                _cut_out(plan, predictor, record)
    except KeyboardInterrupt:
        report.interrupted = True
    report.seconds = time.perf_counter() - start
    if plan.as_json:
        report.print_json()
    report.print_summary()
    if plan.profile is not None and plan.jobs:
        report.print_profile()
    if report.interrupted:
        return INTERRUPTED
    return 1 if report.having("failed") else 0


def _cut_out(plan: Plan, predictor: Predictor, record: Callable[[Outcome], None]) -> None:
    """Do all jobs; `record` is called in this thread as each is done or has failed.

    Reading runs ahead of the network (in the predictor), writing behind it; neither by more than a
    few pictures. When the user interrupts, files being written are finished and counted.
    """
    single = [job for job in plan.jobs if not _wants_animation(job, plan.settings)]
    pending: deque[Future[Outcome]] = deque()
    with ThreadPoolExecutor(WRITERS, thread_name_prefix="birefnet-write") as pool:
        try:
            mattes = predictor.predict_each(
                (_source(job, plan) for job in single),
                resolution=plan.settings.resolution,
                batch_size=plan.settings.batch_size,
            )
            for job, matte in zip(single, mattes, strict=True):
                if isinstance(matte, BiRefNetError):
                    record(_failed(job, matte))
                elif job.target is None:
                    record(_write(job, matte, plan))
                else:
                    pending.append(pool.submit(_write, job, matte, plan))
                if len(pending) > WRITERS:
                    record(pending[0].result())
                    pending.popleft()
            while pending:
                record(pending[0].result())
                pending.popleft()
            for job in plan.jobs:
                if _wants_animation(job, plan.settings):
                    record(_animate(job, plan, predictor))
        except KeyboardInterrupt:
            for future in pending:
                future.cancel()
            for future in pending:
                if not future.cancelled():
                    record(future.result())
            raise


def _source(job: Job, plan: Plan) -> Any:
    return plan.data if job.source is None else job.source


def _wants_animation(job: Job, settings: Settings) -> bool:
    return job.animation is not None or settings.format == "gif"


def _write(job: Job, matte: Matte, plan: Plan) -> Outcome:
    settings = plan.settings
    try:
        with timed(plan.profile, "refine"):
            matte = settings.finish(matte)
        with timed(plan.profile, "encode"):
            data = settings.encode(matte, result_format(job, settings.format))
        with timed(plan.profile, "write"):
            _put(job, data)
    except Exception as error:  # whatever it is, the other pictures go on
        return _failed(job, error)
    return Outcome(job, "done", facts=facts_of(matte))


def _animate(job: Job, plan: Plan, predictor: Predictor) -> Outcome:
    """Every frame of an animation into one file; its facts are those of the fullest frame."""
    settings = plan.settings
    format = result_format(job, settings.format)
    facts: list[dict[str, Any]] = []

    def frames() -> Iterator[tuple[NDArray[Any], NDArray[Any] | None, int]]:
        for matte in predictor.predict_frames(
            _source(job, plan), resolution=settings.resolution, batch_size=settings.batch_size
        ):
            with timed(plan.profile, "refine"):
                matte = settings.finish(matte)
            facts.append(facts_of(matte))
            rendered = settings.render(matte)
            has_alpha = rendered.ndim == 3 and rendered.shape[2] == 4
            colours, alpha = (
                (rendered[..., :3], rendered[..., 3]) if has_alpha else (rendered, None)
            )
            yield colours, alpha, matte.picture.duration_ms or DEFAULT_FRAME_MS

    try:
        if format not in ANIMATIONS:
            raise BiRefNetError(
                f"the picture is animated, and {format} holds one frame; choose gif, webp or png"
            )
        _put(job, encode_animation(frames(), format=format, quality=settings.quality))
    except Exception as error:
        return _failed(job, error)
    fullest = max(facts, key=lambda found: found["coverage"])
    return Outcome(job, "done", facts={**fullest, "frames": len(facts)})


def _put(job: Job, data: bytes) -> None:
    if job.target is None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    job.target.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(job.target, data)


def _failed(job: Job, error: Exception) -> Outcome:
    if is_debugging():
        raise error
    if isinstance(error, BiRefNetError):
        sentence = str(error)
    elif isinstance(error, OSError):
        sentence = f"cannot write {job.target}: {error.strerror or error}"
    elif isinstance(error, MemoryError):
        sentence = "not enough memory for this picture; give a smaller one"
    else:
        sentence = f"{type(error).__name__}: {error} (BIREFNET_DEBUG=1 shows where)"
    return Outcome(job, "failed", sentence)


@contextmanager
def _progress(total: int) -> Iterator[Callable[[], None]]:
    """A bar on stderr if that is a terminal; gives the function to call after each picture."""
    if total < 2 or not sys.stderr.isatty():
        yield lambda: None
        return
    from birefnet.cli.terminal import progress_bar

    done = 0
    with progress_bar("cut out") as update:
        update(done, total)

        def advance() -> None:
            nonlocal done
            done += 1
            update(done, total)

        yield advance
