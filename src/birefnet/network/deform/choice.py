"""Which kernels compute a deformable convolution: the fastest of those that can be relied on.

| device | forward | derivative |
|---|---|---|
| CPU, float32 | `portable` | `cpu_derivative` where numba is installed, else `portable` |
| CUDA, float32 or half | `triton_kernels` | `triton_kernels` |
| anything else | `portable` | `portable` |

Before Triton's kernels are used on a device, they must give the numbers of `portable` there, on
a small case and in the same precision; where they do not, or cannot be compiled, one warning is
given and `portable` computes. Those of the derivative are compiled and compared when one is
computed. BIREFNET_DEFORM=torch in the environment leaves them out.
"""

from __future__ import annotations

import functools
import importlib
import os
import warnings
from types import ModuleType

import torch
from torch import Tensor

from birefnet.compiling import import_compiled
from birefnet.network.deform import portable

_TRITON_DTYPES = frozenset({torch.float16, torch.bfloat16, torch.float32})
# Largest difference that rounding explains, as a share of the largest value.
_TOLERANCE = {torch.float32: 3e-3, torch.float16: 1e-2, torch.bfloat16: 5e-2}


def for_forward(x: Tensor, offset: Tensor) -> ModuleType:
    """The module whose `forward` to call."""
    return _triton_for(x, offset, derivative=False) or portable


def for_backward(x: Tensor, offset: Tensor) -> ModuleType:
    """The module whose `backward` to call."""
    if offset.device.type == "cpu" and offset.dtype == torch.float32:
        return numba_kernels() or portable
    if torch.are_deterministic_algorithms_enabled():  # Triton's add in any order
        return portable
    return _triton_for(x, offset, derivative=True) or portable


@functools.cache
def numba_kernels() -> ModuleType | None:
    """The kernels that numba compiles, or None where numba is missing or cannot work."""
    try:
        return import_compiled("birefnet.network.deform.cpu_derivative")
    except (ImportError, RuntimeError):
        return None


def _triton_for(x: Tensor, offset: Tensor, *, derivative: bool) -> ModuleType | None:
    fits = x.device.type == "cuda" and x.dtype in _TRITON_DTYPES and offset.dtype == torch.float32
    if not fits or os.environ.get("BIREFNET_DEFORM") == "torch":
        return None
    module, problem = _trusted_triton(x.device, x.dtype, derivative)
    if problem:
        _warn_once(problem)
    return module


def why_not_triton(device: torch.device, dtype: torch.dtype) -> str | None:
    """Why Triton's kernels are not used on a CUDA device, forward or backward; `None`: they are."""
    if os.environ.get("BIREFNET_DEFORM") == "torch":
        return "BIREFNET_DEFORM=torch"
    return _trusted_triton(device, dtype, False)[1] or _trusted_triton(device, dtype, True)[1]


@functools.cache
def _trusted_triton(
    device: torch.device, dtype: torch.dtype, derivative: bool
) -> tuple[ModuleType | None, str | None]:
    """Triton's kernels, if they compile for `device` and agree with `portable` there.

    Otherwise why not, in one line.
    """
    where = f"on {device} in {str(dtype).removeprefix('torch.')}"
    try:
        module = importlib.import_module("birefnet.network.deform.triton_kernels")
        with torch.inference_mode(False), torch.no_grad():
            error = disagreement(module, device, dtype, derivative=derivative)
    except Exception as problem:
        reason = (str(problem).strip() or "no reason given").splitlines()[0]
        return None, f"could not be used {where} ({type(problem).__name__}: {reason})"
    if not error <= _TOLERANCE[dtype]:
        return None, f"differ by {error:.1e} of the largest value {where}"
    return module, None


@functools.cache
def _warn_once(problem: str) -> None:
    warnings.warn(
        f"Triton's kernels for deformable convolution {problem}; PyTorch's operators compute it "
        "instead, equal and slower. BIREFNET_DEFORM=torch silences this.",
        RuntimeWarning,
        stacklevel=4,
    )


def disagreement(
    module: ModuleType, device: torch.device, dtype: torch.dtype, *, derivative: bool
) -> float:
    """How far a module's results are from those of `portable`, forward or backward.

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

    def results(of: ModuleType) -> tuple[Tensor | None, ...]:
        return of.backward(grad, *arguments) if derivative else (of.forward(*arguments),)

    pairs = zip(results(module), results(portable), strict=True)
    errors = []
    for ours, theirs in pairs:
        assert ours is not None
        assert theirs is not None
        exact = theirs.float()
        errors.append(float((ours.float() - exact).abs().max() / exact.abs().max()))
    return max(error if error == error else float("inf") for error in errors)
