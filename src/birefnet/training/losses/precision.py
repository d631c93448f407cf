"""Losses compute in float32: sums and variances over a picture mean nothing in bfloat16."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec

import torch
from torch import Tensor

P = ParamSpec("P")


def in_float32(loss: Callable[P, Tensor]) -> Callable[P, Tensor]:
    """Call `loss` with its floating tensors as float32, and autocast switched off.

    Autocast would turn the blurs of SSIM back into bfloat16, where E[x²] − E[x]² is noise.
    """

    @functools.wraps(loss)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> Tensor:
        device = next(x.device.type for x in args if isinstance(x, Tensor))
        with torch.autocast(device, enabled=False):
            return loss(
                *(_float(x) for x in args),  # type: ignore[arg-type]
                **{name: _float(x) for name, x in kwargs.items()},  # type: ignore[arg-type]
            )

    return wrapped


def _float(value: object) -> object:
    return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value
