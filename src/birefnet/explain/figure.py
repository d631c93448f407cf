"""The panels as a figure: PNG, SVG or PDF by matplotlib, or an HTML report."""

from __future__ import annotations

import io
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from birefnet.errors import MissingExtraError, UsageError
from birefnet.explain.panels import SIDE, Row
from birefnet.files import write_atomic
from birefnet.html_report import Group, Section, render
from birefnet.imaging.figure import figure

SUFFIXES = (".png", ".svg", ".pdf", ".html")

_CELL = 1.9  # width of a panel [inch]
_TALLEST = 3 * _CELL  # taller panels become narrower, because a figure has a dozen rows
_GAP, _LINE, _MARGIN = 0.12, 0.15, 0.25  # between panels, a line of small print, the border
_TEXT = 5.2 * _LINE  # above and below the panels of a row


def check_figure_path(path: Path) -> None:
    """Refuse a path that cannot be a figure, before the work.

    Raises:
        BiRefNetError: another suffix; MissingExtraError if matplotlib is needed and missing.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UsageError(
            f"the figure cannot be written to {path}; give a name ending in {', '.join(SUFFIXES)}"
        )
    if suffix != ".html" and find_spec("matplotlib") is None:
        raise MissingExtraError("drawing a figure (other than .html)", "evaluate")


def save_figure(path: Path, title: str, rows: Sequence[Row]) -> None:
    """Write the figure in the format of the suffix, whole or not at all.

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

    def write(
        x: float, y: float, text: str, size: float, weight: str = "normal", color: str = "black"
    ) -> None:
        at = (x / width, 1 - y / height)
        figure.text(*at, text, fontsize=size, va="top", weight=weight, color=color)

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
