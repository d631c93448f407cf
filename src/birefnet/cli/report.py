"""What `birefnet remove` says at its end: to people on stderr, to programs as JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Literal

import typer

from birefnet.cli.common import fail, say, warn
from birefnet.cli.inputs import Job
from birefnet.matte import Matte
from birefnet.profiling import Profile

Status = Literal["done", "skipped", "failed"]


@dataclass(frozen=True)
class Outcome:
    """What became of one job.

    Attributes:
        job: which.
        status: done, skipped (its output was there) or failed.
        error: why it failed.
        facts: of the matte: width, height, frames, coverage, confidence, is_empty (for an
            animation: of its fullest frame).
    """

    job: Job
    status: Status
    error: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        result: dict[str, Any] = {
            "input": str(self.job.source or "-"),
            "output": str(self.job.target or "-") if self.status != "failed" else None,
            "status": self.status,
            **self.facts,
        }
        return result | ({"error": self.error} if self.error else {})


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
    """All outcomes so far.

    Attributes:
        jobs: all of them, done or not.
        model, engine: what cut out; empty if nothing had to be.
        seconds: from the start of the work, the loading of the model included.
        interrupted: the user has stopped it.
        profile: the time of each stage, if it was asked for.
    """

    jobs: list[Job]
    model: str = ""
    engine: str = ""
    seconds: float = 0.0
    interrupted: bool = False
    profile: Profile | None = None
    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def total(self) -> int:
        return len(self.jobs)

    def having(self, status: Status) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if outcome.status == status]

    def print_json(self) -> None:
        place = {job: index for index, job in enumerate(self.jobs)}
        ordered = sorted(self.outcomes, key=lambda outcome: place[outcome.job])
        counts = {status: len(self.having(status)) for status in ("done", "skipped", "failed")}
        report = {
            "model": self.model,
            "engine": self.engine,
            "seconds": round(self.seconds, 3),
            "interrupted": self.interrupted,
            **counts,
            **({"profile": self.profile.to_dict()} if self.profile else {}),
            "results": [outcome.to_dict() for outcome in ordered],
        }
        typer.echo(json.dumps(report, indent=2))

    def print_summary(self) -> None:
        """Lines on stderr: what was found, what was empty, what failed."""
        done, skipped, failed = (self.having(s) for s in ("done", "skipped", "failed"))
        if self.total == 1 and done:
            self._print_single(done[0])
            return
        for outcome in done:
            if outcome.facts["is_empty"]:
                warn(f"no subject found: {outcome.job.name}")
        for outcome in failed:
            sentence = str(outcome.error)
            names_it = self.total == 1 or sentence.startswith(outcome.job.name)
            fail(sentence if names_it else f"{outcome.job.name}: {sentence}")
        if self.interrupted:
            warn(
                f"interrupted: {len(done) + len(skipped)} of {self.total} done; the same command "
                "with --skip-existing goes on from here"
            )
        elif self.total > 1:
            parts = [f"{_count(len(done), 'picture')} cut out"]
            parts += [f"{len(skipped)} skipped"] if skipped else []
            parts += [f"{len(failed)} failed"] if failed else []
            speed = f" in {self.seconds:.1f} s with {self.model} on {self.engine}" if done else ""
            say(", ".join(parts) + speed)
        elif skipped:
            say(f"{skipped[0].job.target} is there already; --overwrite writes it anew")

    def print_profile(self) -> None:
        """The time of each stage as a table on stderr."""
        from rich.table import Table

        from birefnet.cli.terminal import console

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
            say(
                f"{target}: the subject takes {facts['coverage']:.0%} of the picture "
                f"(confidence {facts['confidence']:.2f}, {self.seconds:.1f} s)"
            )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
