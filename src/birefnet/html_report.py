"""Reports as HTML: a title, a table, and groups of pictures with captions and values.

A page is one file that links to nothing, so it opens offline and can be sent on. The template
escapes every text. Browsers choose dark or light, and the page fits the width of a phone.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from birefnet.imaging.figure import Figure


@dataclass(frozen=True)
class Group:
    """Figures that belong together.

    Attributes:
        subtitle: beside the title, less prominent.
        note: a sentence below the figures.
        values: name and text of each value to print.
        ranks: key of an `Order` to the number that the page sorts by. NaN comes last.
    """

    figures: Sequence[Figure]
    title: str = ""
    subtitle: str = ""
    note: str = ""
    values: Mapping[str, str] = field(default_factory=dict)
    ranks: Mapping[str, float] = field(default_factory=dict)

    @property
    def ranks_json(self) -> str:
        """`ranks` for the script of the page."""
        finite = {key: x if math.isfinite(x) else None for key, x in self.ranks.items()}
        return json.dumps(finite)


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        text: a sentence below the title.
        lines: a list, below the groups.
    """

    title: str = ""
    text: str = ""
    groups: Sequence[Group] = ()
    lines: Sequence[str] = ()


class Strong(str):
    """Text of a table's cell in bold."""

    is_strong = True


@dataclass(frozen=True)
class Table:
    """Rows of text below a row of heads. `texts` columns come first, then columns of numbers."""

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    texts: int = 1


class Order(NamedTuple):
    """One way to sort the groups of the first section."""

    key: str
    title: str
    higher_is_better: bool


class Colour(NamedTuple):
    """One entry of the legend: a colour as `#rrggbb`, and what it means."""

    code: str
    meaning: str


def render(
    title: str,
    sections: Sequence[Section],
    *,
    facts: Sequence[str] = (),
    table: Table | None = None,
    legend: Sequence[Colour] = (),
    orders: Sequence[Order] = (),
    order: str | None = None,
) -> bytes:
    """Make the page, as UTF-8.

    Args:
        facts: short texts beside the title.
        orders: what a reader can sort the groups of the first section by.
        order: key of the one that the page opens with, the worst first; default the first.
    """
    from jinja2 import Environment, StrictUndefined  # only where a report is written

    template = Path(__file__).with_name("html_report.html").read_text(encoding="utf-8")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    page = environment.from_string(template).render(
        title=title,
        facts=facts,
        table=table,
        legend=legend,
        orders=orders,
        order=order,
        sections=sections,
    )
    return page.encode()
