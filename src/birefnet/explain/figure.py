"""The panels on one sheet: PNG, SVG or PDF by matplotlib, or an HTML report."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from birefnet.errors import MissingExtraError, UsageError
from birefnet.explain.panels import SIDE, Row
from birefnet.html_report import Group, Section, figure, render
from birefnet.imaging.encoding import write_atomic

SUFFIXES = (".png", ".svg", ".pdf", ".html")

_CELL = 1.9  # width of a panel [inch]
_TALLEST = 3 * _CELL  # taller panels are narrower instead: the sheet has a dozen rows of them
_GAP, _LINE, _MARGIN = 0.12, 0.15, 0.25  # between panels, a line of small print, the border
_TEXT = 5.2 * _LINE  # above and below the panels of a row


def check_figure_path(path: Path) -> None:
    """Refuse a path that no figure can go to, before the work that it would show.

    Raises:
        BiRefNetError: another suffix; MissingExtraError without matplotlib where that draws.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UsageError(
            f"the figure was to go to {path}; give a name ending in {', '.join(SUFFIXES)}"
        )
    if suffix != ".html":
        try:
            import matplotlib  # noqa: F401
        except ImportError as error:
            raise MissingExtraError("drawing a figure (other than .html)", "evaluate") from error


def save_figure(path: Path, title: str, rows: Sequence[Row]) -> None:
    """Write the sheet in the format that the suffix says, whole or not at all.

    Raises:
        BiRefNetError: as `check_figure_path`.
    """
    check_figure_path(path)
    if path.suffix.lower() == ".html":
        write_atomic(path, _page(title, rows))
    else:
        write_atomic(path, _sheet(title, rows, path.suffix.lower()[1:]))


def _sheet(title: str, rows: Sequence[Row], format: str) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = max(len(row.panels) for row in rows)
    shapes = [high / wide for high, wide in (row.panels[0].pixels.shape[:2] for row in rows)]
    cells = [min(_CELL * shape, _TALLEST) for shape in shapes]
    width = columns * (_CELL + _GAP) - _GAP + 2 * _MARGIN
    height = sum(cells) + len(rows) * _TEXT + 3 * _LINE + 2 * _MARGIN
    figure = Figure(figsize=(width, height), facecolor="white")
    FigureCanvasAgg(figure)

    def write(x: float, y: float, text: str, size: float, **style: Any) -> None:
        figure.text(x / width, 1 - y / height, text, fontsize=size, va="top", **style)

    write(_MARGIN, _MARGIN, title, 12, weight="bold")
    top = _MARGIN + 3 * _LINE
    for row, cell, shape in zip(rows, cells, shapes, strict=True):
        write(_MARGIN, top, row.title, 9, weight="bold", color="#24527a")
        for j, panel in enumerate(row.panels):
            left = _MARGIN + j * (_CELL + _GAP)
            write(left, top + 1.35 * _LINE, panel.title, 8)
            below = top + 2.5 * _LINE + cell
            frame = (left / width, 1 - below / height, cell / shape / width, cell / height)
            axes = figure.add_axes(frame)
            axes.imshow(panel.pixels, aspect="auto", interpolation="none")
            axes.set_axis_off()
            write(left, below + 0.2 * _LINE, panel.note, 6.5, color="#555555")
        top += cell + _TEXT
    buffer = io.BytesIO()
    figure.savefig(buffer, format=format, dpi=160)
    return buffer.getvalue()


def _page(title: str, rows: Sequence[Row]) -> bytes:
    def group(row: Row) -> Group:
        return Group([figure(p.title, p.pixels, note=p.note, side=SIDE) for p in row.panels])

    return render(title, [Section(row.title, groups=[group(row)]) for row in rows])
