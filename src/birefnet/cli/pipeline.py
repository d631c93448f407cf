"""The work of `birefnet remove`: reading, network and writing beside each other, in bounded memory.

Reading runs ahead of the network (in the predictor) and writing behind it, neither by more than a
few pictures, whatever the number of jobs.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any, Protocol

from birefnet.cli.common import INTERRUPTED, say
from birefnet.cli.inputs import Job
from birefnet.cli.ledger import Begun, DiskFull, Ledger
from birefnet.cli.making import failed, make_animation, make_picture, source_of
from birefnet.cli.manifest import Manifest
from birefnet.cli.removal import Plan
from birefnet.cli.report import Outcome, Report
from birefnet.cli.watching import Watch
from birefnet.errors import BiRefNetError
from birefnet.profiling import timed

if TYPE_CHECKING:
    from birefnet.matte import Matte
    from birefnet.predictor import Predictor

WORKERS = 2  # threads that refine, encode and write
FIRST_WAIT, LONGEST_WAIT = 1.0, 30.0  # seconds before failed pictures are tried again


def run(plan: Plan) -> int:
    """Do the work, report, and return the exit status."""
    report = Report(
        keeps_all=plan.as_json,
        says_at_once=plan.watch,
        manifest=plan.manifest,
        profile=plan.profile,
    )
    plan = replace(
        plan,
        search=replace(plan.search, on_error=report.add_unreadable, on_pass=report.add_passed_over),
    )
    page = None
    if plan.report is not None:
        from birefnet.cli.remove_report import RemoveReport

        page = RemoveReport(plan, plan.report)
        report.also = page.add
    start, full = time.perf_counter(), ""
    with _manifest(plan) as manifest:
        work = _worker(plan, Ledger(plan, report, manifest))
        try:
            with _terminable():
                if plan.watch:
                    say(f"watching {', '.join(plan.search.inputs)}; Ctrl-C ends it")
                    _watch(plan, work)
                else:
                    report.total = 0 if plan.is_table else plan.search.count()
                    with _progress(report.total) as report.advance:
                        work.do(plan.search)
        except KeyboardInterrupt:
            report.interrupted = True
        except DiskFull as error:
            full = str(error)
    report.seconds = time.perf_counter() - start
    if plan.as_json:
        report.print_json()
    report.print_summary()
    if page is not None and not full:
        page.write(report)
    if plan.profile is not None and report.engine:
        report.print_profile()
    if report.interrupted and not plan.watch:
        return INTERRUPTED
    if full:
        raise BiRefNetError(full)
    return 1 if report.failed else 0


class Worker(Protocol):
    """Does jobs, and tells a ledger what became of them."""

    def do(self, jobs: Iterable[Job]) -> None: ...


def _worker(plan: Plan, ledger: Ledger) -> Worker:
    if plan.is_table:
        from birefnet.cli.table import TableWork

        return TableWork(plan, ledger)
    if plan.engine == "ray":
        from birefnet.cli.cluster import ClusterWork

        return ClusterWork(plan, ledger)
    return Work(plan, ledger)


def _watch(plan: Plan, work: Worker) -> None:
    """Do what is there and what comes, until the user interrupts."""
    watch = Watch(plan.search)
    while True:
        work.do(watch.ready())
        time.sleep(watch.pause)


@dataclass(eq=False)
class Work:
    """Does jobs on this machine, with a network that is loaded when the first picture needs it."""

    plan: Plan
    ledger: Ledger

    @cached_property
    def predictor(self) -> Predictor:
        plan = self.plan
        with timed(plan.profile, "load", pictures=0):
            from birefnet.api import load

            engine = "auto" if plan.engine == "ray" else plan.engine
            predictor = (
                plan.loading.result()
                if plan.loading is not None
                else load(plan.model, device=plan.device, dtype=plan.dtype, engine=engine)
            )
        predictor.profile = plan.profile
        predictor.limits = plan.limits
        predictor.convert_to_srgb = not plan.settings.keep_profile
        if plan.workers is not None:
            predictor.readers = plan.workers
        report = self.ledger.report
        report.model, report.engine = predictor.name or "", predictor.engine.name
        return predictor

    def do(self, jobs: Iterable[Job]) -> None:
        """Do all jobs that are not finished; what failed and may pass is tried again at the end."""
        again = self._once(self.ledger.unfinished(jobs), retries=self.plan.retries)
        wait = FIRST_WAIT
        for left in reversed(range(self.plan.retries)):
            if not again:
                return
            time.sleep(wait)
            wait = min(2 * wait, LONGEST_WAIT)
            again = self._once(again, retries=left)

    def _mattes(self, sources: Iterator[Any]) -> Iterator[Matte | BiRefNetError]:
        settings, predictor = self.plan.settings, self.predictor
        guidance = settings.guidance
        if guidance is None and settings.passes == 1:
            yield from predictor.predict_each(
                sources, resolution=settings.resolution, batch_size=settings.batch_size
            )
            return
        for source in sources:
            try:
                yield settings.predict(predictor, source)
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
        plan, workers = self.plan, self.plan.workers or WORKERS
        again: list[Job] = []
        animated: list[Job] = []
        reading: deque[Begun] = deque()
        writing: deque[tuple[Begun, Future[Outcome]]] = deque()

        def sources() -> Iterator[Any]:
            for job in chain([first], jobs):
                if job.animation is not None or plan.settings.format == "gif":
                    animated.append(job)
                else:
                    reading.append(self.ledger.begin(job))
                    yield source_of(job, plan)

        def take(begun: Begun, outcome: Outcome) -> None:
            if outcome.may_pass and retries:
                again.append(outcome.job)
            else:
                self.ledger.end(begun, outcome)

        def take_first() -> None:
            outcome = writing[0][1].result()  # it stays in line while it is waited for
            take(writing.popleft()[0], outcome)

        with ThreadPoolExecutor(workers, thread_name_prefix="birefnet-write") as pool:
            try:
                for matte in self._mattes(sources()):
                    begun = reading.popleft()
                    if isinstance(matte, BiRefNetError):
                        take(begun, failed(begun.job, matte))
                    elif begun.job.target is None:
                        take(begun, make_picture(begun.job, matte, plan))
                    else:
                        future = pool.submit(make_picture, begun.job, matte, plan)
                        writing.append((begun, future))
                    if len(writing) > workers:
                        take_first()
                while writing:
                    take_first()
                for job in animated:
                    begun = self.ledger.begin(job)
                    take(begun, make_animation(job, plan, self.predictor))
            except (KeyboardInterrupt, DiskFull):
                for _, future in writing:
                    future.cancel()
                for begun, future in writing:
                    if not future.cancelled():
                        with suppress(DiskFull):
                            take(begun, future.result())
                raise
        return again


@contextmanager
def _manifest(plan: Plan) -> Iterator[Manifest | None]:
    if plan.manifest is None:
        yield None
        return
    try:
        manifest = Manifest(plan.manifest, read=plan.skip != "nothing")
    except OSError as error:
        raise BiRefNetError(
            f"the manifest {str(plan.manifest)!r} cannot be written: {error.strerror}; give "
            "another --manifest, or '' for none"
        ) from error
    with closing(manifest):
        yield manifest


@contextmanager
def _terminable() -> Iterator[None]:
    """A polite kill (SIGTERM) ends the work as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


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
