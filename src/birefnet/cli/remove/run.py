"""`birefnet remove` at work: a worker does the jobs of the plan, and the outcomes are reported for
people on stderr, for programs as JSON."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

import typer

from birefnet.cli.options import status_of
from birefnet.cli.remove.jobs import Job
from birefnet.cli.remove.manifest import Manifest, key_of
from birefnet.cli.remove.plan import Plan
from birefnet.cli.remove.watch import Watch
from birefnet.errors import BiRefNetError, counted
from birefnet.files import identity, is_written, version_of
from birefnet.inference.stream import Profile
from birefnet.matte import Matte
from birefnet.terminal import Update, console, fail, progress_bar, say, warn

Status = Literal["done", "skipped", "failed"]

LISTED = 100  # outcomes with a line of their own at the end


def remove_all(
    plan: Plan, make_worker: Callable[[Plan, RunLog], Worker], page: Page | None = None
) -> int:
    """Do the work with a worker of the plan, report, also on a page, and return the exit status."""
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
    if page is not None:
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
            status = status_of(interrupt)
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


class Page(Protocol):
    """Collects the outcomes, and is written at the end."""

    def add(self, outcome: Outcome) -> None: ...

    def write(self, report: Report) -> None: ...


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


@dataclass(frozen=True)
class Outcome:
    """The outcome of one job.

    Attributes:
        job: which.
        status: done, skipped (its output was there) or failed.
        error: why it failed.
        is_temporary: the system or the network failed, not the picture.
        disk_full: there was no room for its output, nor is there for others'.
        seconds: from its reading to its written file, other pictures beside it.
        facts: of the matte: width, height, frames, coverage, confidence, is_empty (for an
            animation: of its fullest frame), and with --objects its objects.
    """

    job: Job
    status: Status
    error: str | None = None
    is_temporary: bool = False
    disk_full: bool = False
    seconds: float | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        result: dict[str, object] = {
            "input": str(self.job.source or "-"),
            "output": str(self.job.target or "-") if self.status != "failed" else None,
            "status": self.status,
            **({} if self.seconds is None else {"seconds": round(self.seconds, 3)}),
            **self.facts,
        }
        return result | ({"error": self.error} if self.error else {})

    def facts_as_json(self) -> str:
        """All but the job, to be sent to another machine: `Outcome(job, **json.loads(…))`."""
        names = ("status", "error", "is_temporary", "seconds", "facts")
        return json.dumps({name: getattr(self, name) for name in names})


def facts_of(matte: Matte, frames: int = 1) -> dict[str, Any]:
    return {
        "width": matte.width,
        "height": matte.height,
        "frames": frames,
        "coverage": round(matte.coverage, 4),
        "confidence": round(matte.confidence, 4),
        "is_empty": matte.is_empty,
    }


@dataclass
class Report:
    """The outcomes so far: their numbers, and those that are worth a line.

    Attributes:
        keeps_all: remember every outcome, for `print_json`; otherwise only those to be listed.
        says_at_once: a line for each picture as it is done.
        total: how many pictures there are, where that is known.
        manifest: where all outcomes are written, if anywhere.
        profile: the time of each stage, with --profile.
        advance: called after each outcome.
        on_outcome: called with each outcome.
        model, engine: what cut out; empty if nothing had to be.
        seconds: from the start of the work, the loading of the model included.
        interrupted: the user has stopped it.
        unreadable: folders that could not be searched, and why.
        passed_over: sentences on what is not a picture though its name says so.
        outcomes: all of them, if it keeps all.
    """

    keeps_all: bool = False
    says_at_once: bool = False
    total: int = 0
    manifest: Path | None = None
    profile: Profile | None = None
    advance: Callable[[], None] = lambda: None
    on_outcome: Callable[[Outcome], None] = lambda outcome: None
    model: str = ""
    engine: str = ""
    seconds: float = 0.0
    interrupted: bool = False
    unreadable: dict[str, str] = field(default_factory=dict)
    passed_over: set[str] = field(default_factory=set)
    counts: Counter[Status] = field(default_factory=Counter)
    outcomes: list[Outcome] = field(default_factory=list)
    _order: dict[Job, int] = field(default_factory=dict)
    _listed: list[Outcome] = field(default_factory=list)
    _last: Outcome | None = None

    def expect(self, job: Job) -> None:
        """Jobs come in this order, whatever is done first."""
        if self.keeps_all:
            self._order[job] = len(self._order)

    def add(self, outcome: Outcome) -> None:
        """Count an outcome, and remember it if it will be listed."""
        self.counts[outcome.status] += 1
        self._last = outcome
        self.on_outcome(outcome)
        if self.keeps_all:
            self.outcomes.append(outcome)
        if self.says_at_once:
            self._say(outcome)
        elif outcome.status == "failed" or outcome.facts.get("is_empty"):
            self._listed.append(outcome)
        self.advance()

    def add_unreadable(self, error: Exception) -> None:
        """A folder that cannot be searched."""
        path = str(getattr(error, "filename", None) or "a folder")
        self.unreadable[path] = getattr(error, "strerror", None) or str(error)

    def add_passed_over(self, sentence: str) -> None:
        """Say once that something is not a picture."""
        if sentence not in self.passed_over:
            self.passed_over.add(sentence)
            warn(sentence)

    @property
    def failed(self) -> int:
        """Pictures and folders."""
        return self.counts["failed"] + len(self.unreadable)

    def print_json(self) -> None:
        ordered = sorted(self.outcomes, key=lambda outcome: self._order[outcome.job])
        report = {
            "model": self.model,
            "engine": self.engine,
            "seconds": round(self.seconds, 3),
            "interrupted": self.interrupted,
            **{status: self.counts[status] for status in ("done", "skipped", "failed")},
            **({"unreadable": self.unreadable} if self.unreadable else {}),
            **({"profile": self.profile.to_dict()} if self.profile else {}),
            "results": [outcome.to_dict() for outcome in ordered],
        }
        typer.echo(json.dumps(report, indent=2))

    def print_summary(self) -> None:
        """Lines on stderr: what was found, what was empty, what failed."""
        done, skipped, failed = (self.counts[s] for s in ("done", "skipped", "failed"))
        if self.total == 1 and done and self._last is not None:
            self._print_single(self._last)
            return
        for outcome in self._listed[:LISTED]:
            self._say(outcome)
        if len(self._listed) > LISTED:
            where = f"; all of them are in {self.manifest}" if self.manifest else ""
            warn(f"... and {len(self._listed) - LISTED:,} more{where}")
        for path, reason in self.unreadable.items():
            fail(f"{path} cannot be searched: {reason}")
        if self.interrupted and self.total:
            how = "the same command" + ("" if self.manifest else " with --skip-existing")
            warn(f"interrupted: {done + skipped:,} of {self.total:,} done; {how} goes on from here")
        elif done + skipped + failed > 1 or (self.says_at_once and done):
            parts = [f"{counted(done, 'picture')} cut out"]
            parts += [f"{skipped:,} skipped"] if skipped else []
            parts += [f"{failed:,} failed"] if failed else []
            speed = f" in {self.seconds:.1f} s with {self.model} on {self.engine}" if done else ""
            say(", ".join(parts) + speed)
            if skipped and not done and not failed:
                say("all are finished; --overwrite does them anew")
        elif skipped and self._last is not None:
            say(f"{self._last.job.target} is there already; --overwrite writes it anew")
        elif not done + failed + len(self.unreadable):
            say("no picture was cut out" if self.interrupted else "no pictures found")

    def _say(self, outcome: Outcome) -> None:
        name = outcome.job.name
        if outcome.status == "failed":
            sentence = str(outcome.error)
            names_it = self.total == 1 or sentence.startswith(name)
            fail(sentence if names_it else f"{name}: {sentence}")
        elif outcome.facts.get("is_empty"):
            warn(f"no subject found: {name}")
        elif outcome.status == "done":
            say(str(outcome.job.target))

    def print_profile(self) -> None:
        """The time of each stage as a table on stderr."""
        from rich.table import Table

        assert self.profile is not None
        table = Table("stage", box=None, pad_edge=False)
        for head in ("seconds", "pictures", "ms/picture"):
            table.add_column(head, justify="right")
        times, elapsed = self.profile.times, self.profile.elapsed
        for name, spent in times.items():
            each = (
                (str(spent.pictures), f"{spent.milliseconds:.1f}") if spent.pictures else ("", "")
            )
            table.add_row(name, f"{spent.seconds:.3f}", *each)
        table.add_section()
        table.add_row("all stages", f"{sum(spent.seconds for spent in times.values()):.3f}")
        table.add_row("on the clock", f"{elapsed:.3f}")
        console(stderr=True).print(table)

    def _print_single(self, outcome: Outcome) -> None:
        facts, target = outcome.facts, outcome.job.target
        if facts["is_empty"]:
            warn(f"no subject found: {outcome.job.name}")
        if target is not None:
            if facts["is_empty"]:
                say(f"{target}: written all the same ({self.seconds:.1f} s)")
                return
            parts = f"{counted(len(facts['objects']), 'object')}, " if "objects" in facts else ""
            say(
                f"{target}: {parts}the subject takes {facts['coverage']:.0%} of the picture "
                f"(confidence {facts['confidence']:.2f}, {self.seconds:.1f} s)"
            )


class DiskFullError(BiRefNetError):
    """There is no room for more results, so that a run ends early."""


@dataclass(frozen=True)
class StartedJob:
    """A job on its way: since when, and its key from before it was read."""

    job: Job
    since: float
    key: str | None


@dataclass(eq=False)
class RunLog:
    """Keeps the account of one run.

    Attributes:
        plan: of the run.
        report: for the end of the run.
        manifest: for later runs, if there is one.
    """

    plan: Plan
    report: Report
    manifest: Manifest | None = None

    def unfinished(self, jobs: Iterable[Job]) -> Iterator[Job]:
        """The jobs that are to be done; the others are reported as skipped."""
        for job in jobs:
            self.report.expect(job)
            if job.target is not None and self._is_finished(job):
                self.report.add(Outcome(job, "skipped"))
            else:
                yield job

    def begin(self, job: Job) -> StartedJob:
        """To be called before the job's source is read."""
        key = self._key(job) if self.manifest is not None else None
        return StartedJob(job, time.perf_counter(), key)

    def end(self, started: StartedJob, outcome: Outcome) -> None:
        """To be called when the job's target is written, or has failed.

        Raises:
            DiskFullError: there is no room for the results, or for their account.
        """
        if outcome.seconds is None:
            outcome = replace(outcome, seconds=time.perf_counter() - started.since)
        self.report.add(outcome)
        try:
            if self.manifest is not None and started.key is not None:
                self.manifest.add(started.key, outcome.to_dict())
        except OSError as error:
            raise DiskFullError(
                f"the manifest cannot be written ({error.strerror}); make room, and give the "
                "command again: it does what is left"
            ) from error
        if outcome.disk_full:
            raise DiskFullError(
                "the disk is full, so the run ends here; make room, and give the command again: it "
                "does what is left"
            )

    def _is_finished(self, job: Job) -> bool:
        assert job.target is not None
        if self.plan.run.overwrite is False:
            return is_written(job.target)
        if self.plan.run.overwrite or self.manifest is None:
            return False
        key = self._key(job)
        return key is not None and self.manifest.has(key) and is_written(job.target)

    def _key(self, job: Job) -> str | None:
        """Names this version of the picture, its path and the settings; `None` if it has gone."""
        if job.source is None:
            return None
        try:
            version = version_of(job.source)
        except OSError:
            return None
        target = "" if job.target is None else identity(job.target)
        return key_of(identity(job.source), version, target, self.plan.fingerprint)
