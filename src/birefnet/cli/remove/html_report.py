"""The HTML report of `birefnet remove --report`: before and after, the doubtful pictures first."""

from __future__ import annotations

import heapq
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from birefnet.cli.options import write_file
from birefnet.cli.remove.plan import readable
from birefnet.errors import BiRefNetError
from birefnet.html_report import Group, Order, Section, render
from birefnet.imaging.figure import Figure, figure
from birefnet.imaging.io import Source, decode_frames
from birefnet.terminal import progress_bar, say

if TYPE_CHECKING:
    from birefnet.cli.remove.plan import Plan
    from birefnet.cli.remove.run import Outcome, Report

MOST_SHOWN = 200  # pictures on a page
MOST_FAILURES = 1000  # reasons on a page
MOST_OBJECTS = 6  # of one picture


class RemoveReport:
    """Collects what became of the pictures, in bounded memory, and writes the page.

    Args:
        plan: of the run, to read its pictures again.
        path: where the page goes.
    """

    def __init__(self, plan: Plan, path: Path) -> None:
        self._plan, self._path = plan, path
        self._doubtful: list[tuple[float, int, Outcome]] = []  # the most certain at its top
        self._failures: list[str] = []
        self._numbers = count(0, -1)

    def add(self, outcome: Outcome) -> None:
        """Keep an outcome, if it is among those that the page shows."""
        if outcome.status == "done":
            heapq.heappush(self._doubtful, (-_certainty(outcome), next(self._numbers), outcome))
            if len(self._doubtful) > MOST_SHOWN:
                heapq.heappop(self._doubtful)
        elif outcome.status == "failed" and len(self._failures) < MOST_FAILURES:
            name, sentence = outcome.job.name, str(outcome.error)
            self._failures.append(sentence if name in sentence else f"{name}: {sentence}")

    def write(self, report: Report) -> None:
        """Read the shown pictures and their results again, and write the page.

        Raises:
            BiRefNetError: it cannot be written.
        """
        shown = [outcome for _, _, outcome in sorted(self._doubtful, reverse=True)]
        groups = []
        with progress_bar("report", show=not self._plan.run.as_json) as progress:
            for number, outcome in enumerate(shown, start=1):
                groups.append(self._group(outcome))
                progress(number, len(shown))
        sections = [Section(groups=groups)]
        failures = [f"{path}: cannot be searched: {why}" for path, why in report.unreadable.items()]
        failures += self._failures
        if more := report.failed - len(failures):
            failures.append(f"… and {more:,} more")
        if failures:
            sections.append(Section(f"{report.failed:,} failed", lines=failures))
        orders = [Order("confidence", "confidence", True), Order("coverage", "coverage", True)]
        page = render(
            "Backgrounds removed", sections, facts=_facts(report, len(shown)), orders=orders
        )
        write_file(self._path, page)
        say(f"Wrote {self._path}")

    def _group(self, outcome: Outcome) -> Group:
        job, facts = outcome.job, outcome.facts
        figures: list[Figure] = []
        problems: list[str] = []

        def show(caption: str, source: Source) -> None:
            try:
                picture = next(decode_frames(source, limits=self._plan.limits))
            except BiRefNetError as error:
                problems.append(f"{caption} cannot be shown: {error}")
                return
            pixels = picture.rgb8()
            if picture.alpha is not None:
                alpha = np.rint(picture.alpha * 255).astype(np.uint8)
                pixels = np.dstack([pixels, alpha])
            figures.append(figure(caption, pixels))

        show("before", self._plan.source_of(job))
        assert job.target is not None  # `plan` refuses standard output
        if "objects" in facts:
            for number, each in enumerate(facts["objects"][:MOST_OBJECTS], start=1):
                show(f"object {number}", readable(job.target.with_name(each["file"])))
        else:
            show("after", readable(job.target))
        values = {
            "coverage": f"{facts['coverage']:.1%}",
            "confidence": f"{facts['confidence']:.2f}",
            "size": f"{facts['width']} × {facts['height']}",
        }
        if facts["frames"] > 1:
            values["frames"] = f"{facts['frames']:,}"
        if "objects" in facts:
            values["objects"] = f"{len(facts['objects']):,}"
        return Group(
            figures,
            job.name,
            "no subject found" if facts["is_empty"] else "",
            "; ".join(problems),
            values,
            {"confidence": _certainty(outcome), "coverage": facts["coverage"]},
        )


def _certainty(outcome: Outcome) -> float:
    """The first order of the page: the confidence, and less than any where nothing was found."""
    return -1.0 if outcome.facts["is_empty"] else float(outcome.facts["confidence"])


def _facts(report: Report, shown: int) -> list[str]:
    done, skipped = report.counts["done"], report.counts["skipped"]
    facts = [f"{done:,} cut out" + (f" with {report.model} on {report.engine}" if done else "")]
    if skipped:
        facts.append(f"{skipped:,} skipped, not shown")
    if shown < done:
        facts.append(f"the {shown:,} of the lowest confidence are shown")
    if report.interrupted:
        facts.append("interrupted")
    return facts
