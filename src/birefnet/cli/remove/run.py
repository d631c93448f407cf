"""`birefnet remove` at work: which worker does the jobs, and what is reported at the end."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Protocol

from birefnet.cli.common import INTERRUPTED, say
from birefnet.cli.remove.jobs import Job
from birefnet.cli.remove.manifest import Manifest
from birefnet.cli.remove.pipeline import LocalWorker
from birefnet.cli.remove.plan import Plan
from birefnet.cli.remove.report import Report
from birefnet.cli.remove.run_log import DiskFullError, RunLog
from birefnet.cli.remove.watch import Watch
from birefnet.errors import BiRefNetError


def remove_all(plan: Plan) -> int:
    """Do the work, report, and return the exit status."""
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
    start, full = time.perf_counter(), ""
    with _manifest(plan) as manifest:
        work = _worker(plan, RunLog(plan, report, manifest))
        try:
            with _terminable():
                if plan.run.watch:
                    say(f"watching {', '.join(plan.search.inputs)}; Ctrl-C ends it")
                    _watch(plan, work)
                else:
                    report.total = 0 if plan.is_table else plan.search.count()
                    with _progress(report.total) as report.advance:
                        work.do(plan.search)
        except KeyboardInterrupt:
            report.interrupted = True
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
        return INTERRUPTED
    if full:
        raise BiRefNetError(full)
    return 1 if report.failed else 0


class Worker(Protocol):
    """Does jobs, and tells the run log what became of them."""

    def do(self, jobs: Iterable[Job]) -> None: ...


def _worker(plan: Plan, run_log: RunLog) -> Worker:
    if plan.is_table:
        from birefnet.cli.remove.ray_table import RayTableWorker

        return RayTableWorker(plan, run_log)
    if plan.run.engine == "ray":
        from birefnet.cli.remove.ray_cluster import RayWorker

        return RayWorker(plan, run_log)
    return LocalWorker(plan, run_log)


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
