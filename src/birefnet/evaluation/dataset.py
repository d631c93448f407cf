"""Evaluate a folder of predictions against a folder of ground truths, on all cores."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from birefnet.errors import BiRefNetError, ImageError, UsageError, counted
from birefnet.evaluation.accumulate import Accumulator
from birefnet.evaluation.columns import MATTING, Curve, Measurement, Thresholds, measure, resolve
from birefnet.evaluation.masks import (
    CHANNELS,
    Channel,
    fit_to_truth,
    looks_inverted,
    read_mask,
)
from birefnet.evaluation.matting import UNKNOWN
from birefnet.evaluation.pair import Pair
from birefnet.evaluation.pairing import Files, list_names, pair_files
from birefnet.processes import spread

Missing = Literal["error", "skip", "black"]
MISSING: tuple[str, ...] = get_args(Missing)
Progress = Callable[[int, int], None]

_CHUNK = 4  # pairs that a process takes at a time, if there are many


@dataclass(frozen=True)
class ImageResult:
    """The numbers of one pair, by column name."""

    files: Files
    values: dict[str, float]


@dataclass
class SetResult:
    """The numbers of one method on one data set.

    Attributes:
        method: the predictions' name.
        dataset: the ground truths' name.
        columns: names of the columns, in order.
        values: the data set's number by column.
        images: the numbers of each pair, in the order of the ground truths.
        failed: reason of each pair without a score, by name; it is in no mean.
        curves: mean curves of 256 thresholds, with ``precision`` and ``recall``.
        image_curves: the curves of each pair (N x 256) by source, where they were asked for.
        warnings: sentences about the files.
        thresholds: over which the mean and maximum of curves were taken.
    """

    method: str
    dataset: str
    columns: tuple[str, ...]
    values: dict[str, float]
    images: list[ImageResult] = field(default_factory=list)
    curves: dict[str, Curve] = field(default_factory=dict)
    image_curves: dict[str, Curve] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    thresholds: Thresholds = field(default_factory=Thresholds)


@dataclass(frozen=True)
class _Outcome:
    """The result of a worker: a measurement with notes, or an error message."""

    measurement: Measurement | None
    notes: tuple[str, ...] = ()
    error: str = ""


def evaluate_folder(
    prediction: str | os.PathLike[str],
    truth: str | os.PathLike[str],
    *,
    metrics: str | Iterable[str] = "segmentation",
    trimap: str | os.PathLike[str] | None = None,
    image: str | os.PathLike[str] | None = None,
    thresholds: Thresholds | None = None,
    missing: Missing = "error",
    channel: Channel = "auto",
    jobs: int = 1,
    keep_curves: bool = False,
    method: str | None = None,
    dataset: str | None = None,
    progress: Progress | None = None,
) -> SetResult:
    """Evaluate all predictions of a folder.

    A pair of which a file cannot be read or does not fit is listed in ``SetResult.failed``, and the
    means are those of the others. Files are paired by path or stem across suffixes and subfolders,
    and predictions resized bilinearly to the ground truth.

    Args:
        metrics: names of columns and groups, see ``columns.GROUPS``.
        trimap: folder of trimaps (128 = unknown region) for the matting metrics.
        image: folder of the pictures, for an HTML report.
        missing: for a missing prediction: ``error``; ``skip`` to list it as failed; ``black`` to
            count it, and one that cannot be read, as all black.
        channel: the mask of a file with alpha, see ``masks.read_mask``.
        jobs: processes; 0 takes one per core. Each process imports the main module again, so guard
            scripts with ``if __name__ == "__main__"``.
        keep_curves: keep each pair's curves, which ``compare.bootstrap`` needs for the maxima.
        method, dataset: names for tables; the folders' own by default.
        progress: called with the number of pairs done and of all.

    Raises:
        BiRefNetError: for missing predictions, listed by name, unless they count as black; if no
            pair at all can be scored; for folders that do not fit.
    """
    names = resolve(metrics)
    if channel not in CHANNELS:
        raise UsageError(f"channel came as '{channel}'; give one of {', '.join(CHANNELS)}")
    folders = {"image": image, "trimap": trimap}
    inputs = {key: Path(folder) if folder else None for key, folder in folders.items()}
    pairs, extra = _pairs(Path(prediction), Path(truth), missing=missing, **inputs)
    result = SetResult(method or Path(prediction).name, dataset or Path(truth).name, names, {})
    result.thresholds = thresholds or result.thresholds
    work = partial(_evaluate_files, names=names, missing=missing, channel=channel)
    outcomes = spread(work, pairs, jobs, chunk=_CHUNK if len(pairs) > 64 else 1)
    accumulator, notes = Accumulator(), Counter[str]()
    curves: dict[str, list[Curve]] = {}
    for done, (files, outcome) in enumerate(zip(pairs, outcomes, strict=True), start=1):
        if outcome.measurement is None:
            result.failed[files.name] = outcome.error
        else:
            accumulator.add(outcome.measurement)
            values = outcome.measurement.columns(names, result.thresholds)
            result.images.append(ImageResult(files, values))
            notes.update(outcome.notes)
            if keep_curves:
                for name, curve in outcome.measurement.curves.items():
                    curves.setdefault(name, []).append(curve)
        if progress:
            progress(done, len(pairs))
    if not result.images:
        reasons = list(result.failed.values())
        raise BiRefNetError(
            f"{prediction}: none of {counted(len(pairs), 'pair')} can be scored: "
            + "; ".join(reasons[:10])
        )
    mean = accumulator.mean()
    result.values, result.curves = mean.columns(names, result.thresholds), mean.curves
    result.image_curves = {name: np.stack(rows) for name, rows in curves.items()}
    result.warnings = [
        *(f"Files that {note}: {number}." for note, number in notes.items()),
        *(
            [f"{counted(len(extra), 'prediction')} without ground truth: {list_names(extra)}."]
            if extra
            else []
        ),
    ]
    return result


def _pairs(
    prediction: Path, truth: Path, *, image: Path | None, trimap: Path | None, missing: Missing
) -> tuple[list[Files], list[str]]:
    """The files of each ground truth, and the names of other predictions; see `evaluate_folder`."""
    if missing not in MISSING:
        raise UsageError(f"missing came as '{missing}'; give one of {', '.join(MISSING)}")
    pairs, extra = pair_files(prediction, truth, image=image, trimap=trimap)
    lacking = [files.name for files in pairs if files.prediction is None]
    if lacking and missing == "error":
        raise BiRefNetError(
            f"{prediction} lacks {len(lacking)} of {counted(len(pairs), 'prediction')} "
            f"({list_names(lacking)}); add them, leave them out (--missing skip), or "
            "count them as all black (--missing black)"
        )
    without_trimap = [files.name for files in pairs if files.trimap is None]
    if trimap and without_trimap:
        raise BiRefNetError(
            f"{trimap} lacks {len(without_trimap)} of {counted(len(pairs), 'trimap')} "
            f"({list_names(without_trimap)}); add them"
        )
    return pairs, extra


def _evaluate_files(
    files: Files, *, names: tuple[str, ...], missing: Missing, channel: Channel
) -> _Outcome:
    """Read and measure one pair; an error comes back as text, to be listed."""
    try:
        truth = read_mask(files.truth, channel=channel, is_truth=True)
        height, width = truth.levels.shape
        levels, notes = np.zeros((height, width), np.uint8), list(truth.notes)
        try:
            if files.prediction is None:
                raise ImageError(f"{files.name} has no prediction")
            read = read_mask(files.prediction, channel=channel)
            levels = read.levels
            notes += read.notes
        except BiRefNetError:
            if missing != "black":
                raise
            notes.append("are missing or unreadable predictions, counted as all black")
        prediction = fit_to_truth(levels, height, width, str(files.prediction))
        trimap = None
        if files.trimap is not None and set(names) & set(MATTING):
            trimap = read_mask(files.trimap, channel="luminance").levels
            if not (trimap == UNKNOWN).any():
                notes.append(
                    f"have a trimap with no pixel of {UNKNOWN}, so that their errors count as 0"
                )
        pair = Pair(prediction, truth.levels, trimap)
        if looks_inverted(pair.confusion):
            notes.append("seem inverted (the object should be white)")
        return _Outcome(measure(pair, names, precision_recall=True), tuple(notes))
    except BiRefNetError as error:
        return _Outcome(None, error=str(error))
