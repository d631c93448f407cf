"""A self-contained HTML page of image, truth, prediction and error map, sorted by any metric."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from string import Template

import cv2
import numpy as np
from numpy.typing import NDArray

from birefnet.errors import BiRefNetError
from birefnet.evaluation.columns import COLUMNS
from birefnet.evaluation.dataset import ImageResult, SetResult
from birefnet.evaluation.masks import Channel, fit_to_truth, read_mask, read_true_mask
from birefnet.evaluation.tables import format_value
from birefnet.imaging.io import decode

_MISSING_OBJECT = (214, 69, 28)  # RGB: truth that the prediction lacks
_ADDED_OBJECT = (24, 119, 201)  # RGB: prediction that the truth lacks
_JPEG_QUALITY = 82


def worst_first(images: Sequence[ImageResult], column: str) -> list[ImageResult]:
    """Sort pictures by a metric, the worst first."""
    sign = 1 if COLUMNS[column].higher_is_better else -1
    return sorted(images, key=lambda image: sign * image.values[column])


def error_map(prediction: NDArray[np.uint8], truth: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Show where levels differ: H x W x 3, the truth in light grey under red and blue.

    Red is truth that the prediction lacks, blue what it adds; the stronger, the farther off.
    """
    base = 255 - 0.22 * truth.astype(np.float32)
    difference = (prediction.astype(np.float32) - truth) / 255
    strength = np.abs(difference)[..., None]
    colour = np.where(difference[..., None] < 0, _MISSING_OBJECT, _ADDED_OBJECT)
    return np.rint(base[..., None] * (1 - strength) + colour * strength).astype(np.uint8)


def _thumbnail(pixels: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    height, width = pixels.shape[:2]
    scale = side / max(height, width)
    if scale >= 1:
        return pixels
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _data_uri(pixels: NDArray[np.uint8]) -> str:
    bgr = pixels[..., ::-1] if pixels.ndim == 3 else pixels
    encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1]
    return "data:image/jpeg;base64," + base64.b64encode(encoded.tobytes()).decode("ascii")


def _figure(caption: str, pixels: NDArray[np.uint8], side: int) -> str:
    uri = _data_uri(_thumbnail(pixels, side))
    return (
        f'<figure><img loading="lazy" src="{uri}" alt="{caption}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _card(result: SetResult, image: ImageResult, side: int, channel: Channel) -> str:
    files = image.files
    truth = read_true_mask(files.truth, channel=channel).levels
    figures = []
    if files.image is not None:
        figures.append(_figure("image", decode(files.image).rgb8(), side))
    figures.append(_figure("truth", truth, side))
    prediction = np.zeros_like(truth)
    if files.prediction is not None:
        levels = read_mask(files.prediction, channel=channel).levels
        prediction = fit_to_truth(levels, truth.shape[0], truth.shape[1], files.name)
    figures.append(_figure("prediction", prediction, side))
    figures.append(_figure("error", error_map(prediction, truth), side))
    numbers = "".join(
        f"<li><b>{COLUMNS[name].title}</b> {format_value(name, image.values[name])}</li>"
        for name in result.columns
    )
    # Full digits for sorting; in an attribute, so quotes have to be escaped.
    values = html.escape(json.dumps({name: image.values[name] for name in result.columns}))
    return (
        f'<article data-values="{values}"><h2>{html.escape(files.name)}'
        f"<small>{html.escape(result.method)}</small></h2>"
        f'<div class="row">{"".join(figures)}</div><ul>{numbers}</ul></article>'
    )


def _failed(results: Sequence[SetResult]) -> str:
    """A list of the pairs that have no numbers, with the reasons."""
    lines = [
        f"<li>{html.escape(f'{result.method}: {reason}')}</li>"
        for result in results
        for reason in result.failed.values()
    ]
    if not lines:
        return ""
    return f'<section><h2>Not scored</h2><ul class="failed">{"".join(lines)}</ul></section>'


def contact_sheet(
    results: Sequence[SetResult],
    *,
    sort_by: str,
    limit: int = 100,
    side: int = 320,
    channel: Channel = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> str:
    """Make the page for one or several methods.

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
            f"the sheet was to be sorted by '{sort_by}', which was not evaluated; take one of "
            f"{', '.join(columns)}"
        )
    chosen = [
        (result, image)
        for result in results
        for image in worst_first(result.images, sort_by)[: limit or None]
    ]
    cards = []
    for done, (result, image) in enumerate(chosen, start=1):
        cards.append(_card(result, image, side, channel))
        if progress:
            progress(done, len(chosen))
    options = "".join(
        f'<option value="{name}" data-up="{int(COLUMNS[name].higher_is_better)}"'
        f"{' selected' if name == sort_by else ''}>{name.replace('_', ' ')}</option>"
        for name in columns
    )
    page = Template((Path(__file__).parent / "contact_sheet.html").read_text(encoding="utf-8"))
    total = sum(len(result.images) for result in results)
    return page.substitute(
        title=html.escape(", ".join(dict.fromkeys(result.dataset for result in results))),
        methods=html.escape(" · ".join(dict.fromkeys(result.method for result in results))),
        shown=len(chosen),
        total=total,
        failed=_failed(results),
        options=options,
        cards="\n".join(cards),
    )
