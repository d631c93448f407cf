"""Deformable convolution from stock PyTorch operators, forward and backward, for every device.

Pixels are rows of a table, with a border of zeros around each image. A bilinear sample is a
weighted sum of four rows, which is exactly what `embedding_bag` computes; one matrix product with
the kernel follows. The work goes in pieces, so that the sampled columns stay in the processor's
cache and memory stays bounded.

Here `pixels` counts output positions of an image, `taps` is k·k, and samples are ordered
[image, pixel, tap].
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

# Two pixels of zeros: a sample further out is moved between them, where its value and the
# gradient of its position are zero as they should be, and where all four corners exist.
BORDER = 2
_BAG_DEVICES = frozenset({"cpu", "cuda"})  # embedding_bag is well made there
_SORTING_DEVICES = frozenset({"cpu"})  # elsewhere atomic additions are quicker than sorting
_CPU_COLUMNS = 2**20  # sampled values of one piece: 4 MB, half of a usual last-level cache
_ACCELERATOR_COLUMNS = 2**26  # 256 MB: large launches, bounded memory


@dataclass(frozen=True)
class Grid:
    """Sizes of one deformable convolution."""

    batch: int
    channels: int
    height: int
    width: int
    size: int
    padding: int
    out_height: int
    out_width: int

    @classmethod
    def of(cls, x: Tensor, weight: Tensor, padding: int) -> Grid:
        batch, channels, height, width = x.shape
        size = weight.shape[-1]
        grow = 2 * padding - size + 1
        return cls(batch, channels, height, width, size, padding, height + grow, width + grow)

    @property
    def taps(self) -> int:
        return self.size * self.size

    @property
    def pixels(self) -> int:
        return self.out_height * self.out_width

    @property
    def pitch(self) -> int:
        """Rows of the table from one pixel to the pixel below."""
        return self.width + 2 * BORDER

    @property
    def rows(self) -> int:
        """Rows of the table of one image."""
        return (self.height + 2 * BORDER) * self.pitch

    def pieces(
        self, device: torch.device, out_channels: int = 0
    ) -> Iterator[tuple[slice, list[slice]]]:
        """Groups of images, and the ranges of pixels to go through: all at once in small images.

        `out_channels` counts where a piece of the output is to stay in the cache too.
        """
        columns = _CPU_COLUMNS if device.type == "cpu" else _ACCELERATOR_COLUMNS
        step = max(64, columns // max(self.taps * self.channels, out_channels))
        images = max(1, step // max(1, self.pixels))
        ranges = [
            slice(first, min(first + step, self.pixels)) for first in range(0, self.pixels, step)
        ]
        for first in range(0, self.batch, images):
            yield slice(first, min(first + images, self.batch)), ranges


@dataclass(frozen=True)
class Samples:
    """Where the samples of one piece lie: everything of shape [images, pixels, taps]."""

    first: Tensor  # row of the table of the corner top left, int32
    down: Tensor  # distance from the corner above, in [0, 1]
    right: Tensor  # distance from the corner on the left, in [0, 1]


def pixel_table(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Pixels as rows, with a border of zeros: [B, C, H, W] to [B, rows, C]."""
    return F.pad(x.permute(0, 2, 3, 1).to(dtype), (0, 0) + 4 * (BORDER,)).flatten(1, 2)


def from_pixel_table(table: Tensor, grid: Grid) -> Tensor:
    """Inverse of `pixel_table`: drops the border."""
    pixels = table.view(-1, grid.height + 2 * BORDER, grid.pitch, grid.channels)
    return pixels[:, BORDER:-BORDER, BORDER:-BORDER].permute(0, 3, 1, 2)


