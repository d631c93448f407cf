"""Predict and evaluate the standard test sets; finished predictions are kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from birefnet.errors import BiRefNetError, UsageError, counted
from birefnet.evaluation.dataset import Progress, SetResult
from birefnet.evaluation.pairing import list_names, pair_files
from birefnet.evaluation.suites import LocalTestSet, Suite
from birefnet.evaluation.tables import Row
from birefnet.files import is_written
from birefnet.imaging.io import encode, write_atomic
from birefnet.imaging.picture import to_uint8
from birefnet.imaging.values import Resolution

if TYPE_CHECKING:
    from birefnet.inference.predictor import Predictor

MANIFEST = "run.json"


def claim_folder(folder: Path, settings: Mapping[str, object]) -> None:
    """Write the settings of the predictions into their folder.

    Raises:
        BiRefNetError: if the folder has predictions with other settings.
    """
    manifest = folder / MANIFEST
    if not manifest.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(manifest, json.dumps(settings, indent=1).encode())
        return
    try:
        earlier = json.loads(manifest.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BiRefNetError(f"{manifest} cannot be read ({error}); remove {folder}") from error
    if earlier != settings:
        raise UsageError(
            f"{folder} has predictions with the settings {earlier}, but now they are {settings}; "
            "give another --out, or remove the folder"
        )


def predict_set(
    predictor_of: Callable[[], Predictor],
    located: LocalTestSet,
    folder: Path,
    *,
    resolution: Resolution | None = None,
    batch_size: int | None = None,
    progress: Progress | None = None,
    on_failure: Callable[[str], None] | None = None,
) -> int:
    """Write the mattes of a test set as 8-bit PNGs; existing ones are kept.

    Args:
        predictor_of: gives the predictor; called only if something is left to predict.
        on_failure: called with the reason if a picture cannot be predicted, and the others go on;
            None raises the error.

    Returns:
        How many were predicted now.

    Raises:
        BiRefNetError: for ground truths without a picture, listed by name.
        ImageError: for a picture that cannot be read, without ``on_failure``.
    """
    pairs, _ = pair_files(located.image, located.truth)
    lacking = [files.name for files in pairs if files.prediction is None]
    if lacking:
        raise BiRefNetError(
            f"{located.image} lacks {len(lacking)} of {counted(len(pairs), 'picture')} "
            f"({list_names(lacking)}); complete the data set"
        )
    todo = [
        (files.prediction, folder / f"{files.name}.png")
        for files in pairs
        if files.prediction is not None and not is_written(folder / f"{files.name}.png")
    ]
    if not todo:
        return 0
    sources = (source for source, _ in todo)
    mattes = predictor_of().predict_each(sources, resolution=resolution, batch_size=batch_size)
    done = len(pairs) - len(todo)
    count = 0
    for (_, target), matte in zip(todo, mattes, strict=True):
        if isinstance(matte, BiRefNetError):
            if on_failure is None:
                raise matte
            on_failure(str(matte))
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(target, encode(to_uint8(matte.alpha), format="png"))
        done, count = done + 1, count + 1
        if progress:
            progress(done, len(pairs))
    return count


def mean_row(suite: Suite, results: Sequence[SetResult]) -> Row | None:
    """The mean over the ``mean_of`` sets of a suite, with equal weights; None if one is missing."""
    found = {result.dataset: result for result in results}
    if not suite.mean_of or any(name not in found for name in suite.mean_of):
        return None
    members = [found[name] for name in suite.mean_of]
    values = {
        column: fmean(member.values[column] for member in members) for column in members[0].columns
    }
    return Row(suite.mean_name, members[0].method, values)
