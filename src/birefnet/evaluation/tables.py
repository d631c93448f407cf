"""Tables of results: terminal, CSV, JSON, Markdown, LaTeX, HTML; the best number in bold."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from birefnet.errors import BiRefNetError, UsageError
from birefnet.evaluation.columns import COLUMNS
from birefnet.evaluation.dataset import SetResult
from birefnet.html_report import Strong
from birefnet.html_report import Table as HtmlTable

if TYPE_CHECKING:
    from rich.table import Table

JSON_FORMAT = "birefnet-evaluation"
JSON_VERSION = 1


@dataclass(frozen=True)
class Row:
    """One line of a table: a method on a data set. Unknown numbers are left out.

    Attributes:
        count: number of pictures in the mean; None if unknown.
        failed: number of pictures without a score; they are in no mean.
    """

    dataset: str
    method: str
    values: Mapping[str, float]
    is_published: bool = False
    count: int | None = None
    failed: int = 0


def rows_of(results: Iterable[SetResult]) -> list[Row]:
    """The rows of evaluated folders."""
    return [
        Row(
            result.dataset,
            result.method,
            result.values,
            count=len(result.images),
            failed=len(result.failed),
        )
        for result in results
    ]


def format_value(column: str, value: float | None) -> str:
    """A number with the decimals of its column; a dash for None."""
    return "-" if value is None else f"{value:.{COLUMNS[column].digits}f}"


def best_values(rows: Sequence[Row], columns: Sequence[str]) -> dict[tuple[str, str], str]:
    """The best printed number by data set and column, if there are several methods."""
    best: dict[tuple[str, str], str] = {}
    for dataset in dict.fromkeys(row.dataset for row in rows):
        group = [row for row in rows if row.dataset == dataset]
        for column in columns:
            values = [row.values[column] for row in group if column in row.values]
            if len(values) > 1:
                choose = max if COLUMNS[column].higher_is_better else min
                best[dataset, column] = format_value(column, choose(values))
    return best


def _cells(
    rows: Sequence[Row], columns: Sequence[str], bold: Callable[[str], str]
) -> list[list[str]]:
    """Text cells, data set and method first; equal printed numbers are all bold."""
    best = best_values(rows, columns)
    lines = []
    for row in rows:
        cells = [row.dataset, row.method]
        for column in columns:
            text = format_value(column, row.values.get(column))
            cells.append(bold(text) if best.get((row.dataset, column)) == text else text)
        lines.append(cells)
    return lines


def _heads(columns: Sequence[str], up: str, down: str) -> list[str]:
    return [
        COLUMNS[name].title + (up if COLUMNS[name].higher_is_better else down) for name in columns
    ]


def to_terminal(rows: Sequence[Row], columns: Sequence[str], *, title: str | None = None) -> Table:
    """A ``rich`` table."""
    from rich import box
    from rich.table import Table

    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column("data set", no_wrap=True)
    table.add_column("method", overflow="fold")
    for head in _heads(columns, "↑", "↓"):
        table.add_column(head, justify="right", no_wrap=True)
    previous = rows[0].dataset if rows else ""
    for row, cells in zip(rows, _cells(rows, columns, "[bold green]{}[/]".format), strict=True):
        if row.dataset != previous:
            table.add_section()
            previous = row.dataset
        table.add_row(*cells, style="dim" if row.is_published else None)
    return table


def to_tall_terminal(
    rows: Sequence[Row], columns: Sequence[str], *, title: str | None = None
) -> Table:
    """A ``rich`` table of one line per metric, for narrow terminals and many metrics."""
    from rich import box
    from rich.table import Table

    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column("metric", no_wrap=True)
    for row in rows:
        table.add_column(f"{row.method}\n{row.dataset}", justify="right", overflow="fold")
    cells = _cells(rows, columns, "[bold green]{}[/]".format)
    for index, name in enumerate(columns):
        arrow = "↑" if COLUMNS[name].higher_is_better else "↓"
        head = f"{name.replace('_', ' ')} {arrow}"
        table.add_row(head, *(line[index + 2] for line in cells))
    return table


def to_csv(rows: Sequence[Row], columns: Sequence[str]) -> str:
    """Comma-separated values with all digits."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["dataset", "method", *columns])
    for row in rows:
        writer.writerow(
            [
                row.dataset,
                row.method,
                *(row.values.get(name, "") for name in columns),
            ]
        )
    return text.getvalue()


