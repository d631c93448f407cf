"""The files of weights, downloaded where they are not on this machine yet."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from birefnet.errors import UnknownModelError
from birefnet.weights.catalogue import Checkpoint
from birefnet.weights.download import cached, fetch
from birefnet.weights.hub import cached_repository, fetch_repository, page_of
from birefnet.weights.locate import Located, WeightFiles, at_path, locate
from birefnet.weights.transfer import Report


@dataclass(frozen=True)
class Missing:
    """Weights that would have to be downloaded.

    Attributes:
        name: for messages.
        address: of the file, or of the repository's page.
        bytes: how large the file is, perhaps roughly; `None` where that is not known.
        checkpoint: the catalogue's entry, if it is one.
    """

    name: str
    address: str
    bytes: int | None = None
    checkpoint: Checkpoint | None = None

    def __str__(self) -> str:
        size = f"about {self.bytes / 1e6:,.0f} MB" if self.bytes else "of unknown size"
        return f"{self.name} ({self.address}, {size})"


def weight_files(
    name: str | os.PathLike[str] | Located,
    *,
    cache_dir: str | os.PathLike[str] | None = None,
    offline: bool | None = None,
    progress: bool | Report | None = None,
) -> WeightFiles:
    """The files of a network's weights; what is not there yet is downloaded.

    Args:
        name: see `locate`.
        cache_dir, offline, progress: see `birefnet.weights.download.fetch`.

    Raises:
        WeightsError: nothing of the name is known, it has no weights, or they cannot be had.
    """
    located = locate(name)
    if located.path is not None:
        return at_path(located.path, located.name)
    if located.repository is not None:
        folder = fetch_repository(
            located.repository, cache_dir=cache_dir, offline=offline, progress=progress
        )
        label = str(located.repository)
        return replace(at_path(folder, label), name=label)
    checkpoint = _network(located)
    what = checkpoint or located.name
    path = fetch(what, cache_dir=cache_dir, offline=offline, progress=progress)
    if checkpoint is None:
        return at_path(path, located.name)
    return WeightFiles(checkpoint.name, [path], checkpoint.addresses[0], checkpoint=checkpoint)


def missing(
    name: str | os.PathLike[str] | Located, *, cache_dir: str | os.PathLike[str] | None = None
) -> Missing | None:
    """The download that `weight_files` would make; `None` where all of it is there.

    Raises:
        WeightsError: nothing of the name is known, or it has no weights.
    """
    located = locate(name)
    if located.path is not None:
        at_path(located.path, located.name)
        return None
    if located.repository is not None:
        there = cached_repository(located.repository, cache_dir=cache_dir)
        return None if there else Missing(str(located.repository), page_of(located.repository))
    checkpoint = _network(located)
    if cached(checkpoint or located.name, cache_dir=cache_dir):
        return None
    if checkpoint is None:
        return Missing(located.name, located.name)
    return Missing(
        checkpoint.name, checkpoint.addresses[0], checkpoint.approximate_bytes, checkpoint
    )


def _network(located: Located) -> Checkpoint | None:
    """The catalogue's entry, which must hold the weights of a whole network."""
    checkpoint = located.checkpoint
    if checkpoint is not None and checkpoint.kind == "onnx":
        raise UnknownModelError(
            f"{checkpoint.name} is an ONNX file, which runs as it is (`birefnet.load`, "
            f"`--model {checkpoint.name}`) and holds no weights to train or convert"
        )
    if checkpoint is not None and checkpoint.kind == "backbone":
        raise UnknownModelError(
            f"{checkpoint.name} is a backbone to start training from, not a whole network"
        )
    return checkpoint
