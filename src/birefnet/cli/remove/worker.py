"""The jobs of `birefnet remove` on this machine: read, run the network, refine, encode, write.

All of it goes on beside each other, in bounded memory: reading is ahead of the network (in the
predictor) and writing behind it, neither by more than a few pictures, whatever the number of jobs.
"""

from __future__ import annotations

import errno
import json
import os
import pickle
import sys
import tempfile
import time
import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any

from birefnet.cli.remove.jobs import Job, result_format, suffix_of
from birefnet.cli.remove.plan import Plan
from birefnet.cli.remove.run import DiskFullError, Outcome, RunLog, StartedJob, facts_of
from birefnet.errors import BiRefNetError
from birefnet.files import is_same, write
from birefnet.imaging.box import Area
from birefnet.imaging.encoding import ANIMATIONS, encode_animation, encode_pages
from birefnet.imaging.framing import union
from birefnet.imaging.io import Source, decode_frames
from birefnet.imaging.picture import Pixels
from birefnet.inference.stream import timed
from birefnet.matte import Matte
from birefnet.options import Options
from birefnet.terminal import is_debugging

if TYPE_CHECKING:
    from birefnet.inference.predictor import Predictor

WORKERS = 2  # threads that refine, encode and write
FIRST_WAIT, LONGEST_WAIT = 1.0, 30.0  # seconds before failed pictures are tried again
DEFAULT_FRAME_MS = 100  # of a still picture that is written as an animation

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Errors of the system for a disk without room."""

# Errors of the system that will be the same a moment later.
_LASTING = {
    errno.ENOENT, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR, errno.ENOSPC,
    errno.EROFS, errno.ENAMETOOLONG, errno.EDQUOT, errno.EEXIST, errno.EINVAL,
}  # fmt: skip


@dataclass(eq=False)
class LocalWorker:
    """Does jobs on this machine, with a network that is loaded when the first picture needs it."""

    plan: Plan
    run_log: RunLog

    @cached_property
    def predictor(self) -> Predictor:
        plan = self.plan
        with timed(plan.profile, "load", pictures=0):
            from birefnet.api import load

            engine = "auto" if plan.run.engine == "ray" else plan.run.engine
            predictor = (
                plan.loading.result()
                if plan.loading is not None
                else load(plan.model, device=plan.run.device, dtype=plan.run.dtype, engine=engine)
            )
        predictor.profile = plan.profile
        predictor.limits = plan.limits
        predictor.convert_to_srgb = not plan.options.keep_profile
        if plan.run.jobs is not None:
            predictor.readers = plan.run.jobs
        report = self.run_log.report
        report.model, report.engine = predictor.name or "", predictor.engine.name
        return predictor

    def do(self, jobs: Iterable[Job]) -> None:
        """Do all jobs that are not finished; temporary failures are tried again at the end."""
        again = self._once(self.run_log.unfinished(jobs), retries=self.plan.run.retries)
        wait = FIRST_WAIT
        for left in reversed(range(self.plan.run.retries)):
            if not again:
                return
            time.sleep(wait)
            wait = min(2 * wait, LONGEST_WAIT)
            again = self._once(again, retries=left)

    def _mattes(self, sources: Iterator[Source]) -> Iterator[Matte | BiRefNetError]:
        options, predictor = self.plan.options, self.predictor
        if options.is_plain:
            yield from predictor.predict_each(
                sources, resolution=options.resolution, batch_size=options.batch_size
            )
            return
        for source in sources:
            try:
                yield options.predict(predictor, source)
            except BiRefNetError as error:
                yield error

    def _once(self, jobs: Iterable[Job], *, retries: int) -> list[Job]:
        """Do the jobs; those to try again. The others are reported, in this thread.

        When the user interrupts, files that are being written are finished and reported.
        """
        jobs = iter(jobs)
        first = next(jobs, None)
        if first is None:
            return []
        plan, workers = self.plan, self.plan.run.jobs or WORKERS
        again: list[Job] = []
        animated: list[Job] = []
        reading: deque[StartedJob] = deque()
        writing: deque[tuple[StartedJob, Future[Outcome]]] = deque()

        def sources() -> Iterator[Source]:
            for job in chain([first], jobs):
                if job.animation is not None or plan.options.format == "gif":
                    animated.append(job)
                else:
                    reading.append(self.run_log.begin(job))
                    yield plan.source_of(job)

        def take(started: StartedJob, outcome: Outcome) -> None:
            if outcome.is_temporary and retries:
                again.append(outcome.job)
            else:
                self.run_log.end(started, outcome)

        def take_first() -> None:
            outcome = writing[0][1].result()  # it stays in line while it is waited for
            take(writing.popleft()[0], outcome)

        with ThreadPoolExecutor(workers, thread_name_prefix="birefnet-write") as pool:
            try:
                for matte in self._mattes(sources()):
                    started = reading.popleft()
                    if isinstance(matte, BiRefNetError):
                        take(started, failed(started.job, matte))
                    elif started.job.target is None:
                        take(started, write_picture(started.job, matte, plan))
                    else:
                        future = pool.submit(write_picture, started.job, matte, plan)
                        writing.append((started, future))
                    if len(writing) > workers:
                        take_first()
                while writing:
                    take_first()
                for job in animated:
                    started = self.run_log.begin(job)
                    take(started, write_animation(job, plan, self.predictor))
            except (KeyboardInterrupt, DiskFullError):
                for _, future in writing:
                    future.cancel()
                for started, future in writing:
                    if not future.cancelled():
                        with suppress(DiskFullError):
                            take(started, future.result())
                raise
        return again


def write_picture(job: Job, matte: Matte, plan: Plan) -> Outcome:
    """Write what the plan's options make of one matte."""
    options = plan.options
    format = result_format(job, options.format)
    try:
        with timed(plan.profile, "refine"):
            matte = options.finish(matte)
        facts = {**facts_of(matte), **crop_of(matte, options)}
        if options.objects:
            facts.pop("crop", None)  # each object has its own
            facts["objects"] = _write_objects(job, matte, plan, format)
            return Outcome(job, "done", facts=facts)
        with timed(plan.profile, "encode"):
            data = options.encode(matte, format)
        with timed(plan.profile, "write"):
            _put(job, data)
    except Exception as error:  # whatever it is, the other pictures go on
        return failed(job, error)
    return Outcome(job, "done", facts=facts)


