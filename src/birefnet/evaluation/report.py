"""An HTML report of image, truth, prediction and error map, sorted by any metric."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from birefnet.errors import BiRefNetError
from birefnet.evaluation.columns import COLUMNS
from birefnet.evaluation.dataset import ImageResult, SetResult
from birefnet.evaluation.masks import Channel, fit_to_truth, read_mask, read_true_mask
from birefnet.evaluation.tables import format_value, rows_of, to_html
from birefnet.html_report import Colour, Figure, Group, Order, Section, figure, render
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
    truth = read_true_mask(files.truth, channel=channel).levels
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
            f"{len(chosen)} of {total} pictures",
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