def locate(offset: Tensor, pixels: slice, grid: Grid, *, first_row: int = 0) -> Samples:
    """Corners of the samples of one piece; `offset`: [images, 2·taps, pixels of the image].

    `first_row` is the row of the output that the first pixels of `offset` belong to.
    """
    device, dtype = offset.device, offset.dtype
    pixel = torch.arange(pixels.start, pixels.stop, device=device)
    tap = torch.arange(grid.taps, device=device).unsqueeze(1)
    row = torch.div(pixel, grid.out_width, rounding_mode="floor")
    tap_row = torch.div(tap, grid.size, rounding_mode="floor")
    column, tap_column = pixel - row * grid.out_width, tap - tap_row * grid.size
    home_y = (row + first_row - grid.padding).to(dtype) + tap_row.to(dtype)
    home_x = (column - grid.padding).to(dtype) + tap_column.to(dtype)

    shift = offset.unflatten(1, (grid.taps, 2))[..., pixels]
    y, x = shift[:, :, 0] + home_y, shift[:, :, 1] + home_x
    y, x = y.clamp_(-BORDER, grid.height + 1), x.clamp_(-BORDER, grid.width + 1)
    top, left = y.floor().clamp_(max=grid.height), x.floor().clamp_(max=grid.width)
    down, right = y.sub_(top), x.sub_(left)
    # An offset that is not a number must not become an address; it stays in `down` and `right`.
    first = top.nan_to_num_(0).int().mul_(grid.pitch).add_(left.nan_to_num_(0).int())
    image = torch.arange(offset.shape[0], device=device, dtype=torch.int32).view(-1, 1, 1)
    first += image * grid.rows + BORDER * (grid.pitch + 1)
    return Samples(*(part.transpose(1, 2) for part in (first, down, right)))


def corners(samples: Samples, mask: Tensor | None, grid: Grid) -> tuple[Tensor, Tensor]:
    """Rows of the table and bilinear factors of the samples, both [samples, 4].

    The corners come in the order top left, top right, bottom left, bottom right; `mask` has shape
    [images, pixels, taps].
    """
    down, right = samples.down, samples.right
    below = down if mask is None else down * mask
    above = 1 - down if mask is None else mask - below
    above_right, below_right = above * right, below * right
    factor = torch.stack(
        (above - above_right, above_right, below - below_right, below_right), dim=-1
    )
    first, pitch = samples.first, grid.pitch
    index = torch.stack((first, first + 1, first + pitch, first + (pitch + 1)), dim=-1)
    return index.view(-1, 4), factor.view(-1, 4)


def gather(table: Tensor, index: Tensor, factor: Tensor) -> Tensor:
    """Weighted sums of four rows of the table: [samples, C]."""
    if table.device.type in _BAG_DEVICES:
        return F.embedding_bag(index, table, per_sample_weights=factor, mode="sum")
    columns = table.index_select(0, index[:, 0]) * factor[:, :1]
    for corner in range(1, 4):
        columns.addcmul_(table.index_select(0, index[:, corner]), factor[:, corner, None])
    return columns


def scatter(
    grad_table: Tensor, index: Tensor, factor: Tensor, grad_columns: Tensor, grid: Grid
) -> None:
    """Adds to `grad_table` what the samples give back: the transpose of `gather`."""
    if grad_table.device.type not in _SORTING_DEVICES:
        for corner in range(4):
            grad_table.index_add_(0, index[:, corner], grad_columns * factor[:, corner, None])
        return
    # Sorted, each row receives a weighted sum of samples: again a bag of rows.
    rows = len(grad_table)
    first, order = torch.sort(index[:, 0], stable=True)
    count = torch.bincount(first, minlength=rows)
    begin = count.cumsum(0) - count
    sorted_factor = factor[order].t().contiguous()
    for corner, step in enumerate((0, 1, grid.pitch, grid.pitch + 1)):
        received = F.embedding_bag(
            order, grad_columns, begin, per_sample_weights=sorted_factor[corner], mode="sum"
        )
        grad_table[step:] += received[: rows - step]


def corner_products(table: Tensor, index: Tensor, grad_columns: Tensor) -> Tensor:
    """Scalar product of each sample's gradient with each of its four rows: [samples, 4]."""
    if table.device.type in _SORTING_DEVICES:
        bag = torch.arange(len(index), dtype=torch.int32)
        return torch.ops.aten._embedding_bag_per_sample_weights_backward(
            grad_columns, table, index.view(-1), 4 * bag, bag.repeat_interleave(4), 0
        ).view(-1, 4)
    products = [
        (table.index_select(0, index[:, corner]) * grad_columns).sum(1) for corner in range(4)
    ]
    return torch.stack(products, dim=1)


