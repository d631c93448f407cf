"""Ray Data: cut out the pictures of a table on a cluster.

    import ray
    from birefnet.integrations.ray_data import CutOut

    table = ray.data.read_parquet("s3://shop/pictures.parquet")
    table = table.map_batches(CutOut, compute=ray.data.ActorPoolStrategy(size=2))
    table.write_parquet("s3://shop/cutouts")

Documentation of `map_batches`: https://docs.ray.io/en/latest/data/transforming-data.html
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from birefnet.errors import BiRefNetError, DeviceError, needs_extra
from birefnet.imaging.picture import Remote

if TYPE_CHECKING:
    from birefnet.imaging.values import Keep, Kind, Resolution
    from birefnet.matte import Background, Matte

# Facts of a matte by their columns, and what stands there where it failed.
_UNKNOWN = {"width": 0, "height": 0, "coverage": np.nan, "confidence": np.nan, "is_empty": False}
CPUS = 4  # of an actor without GPU, where nodes have so many: networks gain little from more


class CutOut:
    """Adds to each row what is made of its picture; one network per actor.

    Columns that come along: `kind` by its name (bytes of an encoded file, `None` where it failed),
    and `status` (done or failed), `error`, `width`, `height`, `coverage`, `confidence`, `is_empty`.
    A picture that cannot be read fails alone.

    Args:
        column: holds the picture: bytes of a file, a path or URL, an array, or
            `{"bytes": …, "path": …}` as Hugging Face tables do.
        model, device, dtype: see `birefnet.load`.
        kind, background, refine, format, quality, metadata: see `Matte.encode`.
        resolution, batch_size: see `Predictor.predict`.
    """

    def __init__(
        self,
        column: str = "image",
        model: str | None = None,
        *,
        kind: Kind = "cutout",
        background: Background | None = None,
        refine: bool = True,
        format: str = "png",
        quality: int | None = None,
        metadata: Keep = "keep",
        resolution: Resolution | None = None,
        batch_size: int | None = None,
        device: str = "auto",
        dtype: str = "auto",
    ) -> None:
        from birefnet.api import load

        self._predictor = load(model, device=device, dtype=dtype)
        self._column = column
        self._kind: Kind = kind
        self._encoding: dict[str, Any] = {
            "background": background,
            "refine": refine,
            "quality": quality,
            "metadata": metadata,
        }
        self._format = format
        self._reading: dict[str, Any] = {"resolution": resolution, "batch_size": batch_size}

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """The batch, columns of equal length, with the columns that come along."""
        if self._column not in batch:
            raise BiRefNetError(
                f"the table has no column {self._column!r}; it has {', '.join(map(repr, batch))}"
            )
        rows = [
            self._row(result)
            for result in self._predictor.predict_each(
                (_picture(value) for value in batch[self._column]),
                **self._reading,
            )
        ]
        made = {name: _column([row[name] for row in rows]) for name in rows[0]} if rows else {}
        return {**batch, **made}

    def _row(self, result: Matte | BiRefNetError) -> dict[str, Any]:
        if not isinstance(result, BiRefNetError):
            try:
                data = result.encode(self._format, self._kind, **self._encoding)
            except BiRefNetError as error:
                result = error
        if isinstance(result, BiRefNetError):
            return {self._kind: None, "status": "failed", "error": str(result), **_UNKNOWN}
        facts = {name: getattr(result, name) for name in _UNKNOWN}
        return {self._kind: data, "status": "done", "error": "", **facts}


def _picture(value: object) -> Any:
    """The input of the predictor."""
    if isinstance(value, Mapping):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, str) and "://" in value:
        import fsspec

        return Remote(lambda: fsspec.open(value, "rb"), value)
    return b"" if value is None else value


def _column(values: list[object]) -> Any:
    """Numbers as an array; bytes and text as they are, for Arrow to find their type."""
    if any(value is None or isinstance(value, (bytes, str)) for value in values):
        column = np.empty(len(values), dtype=object)
        column[:] = values
        return column
    return np.array(values)


def connect() -> Any:
    """The module `ray`, connected to the cluster of RAY_ADDRESS, or else to one on this machine.

    Raises:
        MissingExtraError: Ray is not installed.
        BiRefNetError: the cluster does not answer.
    """
    with needs_extra("ray", "working on a cluster"):
        import ray
        import ray.data
    if not ray.is_initialized():
        try:
            ray.init(log_to_driver=False, include_dashboard=False, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError) as error:
            address = os.environ.get("RAY_ADDRESS", "this machine")
            raise BiRefNetError(f"the Ray cluster at {address} does not answer: {error}") from error
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # errors are raised
    return ray


@contextmanager
def explained() -> Iterator[None]:
    """Turn what Ray raises into one sentence with what went wrong on the node.

    Raises:
        BiRefNetError: in place of any error of Ray.
    """
    import ray

    try:
        yield
    except ray.exceptions.RayError as error:
        lines: list[str] = []
        link: BaseException | None = error
        while link is not None:
            lines += [line.strip() for line in str(link).splitlines() if line.strip()]
            link = link.__cause__ or link.__context__
        named = [line for line in lines if "Error: " in line] or [
            lines[0] if lines else repr(error)
        ]
        raise BiRefNetError(f"the cluster cannot do this: {named[-1]}") from error


def resources(device: str, actors: int | None, blocks: int | None = None) -> dict[str, Any]:
    """The resources for `map_batches`: a GPU per actor where there are some, else processors.

    Args:
        device: as for `birefnet.load`; `auto` takes GPUs if the cluster has any.
        actors: how many; `None` for as many as fit.
        blocks: of work, if that is known; more actors would have nothing to do.

    Raises:
        DeviceError: GPUs are asked for and the cluster has none.
    """
    import ray
    import ray.data

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    gpus = int(sum(node.get("GPU", 0) for node in nodes))
    if device.startswith("cuda") and not gpus:
        raise DeviceError(
            "device is cuda, and no node of the cluster has a GPU; choose auto or cpu"
        )
    if gpus and device != "cpu":
        reserved: dict[str, object] = {"num_gpus": 1, "num_cpus": 1}
        fitting = gpus
    else:
        cpus = [int(node.get("CPU", 0)) for node in nodes if node.get("CPU", 0) >= 1]
        each = min([CPUS, *cpus])
        reserved = {"num_cpus": each}
        fitting = sum(count // each for count in cpus)
    number = max(1, min(actors or fitting, blocks or fitting))
    pool = ray.data.ActorPoolStrategy(min_size=number if actors else 1, max_size=number)
    return {**reserved, "compute": pool}
