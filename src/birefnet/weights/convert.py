"""From one layout of weights to another, without loss."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path

from birefnet.errors import UsageError, needs_extra

with needs_extra("torch", __name__):
    import torch

from birefnet.network.config import NetworkConfig
from birefnet.weights.cache import cache_directory
from birefnet.weights.checkpoint import load_checkpoint
from birefnet.weights.locate import Located
from birefnet.weights.obtain import weight_files
from birefnet.weights.save import DIRECTORIES, LAYOUTS, Layout, save_directory, save_file
from birefnet.weights.transfer import Report

DTYPES: dict[str, torch.dtype] = {
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
    "fp32": torch.float32,
}


def convert(
    source: str | os.PathLike[str] | Located,
    target: str | os.PathLike[str],
    *,
    layout: Layout | None = None,
    dtype: torch.dtype | None = None,
    config: NetworkConfig | Mapping[str, object] | None = None,
    overwrite: bool = False,
    offline: bool | None = None,
    progress: bool | Report | None = None,
) -> Path:
    """Write the network `source` to `target` in another layout; returns `target`.

    Every value is kept bit by bit unless `dtype` asks for another type.

    Args:
        source: anything that `load_checkpoint` takes.
        target: a directory, or a file for the layouts that are one.
        layout: see `birefnet.weights.save`; default: by the target's suffix, .pth or .safetensors,
            and `birefnet` for a directory.
        dtype: of the floating tensors; default: as stored.
        config: see `load_checkpoint`.
        overwrite: replace what is there.

    Raises:
        WeightsError: the source cannot be loaded, or the target cannot be written.
        UsageError: the target is there.
    """
    path = Path(target)
    layout = layout or layout_of(path)
    if layout not in LAYOUTS:
        raise ValueError(f"layout={layout!r} is unknown; choose one of {', '.join(LAYOUTS)}")
    written = path / "model.safetensors" if layout in DIRECTORIES else path
    if written.exists() and not overwrite:
        raise UsageError(f"{written} is already there: choose another target, or overwrite it")
    loaded = load_checkpoint(source, config=config, dtype=None, offline=offline, progress=progress)
    save = save_directory if layout in DIRECTORIES else save_file
    return save(
        path,
        loaded.network,
        loaded.preprocess,
        name=loaded.name,
        licence=loaded.licence,
        source=loaded.source,
        dtype=dtype,
        layout=layout,
    )


def with_config(
    source: str | os.PathLike[str] | Located,
    config: NetworkConfig | Mapping[str, object],
    *,
    cache_dir: str | os.PathLike[str] | None = None,
    offline: bool | None = None,
    progress: bool | Report | None = None,
) -> Path:
    """A copy of `source` in the cache that says how it is built, to be named in its place.

    Every engine, worker and server that gets a name can load it; it is made once.

    Args:
        source, config: see `load_checkpoint`.
        cache_dir, offline, progress: see `birefnet.weights.download.fetch`.

    Raises:
        WeightsError: as `convert`.
    """
    local = weight_files(source, cache_dir=cache_dir, offline=offline, progress=progress)
    given = config.to_dict() if isinstance(config, NetworkConfig) else dict(config)
    files = [
        (str(path.absolute()), path.stat().st_size, path.stat().st_mtime_ns) for path in local.files
    ]
    key = hashlib.sha256(json.dumps([files, given], sort_keys=True).encode()).hexdigest()[:16]
    label = re.sub(r"[^\w.-]+", "-", local.name)
    folder = cache_directory(cache_dir) / "configured" / f"{label}-{key}"
    if not (folder / "config.json").is_file():  # which is written last
        convert(source, folder, config=config, overwrite=True, offline=offline, progress=progress)
    return folder


def layout_of(path: Path) -> Layout:
    """The layout that a target's suffix means."""
    suffix = path.suffix.lower()
    if suffix in (".pth", ".pt"):
        return "pth"
    return "safetensors" if suffix == ".safetensors" else "birefnet"