def forward(x: Tensor, offset: Tensor, mask: Tensor | None, weight: Tensor, padding: int) -> Tensor:
    """Shape [B, pixels, O] in the type of `x`; `offset` and `mask` in float32 or float64."""
    grid = Grid.of(x, weight, padding)
    out_channels = len(weight)
    kernel = weight.permute(2, 3, 1, 0).reshape(-1, out_channels)
    table = pixel_table(x, offset.dtype)
    offset, mask = offset.flatten(2), None if mask is None else mask.flatten(2)
    out = x.new_empty(grid.batch, grid.pixels, out_channels)
    for images, ranges in grid.pieces(x.device):
        rows = table[images].flatten(0, 1)
        for pixels in ranges:
            samples = locate(offset[images], pixels, grid)
            index, factor = corners(samples, _of_piece(mask, images, pixels), grid)
            columns = gather(rows, index, factor).view(-1, len(kernel)).to(x.dtype)
            torch.mm(columns, kernel, out=out[images, pixels].view(-1, out_channels))
    return out


def backward(
    grad: Tensor, x: Tensor, offset: Tensor, mask: Tensor | None, weight: Tensor, padding: int
) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
    """Gradients of x, offset, mask and weight; `grad`: [B, pixels, O]. Columns are recomputed."""
    grid = Grid.of(x, weight, padding)
    kernel = weight.permute(2, 3, 1, 0).reshape(-1, len(weight))
    table = pixel_table(x, offset.dtype)
    grad_x, grad_offset = torch.empty_like(x), offset.new_empty(offset.shape)
    grad_mask = None if mask is None else mask.new_empty(mask.shape)
    grad_kernel = torch.zeros_like(kernel, dtype=offset.dtype)
    by_tap = grad_offset.flatten(2).unflatten(1, (grid.taps, 2))
    offset, mask = offset.flatten(2), None if mask is None else mask.flatten(2)
    for images, ranges in grid.pieces(x.device):
        rows = table[images].flatten(0, 1)
        grad_rows = torch.zeros_like(rows)
        for pixels in ranges:
            samples = locate(offset[images], pixels, grid)
            scale = _of_piece(mask, images, pixels)
            index, factor = corners(samples, scale, grid)
            grad_out = grad[images, pixels].flatten(0, 1)
            columns = gather(rows, index, factor).view(-1, len(kernel)).to(x.dtype)
            grad_kernel += columns.t() @ grad_out
            grad_columns = (grad_out @ kernel.t()).to(offset.dtype).view(-1, grid.channels)
            scatter(grad_rows, index, factor, grad_columns, grid)

            products = corner_products(rows, index, grad_columns).view(*samples.down.shape, 4)
            top_left, top_right, bottom_left, bottom_right = products.unbind(-1)
            down, right = samples.down, samples.right
            above = torch.lerp(top_left, top_right, right)
            below = torch.lerp(bottom_left, bottom_right, right)
            slope_y = below - above
            slope_x = torch.lerp(top_right - top_left, bottom_right - bottom_left, down)
            if scale is not None and grad_mask is not None:
                value = torch.lerp(above, below, down)
                grad_mask.flatten(2)[images, :, pixels] = value.transpose(1, 2)
                slope_y, slope_x = slope_y * scale, slope_x * scale
            by_tap[images, :, 0, pixels] = slope_y.transpose(1, 2)
            by_tap[images, :, 1, pixels] = slope_x.transpose(1, 2)
        grad_x[images] = from_pixel_table(grad_rows, grid).to(x.dtype)
    shape = (grid.size, grid.size, grid.channels, len(weight))
    grad_weight = grad_kernel.view(shape).permute(3, 2, 0, 1).to(weight.dtype)
    return grad_x, grad_offset, grad_mask, grad_weight.contiguous()


def _of_piece(mask: Tensor | None, images: slice, pixels: slice) -> Tensor | None:
    return None if mask is None else mask[images, :, pixels].transpose(1, 2)
