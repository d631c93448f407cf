"""An HTML report of image, truth, prediction and error map, sorted by any metric; curves as a PNG,
SVG or PDF."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from birefnet.errors import BiRefNetError, MissingExtraError, UsageError, counted
from birefnet.evaluation.columns import COLUMNS
from birefnet.evaluation.dataset import ImageResult, SetResult
from birefnet.evaluation.masks import Channel, fit_to_truth, read_mask
from birefnet.evaluation.tables import format_value, rows_of, to_html
from birefnet.html_report import Colour, Group, Order, Section, render
from birefnet.imaging.figure import Figure, figure
from birefnet.imaging.io import decode

_MISSING_OBJECT = (214, 69, 28)  # RGB: object that the prediction lacks
_ADDED_OBJECT = (24, 119, 201)  # RGB: object that the prediction adds


def worst_first(images: Sequence[ImageResult], column: str) -> list[ImageResult]:
    """Sort pictures by a metric, the worst first."""
    sign = 1 if COLUMNS[column].higher_is_better else -1
    return sorted(images, key=lambda image: sign * image.values[column])


def error_map(prediction: NDArray[np.uint8], truth: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Show where levels differ: H x W x 3, the ground truth in light grey under red and blue.

    Red is object that the prediction lacks, blue is object that it adds; stronger colours mean
    larger differences.
    """
    base = 255 - 0.22 * truth.astype(np.float32)
    difference = (prediction.astype(np.float32) - truth) / 255
    strength = np.abs(difference)[..., None]
    colour = np.where(difference[..., None] < 0, _MISSING_OBJECT, _ADDED_OBJECT)
    return np.rint(base[..., None] * (1 - strength) + colour * strength).astype(np.uint8)


def _group(result: SetResult, image: ImageResult, side: int, channel: Channel) -> Group:
    files = image.files
    truth = read_mask(files.truth, channel=channel, is_truth=True).levels
    prediction = np.zeros_like(truth)
    if files.prediction is not None:
        levels = read_mask(files.prediction, channel=channel).levels
        prediction = fit_to_truth(levels, truth.shape[0], truth.shape[1], files.name)
    figures: list[Figure] = []
    if files.image is not None:
        figures.append(figure("image", decode(files.image).rgb8(), side=side))
    masks = {"ground truth": truth, "prediction": prediction, "error": error_map(prediction, truth)}
    figures += [figure(caption, pixels, side=side) for caption, pixels in masks.items()]
    ranks = {name: image.values[name] for name in result.columns}
    printed = {COLUMNS[name].title: format_value(name, value) for name, value in ranks.items()}
    return Group(figures, files.name, result.method, values=printed, ranks=ranks)


def html_report(
    results: Sequence[SetResult],
    *,
    sort_by: str,
    limit: int = 100,
    side: int = 320,
    channel: Channel = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> bytes:
    """Make the page for one or several methods, see `birefnet.html_report`.

    Args:
        sort_by: name of the column that the page opens with, the worst first.
        limit: pictures per method, the worst by ``sort_by``; 0 for all.
        side: longer side of a thumbnail in pixels.
        channel: as it was given to ``evaluate_folder``.

    Raises:
        BiRefNetError: if the column was not evaluated.
    """
    columns = results[0].columns
    if sort_by not in columns:
        raise BiRefNetError(
            f"the report cannot be sorted by '{sort_by}', which was not evaluated; choose one of "
            f"{', '.join(columns)}"
        )
    chosen = [
        (result, image)
        for result in results
        for image in worst_first(result.images, sort_by)[: limit or None]
    ]
    groups = []
    for done, (result, image) in enumerate(chosen, start=1):
        groups.append(_group(result, image, side, channel))
        if progress:
            progress(done, len(chosen))
    sections = [Section(groups=groups)]
    failed = [f"{one.method}: {reason}" for one in results for reason in one.failed.values()]
    if failed:
        sections.append(Section("Not scored", lines=failed))
    total = sum(len(result.images) for result in results)
    return render(
        ", ".join(dict.fromkeys(result.dataset for result in results)),
        sections,
        facts=(
            " · ".join(dict.fromkeys(result.method for result in results)),
            f"{len(chosen)} of {counted(total, 'picture')}",
        ),
        table=to_html(rows_of(results), columns),
        legend=[Colour(_hex(_MISSING_OBJECT), "missing"), Colour(_hex(_ADDED_OBJECT), "added")],
        orders=[
            Order(name, name.replace("_", " "), COLUMNS[name].higher_is_better) for name in columns
        ],
        order=sort_by,
    )


def _hex(rgb: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*rgb)


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
    from matplotlib.figure import Figure as Chart

    has_f = all("f_measure" in result.curves for result in results)
    chart = Chart(figsize=(10 if has_f else 5, 4.4), layout="constrained")
    FigureCanvasAgg(chart)
    panels = chart.subplots(1, 2 if has_f else 1, squeeze=False)[0]
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
    chart.savefig(path, dpi=160)