def crop_of(matte: Matte, options: Options, box: Area | None = None) -> dict[str, Any]:
    """Where a cropped result lies in the picture, as facts: x0, y0, x1, y1 [px]."""
    frame = options.frame(matte, box)
    return {} if frame is None else {"crop": frame.corners}


def _write_objects(job: Job, matte: Matte, plan: Plan, format: str) -> list[dict[str, object]]:
    """A file for each object, NAME.1.png …, then the list of them, NAME.json, which is returned."""
    options, index = plan.options, job.target
    assert index is not None
    listed = []
    for part in options.parts(matte):
        target = index.with_name(f"{index.stem}.{part.number}{suffix_of(format)}")
        if job.source is not None and is_same(target, job.source):
            raise BiRefNetError(f"an object would be written over {job.name}; give another -o")
        with timed(plan.profile, "encode"):
            data = options.encode(part.matte, format)
        with timed(plan.profile, "write"):
            write(target, data)
        listed.append({"file": target.name, **part.facts(), **crop_of(part.matte, options)})
    text = {"input": job.name, "width": matte.width, "height": matte.height, "objects": listed}
    write(index, (json.dumps(text, indent=2) + "\n").encode())
    return listed


def write_animation(job: Job, plan: Plan, predictor: Predictor) -> Outcome:
    """Every frame of an animation, or page of a TIFF, into one file; its facts are those of the
    fullest."""
    options = plan.options
    format = result_format(job, options.format)
    facts: list[dict[str, Any]] = []
    crop: dict[str, object] = {}

    def mattes() -> Iterator[Matte]:
        for matte in _frame_mattes(job, plan, predictor):
            with timed(plan.profile, "refine"):
                finished = options.finish(matte)
            facts.append(facts_of(finished))
            yield finished

    def pages(drawn: Iterable[Matte]) -> Iterator[tuple[Pixels, bytes | None]]:
        for matte in drawn:
            profile = matte.picture.icc_profile if options.keep_profile else None
            yield options.render(matte), profile

    def frames(drawn: Iterable[Matte]) -> Iterator[tuple[Pixels, Pixels | None, int]]:
        finished: Iterable[tuple[Matte, Area | None]] = ((matte, None) for matte in drawn)
        if options.crop:
            finished = _in_one_box(drawn)
        for matte, box in finished:
            crop.update(crop_of(matte, options, box))
            rendered = options.render(matte, box)
            has_alpha = rendered.ndim == 3 and rendered.shape[2] == 4
            colours, alpha = (
                (rendered[..., :3], rendered[..., 3]) if has_alpha else (rendered, None)
            )
            yield colours, alpha, matte.picture.duration_ms or DEFAULT_FRAME_MS

    try:
        if options.objects:
            raise BiRefNetError(
                "--objects is for still pictures; this one is animated or has several pages"
            )
        if job.animation == "tiff" and format != "tiff":
            raise BiRefNetError(
                f"{job.name} has several pages, and {format} holds one; choose tiff for all"
            )
        if job.animation != "tiff" and format not in ANIMATIONS:
            raise BiRefNetError(
                f"the picture is animated, and {format} holds one frame; choose gif, webp or png"
            )
        drawn = mattes()
        first = next(drawn)
        drawn = chain([first], drawn)
        metadata = options.kept_metadata(first)
        if format == "tiff":
            data = encode_pages(pages(drawn), metadata)
        else:
            data = encode_animation(
                frames(drawn),
                format=format,
                quality=options.quality,
                loop=first.picture.plays or 0,
                metadata=metadata,
            )
        _put(job, data)
    except Exception as error:
        return failed(job, error)
    fullest = max(facts, key=lambda each: each["coverage"])
    return Outcome(job, "done", facts={**fullest, **crop, "frames": len(facts)})


