"""Compares Triton's kernels, run by its interpreter on the CPU, with PyTorch's operators.

Run by `test_deform_triton.py` in a process of its own, for Triton must be imported with
TRITON_INTERPRET=1. Prints for each case the largest differences as shares of the largest values.
"""

from __future__ import annotations

import json
from unittest.mock import patch

import torch
from torch import Tensor

from birefnet.network.deform import choice, portable, triton_kernels

# batch, channels, output channels, height, width, kernel, padding, mask, dtype
CASES = {
    "fills no tile": (2, 5, 7, 6, 9, 3, 1, True, torch.float32),
    "1x1 without mask": (1, 16, 40, 8, 8, 1, 0, False, torch.float32),
    "several tiles": (1, 70, 150, 9, 10, 3, 0, True, torch.float32),
    "7x7": (1, 8, 8, 9, 8, 7, 3, True, torch.float32),
    "float16": (1, 8, 8, 8, 8, 3, 1, True, torch.float16),
}


def share(ours: Tensor | None, theirs: Tensor | None) -> float:
    if ours is None or theirs is None:
        return 0.0 if ours is theirs else float("inf")
    assert ours.shape == theirs.shape
    assert ours.dtype == theirs.dtype
    return float((ours.float() - theirs.float()).abs().max() / theirs.float().abs().max())


def compare(name: str) -> list[float]:
    batch, channels, out_channels, height, width, size, padding, masked, dtype = CASES[name]
    torch.manual_seed(0)
    grid = (height + 2 * padding - size + 1, width + 2 * padding - size + 1)
    offset = 3 * torch.randn(batch, 2 * size**2, *grid)
    offset.view(-1)[:3] = torch.tensor([1e9, -float("inf"), float("inf")])
    x = torch.randn(batch, channels, height, width).to(dtype)
    mask = torch.rand(batch, size**2, *grid) if masked else None
    weight = torch.randn(out_channels, channels, size, size).to(dtype)
    grad = torch.randn(batch, grid[0] * grid[1], out_channels).to(dtype)
    if masked:  # as the network gives it: channels last
        offset = offset.to(memory_format=torch.channels_last)
    arguments = (x, offset, mask, weight, padding)
    ours = (triton_kernels.forward(*arguments), *triton_kernels.backward(grad, *arguments))
    theirs = (portable.forward(*arguments), *portable.backward(grad, *arguments))
    return [share(*pair) for pair in zip(ours, theirs, strict=True)]


def damaged_positions() -> list[bool]:
    """Whether a position that is not a number gives such a pixel, and harms no other."""
    x, weight = torch.randn(1, 4, 6, 6), torch.randn(4, 4, 3, 3)
    offset = torch.zeros(1, 18, 6, 6)
    offset[0, 3, 2, 2] = float("nan")
    out = triton_kernels.forward(x, offset, None, weight, 1).view(36, 4)
    damaged = out.isnan().all(dim=1)
    return [bool(damaged[14]), int(out.isnan().any(dim=1).sum()) == 1]


def broken_promises() -> list[str]:
    """What `torch.library.opcheck` finds wrong where the operators use these kernels."""
    from opcheck_cases import broken_promises as of_operators

    choose = {"for_forward": lambda *_: triton_kernels, "for_backward": lambda *_: triton_kernels}
    with patch.multiple(choice, **choose):
        return of_operators()


def precisions() -> list[str]:
    """How float32 is multiplied under the older and the newer setting of torch."""
    matmul = torch.backends.cuda.matmul
    if not hasattr(matmul, "fp32_precision"):
        return []
    found = [triton_kernels._precision()]
    for old in (True, False):
        matmul.allow_tf32 = old
        found.append(triton_kernels._precision())
    matmul.fp32_precision = "tf32"  # then the older one must not be read
    found.append(triton_kernels._precision())
    matmul.fp32_precision, torch.backends.fp32_precision = "none", "tf32"
    found.append(triton_kernels._precision())
    return found


if __name__ == "__main__":
    found: dict[str, object] = {name: compare(name) for name in CASES}
    found["damaged"] = damaged_positions()
    found["opcheck"] = broken_promises()
    found["precision"] = precisions()
    found["self-check"] = max(
        choice.disagreement(
            triton_kernels, torch.device("cpu"), torch.float32, derivative=derivative
        )
        for derivative in (False, True)
    )
    print(json.dumps(found))
