"""Precision-recall and F-measure curves as a PNG, SVG or PDF."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from birefnet.errors import MissingExtraError, UsageError
from birefnet.evaluation.dataset import SetResult

SUFFIXES = (".png", ".svg", ".pdf")


def check_curve_path(path: Path) -> None:
    """Refuse a path that ``plot_curves`` cannot write, before the evaluation.

    Raises:
        BiRefNetError: for another suffix; MissingExtraError without matplotlib.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(
            f"curves cannot be written to {path}; give a name ending in .png, .svg or .pdf"
        )
    if find_spec("matplotlib") is None:
        raise MissingExtraError("drawing curves", "evaluate")


def plot_curves(results: Sequence[SetResult], path: Path) -> None:
    """Draw precision over recall of each method, and F over thresholds if it was measured."""
    check_curve_path(path)
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    has_f = all("f_measure" in result.curves for result in results)
    figure = Figure(figsize=(10 if has_f else 5, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 2 if has_f else 1, squeeze=False)[0]
    several_sets = len({result.dataset for result in results}) > 1
    thresholds = np.arange(256) / 255
    styles = ("-", "--", "-.", ":")
    for index, result in enumerate(results):
        label = f"{result.method}, {result.dataset}" if several_sets else result.method
        style = {"label": label, "linestyle": styles[index // 10 % len(styles)], "linewidth": 1.6}
        panels[0].plot(result.curves["recall"], result.curves["precision"], **style)
        if has_f:
            panels[1].plot(thresholds, result.curves["f_measure"], **style)
    names = (("recall", "precision"), ("threshold", "F-measure (β² = 0.3)"))
    for axes, (x_label, y_label) in zip(panels, names, strict=False):
        axes.set(xlabel=x_label, ylabel=y_label, xlim=(0, 1), ylim=(0, 1.01))
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].legend(loc="lower left", frameon=False)
    figure.savefig(path, dpi=160)
