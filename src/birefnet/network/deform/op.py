"""The operator `birefnet::deformable_conv2d` of PyTorch, and the function that calls it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from birefnet.errors import counted
from birefnet.network.deform import choice


def deformable_conv2d(
    x: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    padding: int | None = None,
) -> Tensor:
    """Modulated deformable convolution: stride 1, dilation 1, zeros outside the image.

    Args:
        x: input, shape [B, C, H, W].
        offset: shape [B, 2·k·k, H', W'] in pixels, pairs (dy, dx), taps row by row.
        mask: factor of each tap, shape [B, k·k, H', W'], or None for 1 everywhere.
        weight: shape [O, C, k, k], k odd.
        bias: shape [O] or None.
        padding: k // 2 when None, which keeps the size; H' = H + 2·padding - k + 1.

    Returns:
        shape [B, O, H', W'], in the type of `x` (under autocast in its type) and in channels-last
        memory. Positions and interpolation are computed in float32 at least, whatever the type
        of the arguments.

    Raises:
        ValueError: shapes that do not belong together.
    """
    padding = check_arguments(x, offset, mask, weight, bias, padding)
    dtype = _autocast_dtype(x.device.type) or x.dtype
    exact = torch.promote_types(dtype, torch.float32)
    inputs = (
        _cast(x, dtype),
        _cast(offset, exact),
        None if mask is None else _cast(mask, exact),
        _cast(weight, dtype),
    )
    out = torch.ops.birefnet.deformable_conv2d(*inputs, padding)
    return out if bias is None else out + _cast(bias, dtype).view(-1, 1, 1)


def _cast(x: Tensor, dtype: torch.dtype) -> Tensor:
    """`x.to(dtype)`, which a traced graph would hold even where nothing changes."""
    return x if x.dtype == dtype else x.to(dtype)


def check_arguments(
    x: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    padding: int | None,
) -> int:
    """The padding to use.

    Raises:
        ValueError: shapes that do not belong together.
    """
    if x.ndim != 4:
        raise ValueError(
            f"deformable convolution needs x of shape [B, C, H, W], got {list(x.shape)}"
        )
    size = weight.shape[-1] if weight.ndim == 4 else 0
    if size % 2 == 0 or weight.shape[2] != size:
        raise ValueError(
            "deformable convolution needs a weight of shape [O, C, k, k] with k odd, "
            f"got {list(weight.shape)}"
        )
    if weight.shape[1] != x.shape[1]:
        raise ValueError(
            f"deformable convolution got x with {counted(x.shape[1], 'channel')} and a weight "
            f"for {weight.shape[1]}; they must be equal"
        )
    padding = size // 2 if padding is None else padding
    grid = (x.shape[2] + 2 * padding - size + 1, x.shape[3] + 2 * padding - size + 1)
    if min(grid) < 1:
        raise ValueError(
            f"deformable convolution got x of {x.shape[2]}x{x.shape[3]} pixels with padding "
            f"{padding}, which is smaller than the {size}x{size} kernel; pad it more"
        )
    for name, value, channels in (("offset", offset, 2 * size**2), ("mask", mask, size**2)):
        expected = (x.shape[0], channels, *grid)
        if value is not None and tuple(value.shape) != expected:
            raise ValueError(
                f"deformable convolution with a {size}x{size} kernel needs {name} of shape "
                f"{list(expected)}, got {list(value.shape)}"
            )
    if bias is not None and tuple(bias.shape) != (weight.shape[0],):
        raise ValueError(
            f"deformable convolution needs bias of shape [{weight.shape[0]}], "
            f"got {list(bias.shape)}"
        )
    return padding


# Asked once: the compiler of PyTorch 2.6 cannot trace the question.
_AUTOCAST = frozenset(filter(torch.amp.is_autocast_available, ("cpu", "cuda", "mps", "xpu")))


def _autocast_dtype(device: str) -> torch.dtype | None:
    """The type that autocast gives convolutions on this kind of device; None where it is off."""
    if device in _AUTOCAST and torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return None


def _no_autocast(device: str) -> AbstractContextManager[object]:
    """Inside an operator types are settled: autocast must not change its matrix products."""
    return torch.autocast(device, enabled=False) if _autocast_dtype(device) else nullcontext()


# The operators below are opaque to autograd, torch.compile and torch.export, which see one node
# with a shape function and a derivative.
_LIBRARY = torch.library.Library("birefnet", "DEF")
_LIBRARY.define(
    "deformable_conv2d(Tensor x, Tensor offset, Tensor? mask, Tensor weight, int padding) -> Tensor"
)
_LIBRARY.define(
    "deformable_conv2d_backward(Tensor grad, Tensor x, Tensor offset, Tensor? mask, "
    "Tensor weight, int padding) -> (Tensor, Tensor, Tensor, Tensor)"
)


@torch.library.impl(_LIBRARY, "deformable_conv2d", "CompositeExplicitAutograd")
def _forward(
    x: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    weight: Tensor,
    padding: int,
) -> Tensor:
    with _no_autocast(x.device.type):
        out = choice.for_forward(x, offset).forward(x, offset, mask, weight, padding)
    return out.unflatten(1, offset.shape[2:]).permute(0, 3, 1, 2)


@torch.library.impl(_LIBRARY, "deformable_conv2d_backward", "CompositeExplicitAutograd")
def _backward(
    grad: Tensor, x: Tensor, offset: Tensor, mask: Tensor | None, weight: Tensor, padding: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    rows = grad.permute(0, 2, 3, 1).flatten(1, 2).contiguous()
    with _no_autocast(x.device.type):
        kernels = choice.for_backward(x, offset)
        grad_x, grad_offset, grad_mask, grad_weight = kernels.backward(
            rows, x, offset, mask, weight, padding
        )
    return grad_x, grad_offset, _or_empty(grad_mask, x), grad_weight


@torch.library.register_fake("birefnet::deformable_conv2d")
def _forward_shape(
    x: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    weight: Tensor,
    padding: int,
) -> Tensor:
    shape = (x.shape[0], offset.shape[2], offset.shape[3], weight.shape[0])
    return x.new_empty(shape).permute(0, 3, 1, 2)


@torch.library.register_fake("birefnet::deformable_conv2d_backward")
def _backward_shapes(
    grad: Tensor, x: Tensor, offset: Tensor, mask: Tensor | None, weight: Tensor, padding: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    grad_offset, grad_weight = offset.new_empty(offset.shape), weight.new_empty(weight.shape)
    grad_mask = None if mask is None else mask.new_empty(mask.shape)
    return torch.empty_like(x), grad_offset, _or_empty(grad_mask, x), grad_weight


def _or_empty(grad_mask: Tensor | None, x: Tensor) -> Tensor:
    return x.new_empty(0) if grad_mask is None else grad_mask


def _setup_context(ctx: Any, inputs: tuple[object, ...], output: Tensor) -> None:
    *tensors, ctx.padding = inputs
    ctx.save_for_backward(*tensors)


def _derivative(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, offset, mask, weight = ctx.saved_tensors
    grad_x, grad_offset, grad_mask, grad_weight = torch.ops.birefnet.deformable_conv2d_backward(
        grad, x, offset, mask, weight, ctx.padding
    )
    return grad_x, grad_offset, None if mask is None else grad_mask, grad_weight, None


torch.library.register_autograd(
    "birefnet::deformable_conv2d", _derivative, setup_context=_setup_context
)
