"""Which kernels compute a deformable convolution: the fastest of those that can be relied on.

| device | forward | derivative |
|---|---|---|
| CPU, float32 | `deform_torch` | `deform_numba` where numba is installed, else `deform_torch` |
| CUDA, float32 or half | `deform_triton` | `deform_triton` |
| anything else | `deform_torch` | `deform_torch` |

Before Triton's kernels are used on a device, they must give the numbers of `deform_torch` there, on
a small case and in the same precision; where they do not, or cannot be compiled, one warning is
given and `deform_torch` computes. BIREFNET_DEFORM=torch in the environment leaves them out.
"""

from __future__ import annotations

import functools
import importlib
import os
import warnings
from types import ModuleType

import torch
from torch import Tensor

from birefnet.network import deform_torch

_TRITON_DTYPES = frozenset({torch.float16, torch.bfloat16, torch.float32})
# Largest difference that rounding explains, as a share of the largest value.
_TOLERANCE = {torch.float32: 3e-3, torch.float16: 1e-2, torch.bfloat16: 5e-2}


def for_forward(x: Tensor, offset: Tensor) -> ModuleType:
    """The module whose `forward` to call."""
    return _triton_for(x, offset) or deform_torch


def for_backward(x: Tensor, offset: Tensor) -> ModuleType:
    """The module whose `backward` to call."""
    if offset.device.type == "cpu" and offset.dtype == torch.float32:
        return numba_kernels() or deform_torch
    if torch.are_deterministic_algorithms_enabled():  # Triton's add in any order
        return deform_torch
    return _triton_for(x, offset) or deform_torch


@functools.cache
def numba_kernels() -> ModuleType | None:
    """The kernels that numba compiles, or None where numba is missing or cannot work."""
    try:
        return importlib.import_module("birefnet.network.deform_numba")
    except (ImportError, RuntimeError):
        return None


def _triton_for(x: Tensor, offset: Tensor) -> ModuleType | None:
    fits = x.device.type == "cuda" and x.dtype in _TRITON_DTYPES and offset.dtype == torch.float32
    if not fits or os.environ.get("BIREFNET_DEFORM") == "torch":
        return None
    return _trusted_triton(x.device, x.dtype)


@functools.cache
def _trusted_triton(device: torch.device, dtype: torch.dtype) -> ModuleType | None:
    """Triton's kernels, if they compile for `device` and agree with `deform_torch` there."""
    try:
        module = importlib.import_module("birefnet.network.deform_triton")
        with torch.inference_mode(False), torch.no_grad():
            error = disagreement(module, device, dtype)
    except Exception as problem:
        _warn(device, dtype, f"could not be used ({type(problem).__name__}: {problem})")
        return None
    if not error <= _TOLERANCE[dtype]:
        _warn(device, dtype, f"differ by {error:.1e} of the largest value")
        return None
    return module


def _warn(device: torch.device, dtype: torch.dtype, reason: str) -> None:
    warnings.warn(
        f"Triton's kernels for deformable convolution {reason} on {device} in {dtype}; PyTorch's "
        "operators compute it instead, equal and slower. BIREFNET_DEFORM=torch silences this.",
        RuntimeWarning,
        stacklevel=2,
    )


def disagreement(module: ModuleType, device: torch.device, dtype: torch.dtype) -> float:
    """How far a module's results are from those of `deform_torch`, forward and backward.

    The largest difference as a share of the largest value, over the results of a small case whose
    samples reach outside and whose sizes fill no tile.
    """
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    batch, channels, out_channels, size, height, width = 2, 40, 72, 3, 11, 9
    x = random(batch, channels, height, width).to(device, dtype)
    offset = (3 * random(batch, 2 * size**2, height, width)).to(device)
    mask = random(batch, size**2, height, width).sigmoid().to(device)
    weight = random(out_channels, channels, size, size).to(device, dtype)
    grad = random(batch, height * width, out_channels).to(device, dtype)
    arguments = (x, offset, mask, weight, size // 2)
    pairs = zip(
        (module.forward(*arguments), *module.backward(grad, *arguments)),
        (deform_torch.forward(*arguments), *deform_torch.backward(grad, *arguments)),
        strict=True,
    )
    errors = []
    for ours, theirs in pairs:
        assert ours is not None
        assert theirs is not None
        exact = theirs.float()
        errors.append(float((ours.float() - exact).abs().max() / exact.abs().max()))
    return max(error if error == error else float("inf") for error in errors)
