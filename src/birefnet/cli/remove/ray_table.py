"""`birefnet remove --engine ray` of a table: Parquet files or WebDataset shards with pictures."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from birefnet.cli.remove.jobs import SHARD, TABLE, InputError, Job, suffix_of
from birefnet.cli.remove.manifest import key_of
from birefnet.cli.remove.plan import Plan
from birefnet.cli.remove.run import Outcome, RunLog, StartedJob
from birefnet.cli.remove.worker import failed
from birefnet.files import absolute, is_written, to_path, write
from birefnet.integrations.ray_data import CutOut, connect, explained, resources

BATCH = 32  # rows that an actor does at a time: what a lost node does again, at most
_FACTS = ("width", "height", "coverage", "confidence", "is_empty")


@dataclass(eq=False)
class RayTableWorker:
    """Cuts out the pictures of one column, and writes files or another table.

    Without `--column` it is `image`, in shards `jpg`. Files are named by `--name-column`, in shards
    by their key, and otherwise after their pictures' contents. An output that ends in .parquet is a
    folder with the rows of the source and what `CutOut` adds to them.
    """

    plan: Plan
    run_log: RunLog

    def do(self, jobs: Iterable[Job]) -> None:
        """Cut out the whole table; `jobs` are not used."""
        ray = connect()
        with explained():
            self._cut_out(ray)

    def _cut_out(self, ray: Any) -> None:
        plan, report = self.plan, self.run_log.report
        source, output = plan.search.inputs[0], str(plan.search.output)
        column, name = plan.run.column or "image", plan.run.name_column
        if Path(source).suffix.lower() == SHARD:
            data = ray.data.read_webdataset(source, decoder=None)
            column, name = plan.run.column or "jpg", name or "__key__"
        else:
            data = ray.data.read_parquet(source)
        columns = data.schema().names
        for needed in filter(None, (column, name)):
            if needed not in columns:
                raise InputError(f"{source} has no column {needed!r}; it has {', '.join(columns)}")
        options = plan.options
        arguments = {
            "kind": options.kind,
            "background": options.background,
            "refine": options.refine,
            "format": options.format or "png",
            "quality": options.quality,
            "metadata": options.metadata,
            "resolution": options.resolution,
            "batch_size": options.batch_size,
            "device": plan.run.device,
            "dtype": plan.run.dtype,
        }
        report.model, report.engine = plan.model, "ray"
        if not output.endswith(TABLE):
            self._to_files(data, source, output, name, column, arguments)
            return
        data = data.map_batches(
            CutOut,
            fn_constructor_args=[column, plan.model],
            fn_constructor_kwargs=arguments,
            batch_size=BATCH,
            **resources(plan.run.device, plan.run.jobs),
        )
        _write_table(data, output)
        made = ray.data.read_parquet(output).select_columns(["status"])
        for row in made.groupby("status").count().take_all():
            report.counts[row["status"]] += row["count()"]

    def _to_files(
        self,
        data: Any,
        source: str,
        output: str,
        name: str | None,
        column: str,
        arguments: dict[str, object],
    ) -> None:
        plan, manifest, folder = self.plan, self.run_log.manifest, to_path(output)
        is_rerun = manifest is not None and plan.run.overwrite is None
        files = data.map_batches(
            CutOutToFiles,
            fn_constructor_args=[column, plan.model],
            fn_constructor_kwargs={
                **arguments,
                "name_column": name,
                "folder": absolute(folder),
                "source": source,
                "fingerprint": plan.fingerprint,
                "finished": manifest.done if manifest is not None and is_rerun else frozenset(),
            },
            batch_size=BATCH,
            **resources(plan.run.device, plan.run.jobs),
        )
        for row in files.iter_rows():
            job = Job(Path(row["input"]), to_path(row["output"]), Path(row["input"]))
            outcome = Outcome(job, **json.loads(row["outcome"]))
            self.run_log.report.expect(job)
            if outcome.status == "skipped":
                self.run_log.report.add(outcome)
            else:
                self.run_log.end(StartedJob(job, time.perf_counter(), row["key"]), outcome)


class CutOutToFiles(CutOut):
    """`CutOut` that writes what it makes, and gives rows that say what became of each picture.

    Args:
        column, model, options: see `CutOut`.
        name_column: names the files; `None` for names made of the pictures' contents.
        folder: for the files.
        source, fingerprint: part of the keys of the manifest.
        finished: keys that are done already.
    """

    def __init__(
        self,
        column: str,
        model: str,
        *,
        name_column: str | None,
        folder: str,
        source: str,
        fingerprint: str,
        finished: frozenset[int],
        **options: Any,
    ) -> None:
        super().__init__(column, model, **options)
        self._name_column, self._folder = name_column, to_path(folder)
        self._source, self._fingerprint, self._finished = source, fingerprint, finished

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        suffix = suffix_of(self._format)
        rows = []
        for index, picture in enumerate(batch[self._column]):
            name = self._name(batch, index, picture)
            target = self._folder.joinpath(f"{name}{suffix}")
            key = key_of(self._source, name, str(target), self._fingerprint)
            job = Job(Path(f"{self._source}#{name}"), target, Path(name))
            is_finished = int(key, 16) in self._finished and is_written(target)
            rows.append((index, job, key, is_finished))
        left = [index for index, *_, is_finished in rows if not is_finished]
        start = time.perf_counter()
        made = super().__call__({self._column: batch[self._column][left]}) if left else {}
        each = (time.perf_counter() - start) / max(1, len(left))
        outcomes = []
        for index, job, _, is_finished in rows:
            if is_finished:
                outcomes.append(Outcome(job, "skipped"))
                continue
            row = {column: values[left.index(index)] for column, values in made.items()}
            outcomes.append(self._write(job, row, each))
        return {
            "input": [str(job.source) for _, job, *_ in rows],
            "output": [str(job.target) for _, job, *_ in rows],
            "key": [key for _, _, key, _ in rows],
            "outcome": [outcome.facts_as_json() for outcome in outcomes],
        }

    def _name(self, batch: Mapping[str, Any], index: int, picture: object) -> str:
        if self._name_column is not None:
            # A name, not a way out of the folder.
            parts = Path(str(batch[self._name_column][index])).with_suffix("").parts
            return "/".join(part for part in parts if part not in ("..", "/")) or "picture"
        content = picture.get("bytes") if isinstance(picture, Mapping) else picture
        if not isinstance(content, bytes):
            content = content.encode() if isinstance(content, str) else np.array(content).tobytes()
        return hashlib.blake2b(content, digest_size=8).hexdigest()

    def _write(self, job: Job, row: Mapping[str, Any], seconds: float) -> Outcome:
        if row["status"] != "done":
            return Outcome(job, "failed", str(row["error"]), seconds=seconds)
        assert job.target is not None
        try:
            write(job.target, row[self._kind])
        except OSError as error:
            return failed(job, error)
        facts = {name: np.asarray(row[name]).item() for name in _FACTS}
        return Outcome(job, "done", seconds=seconds, facts=facts)


def _write_table(data: Any, output: str) -> None:
    path = to_path(output)
    if not isinstance(path, Path):
        data.write_parquet(output)
        return
    temporary = path.with_name(f".{path.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    data.write_parquet(str(temporary.absolute()))
    if path.is_dir():
        shutil.rmtree(path)
    temporary.replace(path)