def _frame_mattes(job: Job, plan: Plan, predictor: Predictor) -> Iterator[Matte]:
    options, source = plan.options, plan.source_of(job)
    if options.is_plain:
        yield from predictor.predict_frames(
            source, resolution=options.resolution, batch_size=options.batch_size
        )
        return
    for picture in decode_frames(
        source, limits=predictor.limits, convert_to_srgb=predictor.convert_to_srgb
    ):
        yield options.predict(predictor, picture)


def _in_one_box(mattes: Iterable[Matte]) -> Iterator[tuple[Matte, Area | None]]:
    """All frames, each with the box that holds what is seen in any of them.

    It is known after the last frame, so the frames wait in a temporary file, compressed.
    """
    boxes: list[Area | None] = []
    sizes: list[int] = []
    with tempfile.TemporaryFile() as waiting:
        for matte in mattes:
            boxes.append(matte.visible_box)
            sizes.append(waiting.write(zlib.compress(pickle.dumps(matte), 1)))
        box = union(boxes)
        waiting.seek(0)
        for size in sizes:
            yield pickle.loads(zlib.decompress(waiting.read(size))), box


def failed(job: Job, error: Exception) -> Outcome:
    """The outcome of a job that raised this error."""
    if is_debugging():
        raise error
    if isinstance(error, BiRefNetError):
        sentence = str(error)
    elif isinstance(error, OSError):
        path = "standard output" if job.target is None else job.target
        sentence = f"cannot write {path}: {error.strerror or error}"
    elif isinstance(error, MemoryError):
        sentence = "not enough memory for this picture; give a smaller one"
    else:
        sentence = f"{type(error).__name__}: {error} (BIREFNET_DEBUG=1 shows where)"
    number = _system_error(error)
    is_temporary = number is not None and number not in _LASTING | FULL
    disk_full = number in FULL and job.target is not None
    return Outcome(job, "failed", sentence, is_temporary, disk_full=disk_full)


def _system_error(error: BaseException | None) -> int | None:
    """The system's number of what failed, if the system or the network did, not the picture."""
    while error is not None:
        if isinstance(error, OSError) and error.errno is not None:
            return error.errno
        error = error.__cause__ or error.__context__
    return None


def _give_up_standard_output() -> None:
    """Send what waits to be written nowhere: Python would fail on it again at its end."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _put(job: Job, data: bytes) -> None:
    if job.target is None:
        try:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        except OSError:
            _give_up_standard_output()
            raise
    else:
        write(job.target, data)
