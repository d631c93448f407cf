"""Modulated deformable convolution, the operation at the heart of BiRefNet's decoder.

Every tap of the kernel samples the input at its own fractional position (a learnt offset) and is
scaled by its own weight (a learnt mask): Zhu et al., "Deformable ConvNets v2", CVPR 2019,
equation 1. Samples are bilinear and the image continues with zeros, so a position between -1 and
0 mixes the first row with zeros.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def deformable_conv2d_reference(
    x: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    padding: int | None = None,
) -> Tensor:
    """The definition, one tap and one corner after the other: slow, plain, for every device.

    Arguments and result as in `deformable_conv2d`.
    """
    padding = _check(x, offset, mask, weight, bias, padding)
    batch, channels, height, width = x.shape
    out_channels, _, size, _ = weight.shape
    out_height, out_width = offset.shape[-2:]
    exact = torch.promote_types(x.dtype, torch.float32)
    pixels = x.to(exact).flatten(2)
    offset = offset.to(exact)
    rows = torch.arange(out_height, dtype=exact, device=x.device).view(1, -1, 1)
    columns = torch.arange(out_width, dtype=exact, device=x.device).view(1, 1, -1)

    total = x.new_zeros(batch, out_channels, out_height, out_width, dtype=exact)
    for tap in range(size * size):
        y = rows - padding + tap // size + offset[:, 2 * tap]
        z = columns - padding + tap % size + offset[:, 2 * tap + 1]
        top, left = y.floor(), z.floor()
        sample = total.new_zeros(batch, channels, out_height, out_width)
        for corner_y, part_y in ((top, 1 - (y - top)), (top + 1, y - top)):
            for corner_x, part_x in ((left, 1 - (z - left)), (left + 1, z - left)):
                inside = (corner_y >= 0) & (corner_y < height)
                inside &= (corner_x >= 0) & (corner_x < width)
                row = corner_y.clamp(0, height - 1).long()
                column = corner_x.clamp(0, width - 1).long()
                index = (row * width + column).flatten(1).unsqueeze(1).expand(-1, channels, -1)
                value = pixels.gather(2, index).view_as(sample)
                sample = sample + value * (part_y * part_x * inside).unsqueeze(1)
        if mask is not None:
            sample = sample * mask[:, tap].to(exact).unsqueeze(1)
        kernel = weight[:, :, tap // size, tap % size].to(exact)
        total = total + torch.einsum("oc,bchw->bohw", kernel, sample)
    if bias is not None:
        total = total + bias.to(exact).view(1, -1, 1, 1)
    return total.to(x.dtype)


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
        shape [B, O, H', W'], in the type of `x`. Positions and interpolation are computed in
        float32 at least, whatever the type of the arguments.

    Raises:
        ValueError: shapes that do not belong together.
    """
    padding = _check(x, offset, mask, weight, bias, padding)
    batch, channels, height, width = x.shape
    out_channels, _, size, _ = weight.shape
    taps = size * size
    out_height, out_width = offset.shape[-2:]
    exact = torch.promote_types(x.dtype, torch.float32)
    if x.is_meta:
        return x.new_empty(batch, out_channels, out_height, out_width)

    ring = F.pad(x.to(exact), (1, 1, 1, 1)).permute(0, 2, 3, 1)
    table = ring.reshape(-1, channels)
    index, factor = _corners(offset.to(exact), mask, size, padding, height, width)
    columns = F.embedding_bag(index, table, per_sample_weights=factor, mode="sum")
    kernel = weight.permute(2, 3, 1, 0).reshape(taps * channels, out_channels)
    columns = columns.view(batch * out_height * out_width, taps * channels).to(x.dtype)
    out = columns @ kernel.to(x.dtype)
    if bias is not None:
        out = out + bias.to(x.dtype)
    return out.view(batch, out_height, out_width, out_channels).permute(0, 3, 1, 2)


def _corners(
    offset: Tensor, mask: Tensor | None, size: int, padding: int, height: int, width: int
) -> tuple[Tensor, Tensor]:
    """Rows of the ringed pixel table around each sample, and their bilinear factors.

    Both of shape [B·H'·W'·k·k, 4]; corners in the order top left, top right, bottom left,
    bottom right.
    """
    batch, _, out_height, out_width = offset.shape
    taps = size * size
    device = offset.device
    shift = offset.view(batch, taps, 2, out_height, out_width).permute(2, 0, 3, 4, 1)
    tap = torch.arange(size, device=device, dtype=offset.dtype) - padding
    rows = torch.arange(out_height, device=device, dtype=offset.dtype)
    columns = torch.arange(out_width, device=device, dtype=offset.dtype)
    y = shift[0] + (rows.view(-1, 1, 1) + tap.repeat_interleave(size))
    z = shift[1] + (columns.view(-1, 1) + tap.repeat(size))
    # Inside the ring of zeros a position just outside the image reads what it should: clamping
    # to the ring changes no value, and the four corners always exist.
    y, z = y.clamp(-1, height), z.clamp(-1, width)
    top, left = y.detach().floor().clamp(max=height - 1), z.detach().floor().clamp(max=width - 1)
    down, right = y - top, z - left
    pitch = width + 2
    first = (top.nan_to_num().long() + 1) * pitch + (left.nan_to_num().long() + 1)
    images = torch.arange(batch, device=device).view(-1, 1, 1, 1) * ((height + 2) * pitch)
    steps = torch.tensor([0, 1, pitch, pitch + 1], device=device)
    index = (first + images).reshape(-1, 1) + steps
    scale = torch.ones_like(y) if mask is None else mask.to(y.dtype).permute(0, 2, 3, 1)
    lower = scale * down
    upper = scale - lower
    factor = torch.stack(
        (upper - upper * right, upper * right, lower - lower * right, lower * right), dim=-1
    )
    return index, factor.view(-1, 4)


def _check(
    x: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    padding: int | None,
) -> int:
    """The padding to use; refuses shapes that do not belong together."""
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
            f"deformable convolution got x with {x.shape[1]} channels and a weight "
            f"for {weight.shape[1]}; they must be equal"
        )
    padding = size // 2 if padding is None else padding
    grid = (x.shape[2] + 2 * padding - size + 1, x.shape[3] + 2 * padding - size + 1)
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
