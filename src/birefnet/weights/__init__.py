"""Weights: known by name, fetched and verified, read without running their code, written anew."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from birefnet.errors import require

if TYPE_CHECKING:
    from birefnet.weights.catalogue import CHECKPOINTS, Checkpoint
    from birefnet.weights.checkpoint import Loaded, load_checkpoint
    from birefnet.weights.detect import detect_config
    from birefnet.weights.download import fetch
    from birefnet.weights.locate import bundled_names
    from birefnet.weights.save import save_directory

__all__ = [
    "CHECKPOINTS",
    "Checkpoint",
    "Loaded",
    "bundled_names",
    "detect_config",
    "fetch",
    "load_checkpoint",
    "save_directory",
]

# Looked up on first use, so that the table can be read without loading torch.
_HOMES = {
    "CHECKPOINTS": "catalogue",
    "Checkpoint": "catalogue",
    "Loaded": "checkpoint",
    "bundled_names": "locate",
    "detect_config": "detect",
    "fetch": "download",
    "load_checkpoint": "checkpoint",
    "save_directory": "save",
}
_OF_TORCH = ("checkpoint", "detect", "save")


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'birefnet.weights' has no attribute {name!r}")
    if _HOMES[name] in _OF_TORCH:
        require(f"birefnet.weights.{name}", "torch")
    value = getattr(importlib.import_module(f"birefnet.weights.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
