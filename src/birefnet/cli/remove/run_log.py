"""Which pictures are still to do, and what became of the others: manifest and report together."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from birefnet.cli.remove.jobs import Job
from birefnet.cli.remove.manifest import Manifest, key_of
from birefnet.cli.remove.plan import Plan
from birefnet.cli.remove.report import Outcome, Report
from birefnet.cli.remove.storage import identity, version_of
from birefnet.errors import BiRefNetError


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
            return job.target.exists()
        if self.plan.run.overwrite or self.manifest is None:
            return False
        key = self._key(job)
        return key is not None and self.manifest.has(key) and job.target.exists()

    def _key(self, job: Job) -> str | None:
        """Names this version of the picture, its path and the settings; `None` if it has gone."""
        if job.source is None:
            return None
        try:
            version = version_of(job.source)
        except OSError:
            return None
        return key_of(identity(job.source), version, str(job.target), self.plan.fingerprint)
