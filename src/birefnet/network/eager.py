"""Where operators run one by one on a CPU, so that work can be cut to fit its caches."""

from __future__ import annotations

import torch
from torch import Tensor


def on_cpu(x: Tensor) -> bool:
    """Whether `x` is an ordinary tensor on a CPU, and nothing records what is done with it."""
    recorded = torch.is_grad_enabled() or torch.compiler.is_compiling() or torch.jit.is_tracing()
    return x.device.type == "cpu" and type(x) is Tensor and not recorded
