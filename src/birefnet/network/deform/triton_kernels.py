"""Deformable convolution on CUDA devices: sampling and matrix product in one Triton kernel.

The sampled columns, k·k times as large as the input, exist only tile by tile in registers. Inputs
may be float16, bfloat16 or float32; positions, interpolation and sums are float32. The derivative
takes two kernels: one for input, offsets and mask, one for the weight; what several programs add to
one address is added atomically, so the last bits depend on the order in which they run.

Maps are read with channels last: a sample's channels lie side by side in memory. In the names
below, `pixels` counts output positions of all images and `taps` is k·k.
"""

# Triton reads the annotations of its kernels: they stay as written, and arguments have none.
# mypy: disable-error-code="no-untyped-def"

from contextlib import AbstractContextManager, nullcontext

import torch
import triton
import triton.language as tl
from torch import Tensor

_LEAST = 16  # sides of the tiles of a matrix product
# Compiled once for all sizes of pictures: Triton would compile anew where one of these becomes 1
# or a multiple of 16.
_OF_PICTURES = (
    *("pixels", "pixels_of_image", "height", "width", "out_width", "padding"),
    *("offset_image", "offset_map", "offset_row", "offset_column"),
    *("mask_image", "mask_map", "mask_row", "mask_column"),
)


@triton.jit
def _locate(
    offset, tap, image, row, column, inside,
    stride_image, stride_map, stride_row, stride_column,
    height, width, padding, size: tl.constexpr,
):  # fmt: skip
    """Corner top left of one sample per pixel, and the distances from it.

    Positions beyond the border of zeros are moved to where all four corners lie outside; a position
    that is not a number stays in the distances, and does not become an address.
    """
    at = image * stride_image + row * stride_row + column * stride_column
    first = offset + at + tap * (2 * stride_map)
    y = tl.load(first, mask=inside, other=0.0) + (row + (tap // size - padding)).to(tl.float32)
    x = tl.load(first + stride_map, mask=inside, other=0.0)
    x = x + (column + (tap % size - padding)).to(tl.float32)
    y = tl.where(y < -2.0, -2.0, y)
    x = tl.where(x < -2.0, -2.0, x)
    y = tl.where(y > height + 1.0, height + 1.0, y)
    x = tl.where(x > width + 1.0, width + 1.0, x)
    top, left = tl.floor(y), tl.floor(x)
    down, right = y - top, x - left
    top = tl.where(top == top, top, 0.0).to(tl.int32)
    left = tl.where(left == left, left, 0.0).to(tl.int32)
    return top, left, down, right


@triton.jit
def _corner(x, base, y, column, height, width, channels, channel, inside):
    """Values of one corner: (pixels of the tile, channels of the tile), zero outside."""
    there = inside & (y >= 0) & (y < height) & (column >= 0) & (column < width)
    at = base + (y * width + column).to(tl.int64) * channels
    seen = there[:, None] & (channel < channels)[None, :]
    return tl.load(x + at[:, None] + channel[None, :], mask=seen, other=0.0).to(tl.float32)


@triton.jit(do_not_specialize=_OF_PICTURES)
def _forward(
    x, offset, mask, weight, out,
    pixels, pixels_of_image, height, width, out_width, channels, out_channels, padding,
    offset_image, offset_map, offset_row, offset_column,
    mask_image, mask_map, mask_row, mask_column,
    size: tl.constexpr, has_mask: tl.constexpr, precision: tl.constexpr,
    tile_pixels: tl.constexpr, tile_in: tl.constexpr, tile_out: tl.constexpr,
):  # fmt: skip
    pixel = tl.program_id(0) * tile_pixels + tl.arange(0, tile_pixels)
    output = tl.program_id(1) * tile_out + tl.arange(0, tile_out)
    inside = pixel < pixels
    image = (pixel // pixels_of_image).to(tl.int64)
    within = pixel % pixels_of_image
    row, column = within // out_width, within % out_width
    base = image * height * width * channels
    mask_at = mask + image * mask_image + row * mask_row + column * mask_column
    total = tl.zeros((tile_pixels, tile_out), dtype=tl.float32)
    for tap in range(size * size):
        top, left, down, right = _locate(
            offset, tap, image, row, column, inside,
            offset_image, offset_map, offset_row, offset_column,
            height, width, padding, size,
        )  # fmt: skip
        scale = tl.full((tile_pixels,), 1.0, dtype=tl.float32)
        if has_mask:
            scale = tl.load(mask_at + tap * mask_map, mask=inside, other=0.0)
        below, above = scale * down, scale - scale * down
        for first in range(0, channels, tile_in):
            channel = first + tl.arange(0, tile_in)
            sample = (
                _corner(x, base, top, left, height, width, channels, channel, inside)
                * (above - above * right)[:, None]
            )
            sample += (
                _corner(x, base, top, left + 1, height, width, channels, channel, inside)
                * (above * right)[:, None]
            )
            sample += (
                _corner(x, base, top + 1, left, height, width, channels, channel, inside)
                * (below - below * right)[:, None]
            )
            sample += (
                _corner(x, base, top + 1, left + 1, height, width, channels, channel, inside)
                * (below * right)[:, None]
            )
            index = (tap * channels + channel)[:, None] * out_channels + output[None, :]
            kernel = tl.load(
                weight + index,
                mask=(channel < channels)[:, None] & (output < out_channels)[None, :],
                other=0.0,
            )
            total = tl.dot(sample.to(kernel.dtype), kernel, total, input_precision=precision)
    index = pixel.to(tl.int64)[:, None] * out_channels + output[None, :]
    tl.store(
        out + index,
        total.to(out.dtype.element_ty),
        mask=inside[:, None] & (output < out_channels)[None, :],
    )


@triton.jit
def _give_back(x_grad, base, y, column, height, width, channels, channel, inside, value):
    """Adds `value` to one corner of each sample."""
    there = inside & (y >= 0) & (y < height) & (column >= 0) & (column < width)
    at = base + (y * width + column).to(tl.int64) * channels
    seen = there[:, None] & (channel < channels)[None, :]
    tl.atomic_add(x_grad + at[:, None] + channel[None, :], value, mask=seen, sem="relaxed")


# Long: one kernel, so that each sample is read once for all three of its gradients.
@triton.jit(do_not_specialize=_OF_PICTURES)
def _backward_samples(
    grad, x, offset, mask, weight, x_grad, offset_grad, mask_grad,
    pixels, pixels_of_image, height, width, out_width, channels, out_channels, padding,
    offset_image, offset_map, offset_row, offset_column,
    mask_image, mask_map, mask_row, mask_column,
    size: tl.constexpr, has_mask: tl.constexpr, precision: tl.constexpr,
    tile_pixels: tl.constexpr, tile_in: tl.constexpr, tile_out: tl.constexpr,
):  # fmt: skip
    """One tap of a tile of pixels: gradients of the input (added), of offsets and of the mask.

    `offset_grad` and `mask_grad` are (pixels, 2 taps) and (pixels, taps), contiguous.
    """
    pixel = tl.program_id(0) * tile_pixels + tl.arange(0, tile_pixels)
    tap = tl.program_id(1)
    inside = pixel < pixels
    image = (pixel // pixels_of_image).to(tl.int64)
    within = pixel % pixels_of_image
    row, column = within // out_width, within % out_width
    base = image * height * width * channels
    top, left, down, right = _locate(
        offset, tap, image, row, column, inside,
        offset_image, offset_map, offset_row, offset_column,
        height, width, padding, size,
    )  # fmt: skip
    scale = tl.full((tile_pixels,), 1.0, dtype=tl.float32)
    if has_mask:
        mask_at = mask + image * mask_image + row * mask_row + column * mask_column
        scale = tl.load(mask_at + tap * mask_map, mask=inside, other=0.0)
    below, above = scale * down, scale - scale * down
    slope_y = tl.zeros((tile_pixels,), dtype=tl.float32)
    slope_x = tl.zeros((tile_pixels,), dtype=tl.float32)
    value = tl.zeros((tile_pixels,), dtype=tl.float32)
    for first in range(0, channels, tile_in):
        channel = first + tl.arange(0, tile_in)
        sample_grad = tl.zeros((tile_pixels, tile_in), dtype=tl.float32)
        for first_out in range(0, out_channels, tile_out):
            output = first_out + tl.arange(0, tile_out)
            gradient = tl.load(
                grad + pixel.to(tl.int64)[:, None] * out_channels + output[None, :],
                mask=inside[:, None] & (output < out_channels)[None, :],
                other=0.0,
            )
            kernel = tl.load(
                weight + (tap * channels + channel)[None, :] * out_channels + output[:, None],
                mask=(channel < channels)[None, :] & (output < out_channels)[:, None],
                other=0.0,
            )
            sample_grad = tl.dot(gradient, kernel, sample_grad, input_precision=precision)
        top_left = _corner(x, base, top, left, height, width, channels, channel, inside)
        top_right = _corner(x, base, top, left + 1, height, width, channels, channel, inside)
        low_left = _corner(x, base, top + 1, left, height, width, channels, channel, inside)
        low_right = _corner(x, base, top + 1, left + 1, height, width, channels, channel, inside)
        high = top_left + (top_right - top_left) * right[:, None]
        low = low_left + (low_right - low_left) * right[:, None]
        slope_y += tl.sum(sample_grad * (low - high), axis=1)
        along = (top_right - top_left) * (1.0 - down[:, None])
        along += (low_right - low_left) * down[:, None]
        slope_x += tl.sum(sample_grad * along, axis=1)
        value += tl.sum(sample_grad * (high + (low - high) * down[:, None]), axis=1)
        _give_back(
            x_grad, base, top, left, height, width, channels, channel, inside,
            sample_grad * (above - above * right)[:, None],
        )  # fmt: skip
        _give_back(
            x_grad, base, top, left + 1, height, width, channels, channel, inside,
            sample_grad * (above * right)[:, None],
        )  # fmt: skip
        _give_back(
            x_grad, base, top + 1, left, height, width, channels, channel, inside,
            sample_grad * (below - below * right)[:, None],
        )  # fmt: skip
        _give_back(
            x_grad, base, top + 1, left + 1, height, width, channels, channel, inside,
            sample_grad * (below * right)[:, None],
        )  # fmt: skip
    taps: tl.constexpr = size * size
    index = pixel.to(tl.int64) * taps + tap
    tl.store(offset_grad + 2 * index, slope_y * scale, mask=inside)
    tl.store(offset_grad + 2 * index + 1, slope_x * scale, mask=inside)
    if has_mask:
        tl.store(mask_grad + index, value, mask=inside)


@triton.jit(do_not_specialize=(*_OF_PICTURES, "tiles_of_program"))
def _backward_weight(
    grad, x, offset, mask, weight_grad,
    pixels, pixels_of_image, height, width, out_width, channels, out_channels, padding,
    offset_image, offset_map, offset_row, offset_column,
    mask_image, mask_map, mask_row, mask_column, tiles_of_program,
    size: tl.constexpr, has_mask: tl.constexpr, precision: tl.constexpr,
    tile_pixels: tl.constexpr, tile_in: tl.constexpr, tile_out: tl.constexpr,
):  # fmt: skip
    """Adds the share of some tiles of pixels to one tile of the gradient (taps, C, O)."""
    outputs = tl.cdiv(out_channels, tile_out)
    output = (tl.program_id(1) % outputs) * tile_out + tl.arange(0, tile_out)
    channel = (tl.program_id(1) // outputs) * tile_in + tl.arange(0, tile_in)
    tap = tl.program_id(2)
    total = tl.zeros((tile_in, tile_out), dtype=tl.float32)
    for tile in range(tiles_of_program):
        pixel = (tl.program_id(0) * tiles_of_program + tile) * tile_pixels
        pixel = pixel + tl.arange(0, tile_pixels)
        inside = pixel < pixels
        image = (pixel // pixels_of_image).to(tl.int64)
        within = pixel % pixels_of_image
        row, column = within // out_width, within % out_width
        base = image * height * width * channels
        top, left, down, right = _locate(
            offset, tap, image, row, column, inside,
            offset_image, offset_map, offset_row, offset_column,
            height, width, padding, size,
        )  # fmt: skip
        scale = tl.full((tile_pixels,), 1.0, dtype=tl.float32)
        if has_mask:
            mask_at = mask + image * mask_image + row * mask_row + column * mask_column
            scale = tl.load(mask_at + tap * mask_map, mask=inside, other=0.0)
        below, above = scale * down, scale - scale * down
        sample = (
            _corner(x, base, top, left, height, width, channels, channel, inside)
            * (above - above * right)[:, None]
        )
        sample += (
            _corner(x, base, top, left + 1, height, width, channels, channel, inside)
            * (above * right)[:, None]
        )
        sample += (
            _corner(x, base, top + 1, left, height, width, channels, channel, inside)
            * (below - below * right)[:, None]
        )
        sample += (
            _corner(x, base, top + 1, left + 1, height, width, channels, channel, inside)
            * (below * right)[:, None]
        )
        gradient = tl.load(
            grad + pixel.to(tl.int64)[:, None] * out_channels + output[None, :],
            mask=inside[:, None] & (output < out_channels)[None, :],
            other=0.0,
        )
        total = tl.dot(
            tl.trans(sample.to(gradient.dtype)), gradient, total, input_precision=precision
        )
    index = (tap * channels + channel)[:, None] * out_channels + output[None, :]
    tl.atomic_add(
        weight_grad + index,
        total,
        mask=(channel < channels)[:, None] & (output < out_channels)[None, :],
        sem="relaxed",
    )


def _tile(length: int, most: int) -> int:
    return max(_LEAST, min(most, triton.next_power_of_2(length)))


def _on_device(x: Tensor) -> AbstractContextManager[object]:
    """Kernels start on the current device, which must be that of `x`."""
    return torch.cuda.device(x.device) if x.is_cuda else nullcontext()


def _precision() -> str:
    """How float32 is multiplied: as `torch.backends.cuda.matmul` says for matrix products."""
    settings = torch.backends.cuda.matmul
    if hasattr(settings, "fp32_precision"):  # since torch 2.9; then the other must not be read
        return "tf32" if settings.fp32_precision == "tf32" else "ieee"
    return "tf32" if settings.allow_tf32 else "ieee"


def _channels_last(x: Tensor) -> Tensor:
    """[B, H, W, C] in one piece."""
    return x.permute(0, 2, 3, 1).contiguous()


def _shape_arguments(
    x: Tensor, offset: Tensor, mask: Tensor | None, weight: Tensor, padding: int
) -> tuple[int, ...]:
    """From `pixels` to the strides: what all kernels take after their tensors."""
    batch, channels, height, width = x.shape
    of_image = offset.shape[2] * offset.shape[3]
    strides = (*offset.stride(), *(mask.stride() if mask is not None else (0, 0, 0, 0)))
    return (
        batch * of_image, of_image, height, width, offset.shape[3], channels, len(weight), padding,
        *strides,
    )  # fmt: skip


def forward(x: Tensor, offset: Tensor, mask: Tensor | None, weight: Tensor, padding: int) -> Tensor:
    """As `portable.forward`: [B, pixels, O]; `offset` and `mask` in float32."""
    out_channels, channels, size, _ = weight.shape
    kernel = weight.permute(2, 3, 1, 0).contiguous()
    arguments = _shape_arguments(x, offset, mask, weight, padding)
    out = x.new_empty(x.shape[0], arguments[1], out_channels)
    # All output channels in one program spare sampling anew. These tiles need at most 162 registers
    # and 56 kB of shared memory, which every device since Turing has.
    tile_pixels, tile_out = 64, _tile(out_channels, 128 if x.dtype == torch.float32 else 256)
    grid = (triton.cdiv(arguments[0], tile_pixels), triton.cdiv(out_channels, tile_out))
    with _on_device(x):
        _forward[grid](
            _channels_last(x), offset, offset if mask is None else mask, kernel, out, *arguments,
            size=size, has_mask=mask is not None, precision=_precision(),
            tile_pixels=tile_pixels, tile_in=_tile(channels, 32), tile_out=tile_out,
            num_warps=8 if tile_out > 64 else 4, num_stages=2,
        )  # fmt: skip
    return out


def backward(
    grad: Tensor, x: Tensor, offset: Tensor, mask: Tensor | None, weight: Tensor, padding: int
) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
    """As `portable.backward`; `grad`: [B, pixels, O]."""
    out_channels, channels, size, _ = weight.shape
    taps = size * size
    kernel, rows = weight.permute(2, 3, 1, 0).contiguous(), _channels_last(x)
    arguments = _shape_arguments(x, offset, mask, weight, padding)
    pixels = arguments[0]
    grad = grad.to(x.dtype).contiguous()
    modulation = offset if mask is None else mask
    rows_grad = rows.new_zeros(rows.shape, dtype=torch.float32)
    offset_grad = offset.new_empty(pixels, 2 * taps)
    mask_grad = offset.new_empty(pixels if mask is not None else 0, taps)
    kernel_grad = kernel.new_zeros(kernel.shape, dtype=torch.float32)
    constants = {
        "size": size, "has_mask": mask is not None, "precision": _precision(),
        "num_warps": 4, "num_stages": 2,
    }  # fmt: skip
    tile_in, tile_out = _tile(channels, 64), _tile(out_channels, 64)
    tiles = triton.cdiv(pixels, 64)
    tiles_of_program = max(1, triton.cdiv(tiles, 64))
    grid = (
        triton.cdiv(tiles, tiles_of_program),
        triton.cdiv(channels, tile_in) * triton.cdiv(out_channels, tile_out),
        taps,
    )
    with _on_device(x):
        _backward_samples[(triton.cdiv(pixels, 32), taps)](
            grad, rows, offset, modulation, kernel, rows_grad, offset_grad, mask_grad, *arguments,
            tile_pixels=32, tile_in=tile_in, tile_out=tile_out, **constants,
        )  # fmt: skip
        _backward_weight[grid](
            grad, rows, offset, modulation, kernel_grad, *arguments, tiles_of_program,
            tile_pixels=64, tile_in=tile_in, tile_out=tile_out, **constants,
        )  # fmt: skip
    maps = (len(x), *offset.shape[2:], -1)
    return (
        torch.empty_like(x).copy_(rows_grad.permute(0, 3, 1, 2)),
        offset_grad.view(maps).permute(0, 3, 1, 2).contiguous(),
        None if mask is None else mask_grad.view(maps).permute(0, 3, 1, 2).contiguous(),
        kernel_grad.permute(3, 2, 0, 1).to(weight.dtype).contiguous(),
    )
