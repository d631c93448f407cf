"""Networks for nodes: which there are, by every name that workflows use, and loading them."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from birefnet.api import load
from birefnet.errors import BiRefNetError, WeightsError
from birefnet.integrations.comfyui import host
from birefnet.integrations.comfyui.running import masks
from birefnet.options import Options
from birefnet.weights.catalogue import CHECKPOINTS, lookup
from birefnet.weights.locate import EXPORTED, SUFFIXES, bundled_names, default_model

if TYPE_CHECKING:
    from torch import Tensor

    from birefnet.inference.predictor import Predictor

log = logging.getLogger(__name__)

KEPT = 2  # networks in memory beside those that ComfyUI keeps as results of nodes
_SPARE = 2  # a network computes with about as much memory again as its weights, at least
_FILES = (*SUFFIXES, *EXPORTED)


@dataclass(eq=False)
class Model:
    """The output of loaders for other nodes: a predictor, with the interface of
    ComfyUI's own models.

    Attributes:
        predictor: pictures in, mattes out.
        name: as chosen.
        device: where it runs, as far as known.
    """

    predictor: Predictor
    name: str
    device: str = "auto"

    def encode_image(self, image: Tensor, image_size: int | None = None) -> Tensor:
        """IMAGE → MASK, as ComfyUI's `RemoveBackground` asks of its models.

        Args:
            image: B x H x W x C in [0, 1].
            image_size: side of the square that the network sees [px]; default: its weights' own.
        """
        return masks(self.predictor, image, Options(kind="mask", resolution=image_size))


def as_model(value: object, expected: str) -> Model:
    """`value` if it is ours; other packs give other things the same type's name.

    Raises:
        BiRefNetError: it is of another pack.
    """
    if isinstance(value, Model):
        return value
    raise BiRefNetError(
        f"the model was loaded by another pack's node ({type(value).__name__}); load it with "
        f"{expected}"
    )


def files() -> dict[str, Path]:
    """Networks in ComfyUI's folders, by their path in there; of equal names the first counts."""
    paths: dict[str, Path] = {}
    for folder in host.model_folders():
        # As ComfyUI does, through links too: models are often kept elsewhere.
        for parent, folders, names in os.walk(folder, followlinks=True):
            folders.sort()
            for path in (Path(parent, name) for name in sorted(names)):
                if path.suffix.lower() in _FILES and not _is_backbone(path):
                    paths.setdefault(path.relative_to(folder).as_posix(), path)
    return paths


def _is_backbone(path: Path) -> bool:
    """Whether a file holds ImageNet weights that other packs keep beside their networks."""
    return path.stem.lower().startswith(("swin_", "pvt_v2_"))


def names() -> list[str]:
    """The choices of a loader: the bundled network, files that are there, released networks."""
    released = [c.name for c in CHECKPOINTS.values() if c.kind == "network" and c.repo]
    return list(dict.fromkeys([*bundled_names(), *files(), *released]))


def find(name: str, *others: str) -> str:
    """The argument of `birefnet.load` for a name that a workflow uses.

    A file of that name in ComfyUI's folders comes first: with its path there, or anywhere in them,
    with a suffix or without. Then the table of released networks.

    Args:
        name: such as General-HR.safetensors, or General-HR.
        others: further names of the same network, tried in turn.

    Raises:
        WeightsError: neither is there.
    """
    there = files()
    for candidate in (name, *others):
        for path in _matches(candidate, there):
            return str(path)
    for candidate in (name, *others):
        if candidate.lower() in bundled_names():
            return candidate.lower()
        checkpoint = lookup(candidate) or lookup(Path(candidate).stem)
        if checkpoint is not None:
            return checkpoint.name
    searched = ", ".join(str(folder) for folder in host.model_folders()) or "ComfyUI's models"
    raise WeightsError(f"there is no network {name!r} in {searched}; put its file there")


def _matches(name: str, there: dict[str, Path]) -> Iterator[Path]:
    if name in there:
        yield there[name]
    lowered = name.lower()
    for path in there.values():
        if lowered in (path.name.lower(), path.stem.lower()):
            yield path


def default() -> Model:
    """The network where a node has none: BIREFNET_MODEL, or the bundled one."""
    return loaded(default_model())


def loaded(
    source: str, *, device: str = "auto", dtype: str = "auto", engine: str = "auto"
) -> Model:
    """A network on ComfyUI's device, loaded once and kept for the next node.

    Args:
        source: as `find` gives it.
        device: auto is ComfyUI's own; else as `birefnet.load`.
        dtype, engine: as `birefnet.load`.

    Raises:
        WeightsError, DeviceError: see `birefnet.load`.
    """
    device = host.device_of(device)
    path = Path(source)
    stamp = path.stat().st_mtime_ns if path.is_file() else 0
    return _kept(source, stamp, device, host.precision_of(dtype, device), engine)


@lru_cache(maxsize=KEPT)
def _kept(source: str, stamp: int, device: str, dtype: str, engine: str) -> Model:
    path = Path(source)
    checkpoint = lookup(source)
    size = path.stat().st_size if path.is_file() else (checkpoint and checkpoint.bytes) or 0
    host.make_room(_SPARE * size, device)
    predictor = load(source, device=device, dtype=dtype, engine=engine)
    log.info("birefnet: loaded %s on %s", predictor.name or source, predictor.engine.name)
    return Model(predictor, predictor.name or path.stem, device)