def to_markdown(rows: Sequence[Row], columns: Sequence[str]) -> str:
    """A Markdown table."""
    lines = [["data set", "method", *_heads(columns, " ↑", " ↓")]]
    lines.append(["---", "---", *("---:" for _ in columns)])
    lines += _cells(rows, columns, "**{}**".format)
    return "".join("| " + " | ".join(cells) + " |\n" for cells in lines)


def to_html(rows: Sequence[Row], columns: Sequence[str]) -> HtmlTable:
    """A table of an HTML report."""
    heads = ["data set", "method", *_heads(columns, " ↑", " ↓")]
    return HtmlTable(heads, _cells(rows, columns, Strong), texts=2)


def to_latex(rows: Sequence[Row], columns: Sequence[str]) -> str:
    """A LaTeX tabular, for ``\\usepackage{booktabs}``."""
    heads = ["Data set", "Method", *_heads(columns, r" $\uparrow$", r" $\downarrow$")]
    lines = [
        rf"\begin{{tabular}}{{ll{'r' * len(columns)}}}",
        r"\toprule",
        " & ".join(heads) + r" \\",
        r"\midrule",
    ]
    previous = rows[0].dataset if rows else ""
    for row, cells in zip(rows, _cells(rows, columns, r"\textbf{{{}}}".format), strict=True):
        if row.dataset != previous:
            lines.append(r"\midrule")
            previous = row.dataset
        names = [_escape_latex(cell) for cell in cells[:2]]
        lines.append(" & ".join([*names, *cells[2:]]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _escape_latex(text: str) -> str:
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    special |= {character: "\\" + character for character in "&%$#_{}"}
    return "".join(special.get(character, character) for character in text)


def to_json(results: Sequence[SetResult]) -> str:
    """All numbers of evaluated folders, with each picture's, curves and warnings."""
    data = {
        "format": JSON_FORMAT,
        "format_version": JSON_VERSION,
        "results": [
            {
                "method": result.method,
                "dataset": result.dataset,
                "count": len(result.images),
                "values": result.values,
                "thresholds": list(result.thresholds.levels),
                "curves": {name: curve.tolist() for name, curve in result.curves.items()},
                "images": [{"name": image.files.name, **image.values} for image in result.images],
                "failed": result.failed,
                "warnings": result.warnings,
            }
            for result in results
        ],
    }
    return json.dumps(data, indent=1) + "\n"


def read_json(path: Path) -> list[Row]:
    """Read the rows of a file that ``to_json`` wrote.

    Raises:
        UsageError: there is none. BiRefNetError: for another file.
    """
    if not path.is_file():
        raise UsageError(f"there is no file {path}; check the path")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["format"] != JSON_FORMAT or data["format_version"] != JSON_VERSION:
            raise ValueError("another format")
        return [
            Row(
                str(item["dataset"]),
                str(item["method"]),
                dict(item["values"]),
                count=int(item["count"]),
                failed=len(item.get("failed", ())),
            )
            for item in data["results"]
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BiRefNetError(
            f"{path} is not a result file ({error}); give files that "
            "`birefnet evaluate --output NAME.json` wrote"
        ) from error


def images_to_csv(results: Sequence[SetResult]) -> str:
    """The numbers of every picture, one line each, with all digits; empty if it failed."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = results[0].columns
    writer.writerow(["dataset", "method", "name", *columns])
    for result in results:
        for image in result.images:
            numbers = (image.values[name] for name in columns)
            writer.writerow([result.dataset, result.method, image.files.name, *numbers])
        for name in result.failed:
            writer.writerow([result.dataset, result.method, name, *("" for _ in columns)])
    return text.getvalue()


def render(results: Sequence[SetResult], form: str) -> str:
    """Results as the text of a file.

    Args:
        form: csv, json, markdown (md) or latex (tex).

    Raises:
        BiRefNetError: for another form.
    """
    rows, columns = rows_of(results), results[0].columns
    writers: dict[str, Callable[[], str]] = {
        "csv": lambda: to_csv(rows, columns),
        "json": lambda: to_json(results),
        "markdown": lambda: to_markdown(rows, columns),
        "md": lambda: to_markdown(rows, columns),
        "latex": lambda: to_latex(rows, columns),
        "tex": lambda: to_latex(rows, columns),
    }
    if form not in writers:
        raise UsageError(f"there is no table format '{form}'; choose one of {', '.join(writers)}")
    return writers[form]()
