"""Execution mode: operators that run one by one on a CPU, or are recorded for later."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from birefnet.errors import needs_extra

with needs_extra("torch", __name__):
    import torch
    from torch import Tensor


_T = TypeVar("_T")
_keepers: list[list[object]] = []


def on_cpu(x: Tensor) -> bool:
    """Whether `x` is an ordinary tensor on a CPU, and nothing records what is done with it.

    Then work can be cut to fit the caches, and done in place.
    """
    recorded = torch.is_grad_enabled() or torch.compiler.is_compiling() or torch.jit.is_tracing()
    return x.device.type == "cpu" and type(x) is Tensor and not recorded


def pinned(constant: _T) -> _T:
    """Mark cached tensors: whoever records a graph with them must keep them alive."""
    for keeper in _keepers:
        keeper.append(constant)
    return constant


@contextmanager
def retained() -> Iterator[list[Any]]:
    """Collect the cached tensors used meanwhile: a recording reads them by address later."""
    keeper: list[object] = []
    _keepers.append(keeper)
    try:
        yield keeper
    finally:
        # By identity: two lists with the same tensors are not the same keeper.
        _keepers[:] = [other for other in _keepers if other is not keeper]
