"""Work that outlives its request: started, asked about, cancelled, and forgotten in time."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from birefnet.serving.errors import Busy, Failure, NotFound, Stopping, reported
from birefnet.serving.metrics import Metrics
from birefnet.serving.settings import ServerSettings

Status = Literal["queued", "running", "done", "failed", "cancelled"]
_LAST_WORDS_S = 5.0  # for a cancelled job to end its files

Work = Callable[["Job"], Awaitable[object]]


@dataclass(eq=False)
class Job:
    """One piece of work in the background.

    Attributes:
        id: cannot be guessed; who knows it may see the result.
        kind: such as "video".
        owner: who may ask about it, see `birefnet.serving.limits.owner_of`.
        status: queued, running, done, failed or cancelled.
        progress: 0 to 1; None while unknown.
        detail: more on the progress, as plain values for JSON.
        result: what the work returned, once it is done.
        failure: what went wrong, once it failed.
        folder: for its files; it is deleted with the job.
        cancelled: set when the work should stop; for threads.
        created, started, finished: Unix times [s].
    """

    id: str
    kind: str
    folder: Path
    owner: str = ""
    status: Status = "queued"
    progress: float | None = None
    detail: dict[str, Any] = field(default_factory=dict)
    result: object = None
    failure: Failure | None = None
    cancelled: threading.Event = field(default_factory=threading.Event)
    created: float = field(default_factory=time.time)
    started: float | None = None
    finished: float | None = None
    task: asyncio.Task[None] | None = field(default=None, repr=False)

    @property
    def is_over(self) -> bool:
        return self.status in ("done", "failed", "cancelled")

    def report(self, progress: float | None, **detail: object) -> None:
        """Say how far it is; from any thread."""
        self.progress, self.detail = progress, {**self.detail, **detail}


class Jobs:
    """The jobs of a server; bounded in number, and each is forgotten `keep_s` after its end.

    Args:
        settings: `jobs`, `video_jobs`, `keep_s` and `jobs_folder`.
        metrics: where they are counted.
    """

    def __init__(self, settings: ServerSettings, metrics: Metrics) -> None:
        self._settings, self._metrics = settings, metrics
        self._jobs: dict[str, Job] = {}
        self._slots: dict[str, asyncio.Semaphore] = {}
        self._root: Path | None = None
        self._is_closing = False

    def create(self, kind: str, owner: str = "") -> Job:
        """A job with an empty folder; fill it, then `start` it.

        Raises:
            Busy: too many are waiting or running.
            Stopping: the server is shutting down.
        """
        if self._is_closing:
            raise Stopping
        self.forget_old()
        if sum(not job.is_over for job in self._jobs.values()) >= self._settings.jobs:
            raise Busy(30, "as many jobs as this server takes are waiting; try again later")
        if self._root is None:
            folder = self._settings.jobs_folder
            self._root = Path(tempfile.mkdtemp(prefix="birefnet-jobs-", dir=folder))
        job = Job(secrets.token_urlsafe(18), kind, self._root, owner)
        job.folder = self._root / job.id
        job.folder.mkdir()
        self._jobs[job.id] = job
        self._count()
        return job

    def start(self, job: Job, work: Work) -> Job:
        """Begin when there is a slot: `video_jobs` videos run at a time, of other kinds all.

        `work` gets the job, reports to it, and returns the result.
        """
        width = self._settings.video_jobs if job.kind == "video" else self._settings.jobs
        slots = self._slots.setdefault(job.kind, asyncio.Semaphore(width))
        job.task = asyncio.create_task(self._run(job, work, slots))
        return job

    def get(self, id: str, kind: str | None = None, owner: str = "") -> Job:
        """Raises `NotFound` for a job that never was, is forgotten, of another kind or owner."""
        self.forget_old()
        job = self._jobs.get(id)
        if job is None or (kind is not None and job.kind != kind) or job.owner != owner:
            raise NotFound("there is no such job; results are kept for a limited time")
        return job

    def cancel(self, job: Job) -> None:
        """Stop it; nothing happens to one that is over."""
        if job.is_over:
            return
        job.cancelled.set()
        if job.task is not None and job.status == "queued":
            job.task.cancel()
        if job.task is None:
            self._end(job, "cancelled")

    def remove(self, job: Job) -> None:
        """Cancel and forget it, with its files."""
        self.cancel(job)
        self._jobs.pop(job.id, None)
        if job.is_over:
            shutil.rmtree(job.folder, ignore_errors=True)
        self._count()

    def forget_old(self) -> None:
        """Drop those that ended more than `keep_s` ago."""
        limit = time.time() - self._settings.keep_s
        for job in list(self._jobs.values()):
            if job.finished is not None and job.finished < limit:
                self.remove(job)

    def all(self) -> list[Job]:
        """Oldest first."""
        return list(self._jobs.values())

    @property
    def running(self) -> int:
        """How many are at work."""
        return sum(job.status == "running" for job in self._jobs.values())

    def refuse(self) -> None:
        """Take no more, and drop those that wait."""
        self._is_closing = True
        for job in self.all():
            if job.status == "queued":
                self.cancel(job)

    async def close(self) -> None:
        """Stop everything, and delete all files."""
        self.refuse()
        tasks = [job.task for job in self._jobs.values() if job.task and not job.is_over]
        for job in self.all():
            self.cancel(job)
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=_LAST_WORDS_S)
            for task in late:
                task.cancel()
        if self._root is not None:
            shutil.rmtree(self._root, ignore_errors=True)

    async def _run(self, job: Job, work: Work, slots: asyncio.Semaphore) -> None:
        try:
            async with slots:
                job.status, job.started = "running", time.time()
                self._count()
                job.result = await work(job)
            self._end(job, "cancelled" if job.cancelled.is_set() else "done")
        except asyncio.CancelledError:
            self._end(job, "cancelled")
        except Exception as error:
            if job.cancelled.is_set():
                self._end(job, "cancelled")
                return
            failure = reported(error, f"job {job.id}")
            # Where its files lie is nobody's business.
            message = failure.message.replace(f"{job.folder}{os.sep}", "")
            job.failure = replace(failure, message=message)
            self._end(job, "failed")

    def _end(self, job: Job, status: Status) -> None:
        job.status, job.finished = status, time.time()
        if status == "done":
            job.progress = 1.0
        if job.id not in self._jobs:  # it was removed while it ran
            shutil.rmtree(job.folder, ignore_errors=True)
        self._count()

    def _count(self) -> None:
        counts = Counter(job.status for job in self._jobs.values())
        for status in ("queued", "running", "done", "failed", "cancelled"):
            self._metrics.jobs.labels(status).set(counts[status])
