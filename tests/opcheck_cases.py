"""Deformable convolutions of every kind, for `torch.library.opcheck`."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

import birefnet.network.deform  # noqa: F401  (it registers the operators)

# Layout of x and of what comes with it; batches of one, sides of one; with and without a mask.
SHAPES = ((2, 5, 3, 4, 6, 3, True), (1, 4, 6, 3, 3, 1, False), (1, 2, 1, 1, 5, 3, True))
_CHECKS = (
    "test_schema",
    "test_autograd_registration",
    "test_faketensor",
    "test_aot_dispatch_dynamic",
)
LAYOUTS = ("contiguous", "channels last", "sliced", "expanded")


def laid_out(x: Tensor, layout: str) -> Tensor:
    """The same numbers in another memory layout."""
    if layout == "channels last":
        return x.contiguous(memory_format=torch.channels_last)
    if layout == "sliced":
        return torch.cat([x, x], dim=3)[..., : x.shape[3]]
    if layout == "expanded":
        return x[:1].expand_as(x)
    return x


def arguments(dtype: torch.dtype) -> Iterator[tuple[str, tuple[Tensor | int | None, ...]]]:
    """Name and arguments of the operator."""
    for shape in SHAPES:
        batch, channels, out_channels, height, width, size, masked = shape
        for layout in LAYOUTS if shape == SHAPES[0] else LAYOUTS[:2]:
            torch.manual_seed(0)
            exact = torch.promote_types(dtype, torch.float32)
            offset = torch.randn(batch, 2 * size**2, height, width, dtype=exact)
            mask = torch.rand(batch, size**2, height, width, dtype=exact) if masked else None
            x = laid_out(torch.randn(batch, channels, height, width).to(dtype), layout)
            weight = torch.randn(out_channels, channels, size, size).to(dtype)
            if layout == "channels last":
                offset = offset.contiguous(memory_format=torch.channels_last)
                weight = weight.contiguous(memory_format=torch.channels_last)
            yield f"{shape} {layout}", (x, offset, mask, weight, size // 2)


def broken_promises(dtypes: tuple[torch.dtype, ...] = (torch.float32,)) -> list[str]:
    """What opcheck finds wrong: mutated arguments, another shape or stride than said, gradients."""
    found = []
    for dtype in dtypes:
        for name, inputs in arguments(dtype):
            x, offset, _, weight, _ = inputs
            assert isinstance(x, Tensor)
            assert isinstance(offset, Tensor)
            assert isinstance(weight, Tensor)
            grad = torch.randn(len(x), len(weight), *offset.shape[2:]).to(dtype)
            # The last check is slow, and one layout of a kind is enough for it.
            checks = _CHECKS if name.endswith("sliced") else _CHECKS[:3]
            calls = {
                "deformable_conv2d": tuple(
                    value.detach().requires_grad_() if isinstance(value, Tensor) else value
                    for value in inputs
                ),
                "deformable_conv2d_backward": (grad, *inputs),
            }
            for operator, given in calls.items():
                results = torch.library.opcheck(
                    getattr(torch.ops.birefnet, operator).default,
                    given,
                    test_utils=checks,
                    raise_exception=False,
                )
                found += [
                    f"{operator} {dtype} {name}: {check} {result}"
                    for check, result in results.items()
                    if result != "SUCCESS"
                ]
    return found
