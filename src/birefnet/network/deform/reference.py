"""The definition of modulated deformable convolution, which the kernels are compared with."""

from __future__ import annotations

import torch
from torch import Tensor

from birefnet.network.deform.op import check_arguments


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
    padding = check_arguments(x, offset, mask, weight, bias, padding)
    batch, channels, height, width = x.shape
    out_channels, _, size, _ = weight.shape
    out_height, out_width = offset.shape[-2:]
    dtype, exact = x.dtype, torch.promote_types(x.dtype, torch.float32)
    pixels = x.to(exact).flatten(2)
    offset = offset.to(exact)
    rows = torch.arange(out_height, dtype=exact, device=x.device).view(1, -1, 1)
    columns = torch.arange(out_width, dtype=exact, device=x.device).view(1, 1, -1)

    total = x.new_zeros(batch, out_channels, out_height, out_width, dtype=exact)
    for tap in range(size * size):
        y = rows - padding + tap // size + offset[:, 2 * tap]
        x = columns - padding + tap % size + offset[:, 2 * tap + 1]
        top, left = y.floor(), x.floor()
        sample = total.new_zeros(batch, channels, out_height, out_width)
        for corner_y, part_y in ((top, 1 - (y - top)), (top + 1, y - top)):
            for corner_x, part_x in ((left, 1 - (x - left)), (left + 1, x - left)):
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
    return total.to(dtype)
