"""`birefnet remove --engine ray`: the same work on many machines, by Ray Data.

Each actor loads the network once and does blocks of jobs as `birefnet remove` does on one machine:
it reads, cuts out and writes by itself, so sources and targets must be reachable from every node (a
shared folder, or URLs). When a node is lost, Ray restarts its actors elsewhere and repeats the
blocks they had in hand; files are written whole or not at all, so doing one twice does no harm.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from birefnet.cli.remove.jobs import InputError, Job
from birefnet.cli.remove.plan import Plan
from birefnet.cli.remove.run import Outcome, Report, RunLog
from birefnet.cli.remove.worker import LocalWorker
from birefnet.files import absolute, name_of, to_path
from birefnet.integrations.ray_data import connect, explained, resources

ROUND = 50_000  # jobs that are handed over together, so that their number may be unlimited
BLOCK = 32  # jobs that an actor does at a time: what a lost node does again, at most


@dataclass(eq=False)
class RayWorker:
    """Does jobs on the cluster that RAY_ADDRESS names, or on one started on this machine."""

    plan: Plan
    run_log: RunLog

    def do(self, jobs: Iterable[Job]) -> None:
        """Do all jobs that are not finished; outcomes are told as blocks come back."""
        unfinished = self.run_log.unfinished(jobs)
        while part := list(islice(unfinished, ROUND)):
            ray = connect()
            with explained():
                self._round(ray, part)

    def _round(self, ray: Any, jobs: list[Job]) -> None:
        started = [self.run_log.begin(job) for job in jobs]
        rows = [{"index": index, **_to_row(job)} for index, job in enumerate(jobs)]
        blocks = -(-len(rows) // BLOCK)
        # What all jobs share goes to each actor once.
        search = replace(self.plan.search, inputs=(), on_error=print)
        run = replace(self.plan.run, overwrite=True, jobs=None)
        plan = replace(self.plan, search=search, run=run, profile=None, loading=None)
        data = ray.data.from_items(rows, override_num_blocks=blocks).map_batches(
            Actor,
            fn_constructor_args=[plan],
            batch_size=None,
            **resources(plan.run.device, self.plan.run.jobs, blocks),
        )
        report = self.run_log.report
        for row in data.iter_rows():
            report.model, report.engine = row["model"], f"ray, {row['engine']}"
            index = int(row["index"])
            self.run_log.end(started[index], Outcome(jobs[index], **json.loads(row["outcome"])))


class Actor:
    """One network of the cluster, with what it needs to do jobs."""

    def __init__(self, plan: Plan) -> None:
        self._worker = LocalWorker(plan, RunLog(plan, Report()))
        _ = self._worker.predictor

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[object]]:
        """Do one block of jobs; a row for each outcome."""
        columns = (batch[name] for name in ("source", "target", "animation"))
        jobs = [_from_row(*map(str, row)) for row in zip(*columns, strict=True)]
        index_of = dict(zip(jobs, batch["index"], strict=True))
        report = Report(keeps_all=True)
        self._worker.run_log = RunLog(self._worker.plan, report)
        self._worker.do(jobs)
        predictor = self._worker.predictor
        return {
            "index": [int(index_of[outcome.job]) for outcome in report.outcomes],
            "outcome": [outcome.facts_as_json() for outcome in report.outcomes],
            "model": [predictor.name or ""] * len(report.outcomes),
            "engine": [predictor.engine.name] * len(report.outcomes),
        }


def _to_row(job: Job) -> dict[str, str]:
    if job.source is None or job.target is None:
        raise InputError("--engine ray reads and writes files; give files or folders, and -o")
    return {
        "source": absolute(job.source),
        "target": absolute(job.target),
        "animation": job.animation or "",
    }


def _from_row(source: str, target: str, animation: str) -> Job:
    path = to_path(source)
    return Job(path, to_path(target), Path(name_of(path)), animation or None)
