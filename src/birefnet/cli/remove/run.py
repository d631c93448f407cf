"""`birefnet remove` at work: jobs are done by a worker, and reported at the end.

The worker of this machine reads, runs the network and writes beside each other, in bounded memory:
reading is ahead of the network (in the predictor) and writing behind it, neither by more than a few
pictures, whatever the number of jobs.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import chain
from typing import TYPE_CHECKING, Protocol

from birefnet.cli.common import say
from birefnet.cli.remove.jobs import Job
from birefnet.cli.remove.manifest import Manifest
from birefnet.cli.remove.plan import Plan
from birefnet.cli.remove.render import failed, source_of, write_animation, write_picture
from birefnet.cli.remove.report import DiskFullError, Outcome, Report, RunLog, StartedJob
from birefnet.cli.remove.watch import Watch
from birefnet.errors import BiRefNetError
from birefnet.inference.profiling import timed
from birefnet.terminal import Update, progress_bar

if TYPE_CHECKING:
    from birefnet.imaging.io import Source
    from birefnet.inference.predictor import Predictor
    from birefnet.matte import Matte


def remove_all(plan: Plan, make_worker: Callable[[Plan, RunLog], Worker]) -> int:
    """Do the work with a worker of the plan, report, and return the exit status."""
    report = Report(
        keeps_all=plan.run.as_json,
        says_at_once=plan.run.watch,
        manifest=plan.manifest,
        profile=plan.profile,
    )
    plan = replace(
        plan,
        search=replace(plan.search, on_error=report.add_unreadable, on_pass=report.add_passed_over),
    )
    page = None
    if plan.run.report is not None:
        from birefnet.cli.remove.html_report import RemoveReport

        page = RemoveReport(plan, plan.run.report)
        report.on_outcome = page.add
    start, full, status = time.perf_counter(), "", 0
    with _manifest(plan) as manifest:
        work = make_worker(plan, RunLog(plan, report, manifest))
        try:
            if plan.run.watch:
                say(f"watching {', '.join(plan.search.inputs)}; Ctrl-C ends it")
                _watch(plan, work)
            else:
                with progress_bar("cut out", show=not plan.run.as_json) as progress:
                    report.total = 0 if plan.is_table else plan.search.count()
                    report.advance = partial(_advance, report, progress)
                    report.advance()
                    work.do(plan.search)
        except KeyboardInterrupt as interrupt:
            report.interrupted = True
            status = getattr(interrupt, "status", 130)
        except DiskFullError as error:
            full = str(error)
    report.seconds = time.perf_counter() - start
    if plan.run.as_json:
        report.print_json()
    report.print_summary()
    if page is not None and not full:
        page.write(report)
    if plan.profile is not None and report.engine:
        report.print_profile()
    if report.interrupted and not plan.run.watch:
        return status
    if full:
        raise BiRefNetError(full)
    return 1 if report.failed else 0


class Worker(Protocol):
    """Does jobs, and tells the run log what became of them."""

    def do(self, jobs: Iterable[Job]) -> None: ...


def _watch(plan: Plan, work: Worker) -> None:
    """Do what is there and what comes, until the user interrupts."""
    watch = Watch(plan.search)
    while True:
        work.do(watch.ready())
        time.sleep(watch.pause)


@contextmanager
def _manifest(plan: Plan) -> Iterator[Manifest | None]:
    if plan.manifest is None:
        yield None
        return
    try:
        manifest = Manifest(plan.manifest, read=not plan.run.overwrite)
    except OSError as error:
        raise BiRefNetError(
            f"the manifest {str(plan.manifest)!r} cannot be written: {error.strerror}; give "
            "another --manifest, or '' for none"
        ) from error
    with closing(manifest):
        yield manifest


def _advance(report: Report, progress: Update) -> None:
    """Show how many pictures are done, of how many where it is more than one."""
    progress(report.counts.total(), report.total if report.total > 1 else None)


WORKERS = 2  # threads that refine, encode and write
FIRST_WAIT, LONGEST_WAIT = 1.0, 30.0  # seconds before failed pictures are tried again


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
                    yield source_of(job, plan)

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
