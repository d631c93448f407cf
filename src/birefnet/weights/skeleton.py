"""A network that waits for its weights: no memory is spent on them, its own tables are computed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from birefnet.network.birefnet import BiRefNet
from birefnet.network.build import build_network
from birefnet.network.config import NetworkConfig


class WithoutParameters(TorchFunctionMode):
    """Inside this context layers get parameters without values, and buffers as usual.

    Layers allocate parameters with `torch.empty`, which goes to the meta device here, and fill
    them in place, which is skipped. Were everything built on the meta device, computed buffers such
    as position indices would lose their values too, and filling would first import for a second.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch.empty:
            return func(*args, **{**kwargs, "device": "meta"})
        name = getattr(func, "__name__", "")
        if name.endswith("_") and not name.endswith("__"):  # in place
            target = args[0] if args else kwargs.get("tensor")
            if isinstance(target, nn.Parameter):
                return target
        return func(*args, **kwargs)


def empty_network(config: NetworkConfig) -> BiRefNet:
    """The network of `config` in evaluation mode; its parameters must be assigned before use."""
    with WithoutParameters():
        network = build_network(config)
    return network.eval()
