"""Swin with its windows counted inside the graph, so that one graph serves every size.

Stays beside `swin`: that one computes its index maps from the size in Python, and on a CPU goes
through the blocks chunk by chunk in place; traced, both would hold for one size.

Padding, cyclic shift and partition are one gather, their inverses another, as in inference
(`birefnet.network.backbones.windows`); only the index maps are computed from the size of the map
by a few operations on small integer tensors instead of being constants.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from birefnet.network.backbones.swin import PatchMerging, SwinBlock, SwinStage, WindowAttention
from birefnet.network.backbones.windows import seam_masks


class Windows:
    """Index maps of a map of `height` x `width` tokens in windows of side `window`.

    The map is padded right and bottom to whole windows, then rolled up and left by `shift`.

    Attributes:
        order: (slots,) token of each slot of each window, `height * width` where there is none.
        home: (height * width,) slot of each token.
        kinds: (windows,) which seams cross the window: 0 none, 1 a vertical, 2 a horizontal,
            3 both; `None` without a shift.
        is_padded: whether a slot may be empty.
    """

    def __init__(
        self, height: int, width: int, window: int, shift: int, device: torch.device
    ) -> None:
        rows, columns = (height + window - 1) // window, (width + window - 1) // window
        y = (torch.arange(rows * window, device=device) + shift) % (rows * window)
        x = (torch.arange(columns * window, device=device) + shift) % (columns * window)
        inside = (y < height)[:, None] & (x < width)
        tokens = torch.where(inside, y[:, None] * width + x, height * width)
        tokens = tokens.reshape(rows, window, columns, window).permute(0, 2, 1, 3)
        self.order = tokens.reshape(-1)
        slot_y = (torch.arange(height, device=device) + (rows * window - shift)) % (rows * window)
        slot_x = (torch.arange(width, device=device) + (columns * window - shift)) % (
            columns * window
        )
        slot_y, slot_x = slot_y[:, None], slot_x[None]
        first = (slot_y // window * columns + slot_x // window) * window**2
        self.home = (first + slot_y % window * window + slot_x % window).reshape(-1)
        self.kinds: Tensor | None = None
        if shift:
            last_row = (torch.arange(rows, device=device) == rows - 1).long()
            last_column = (torch.arange(columns, device=device) == columns - 1).long()
            self.kinds = (2 * last_row[:, None] + last_column).reshape(-1)
        # A symbolic size may be padded.
        sizes_are_known = isinstance(height, int) and isinstance(width, int)
        self.is_padded = not sizes_are_known or height % window > 0 or width % window > 0


class ExportableWindowAttention(nn.Module):
    """`WindowAttention` on `Windows`, with the scale of the attention inside the projection.

    Args:
        source: its weights are shared, but for the projection, of which the queries are scaled.
        shift: of the windows.
        fused: attend by PyTorch's fused function rather than by two products and a softmax.
    """

    masks: Tensor

    def __init__(self, source: WindowAttention, shift: int, *, fused: bool) -> None:
        super().__init__()
        self.window, self.heads, self.fused = source.window, source.heads, fused
        channels = source.proj.in_features
        scale = torch.ones(3 * channels, 1)
        scale[:channels] = 1 if fused else (channels // self.heads) ** -0.5
        self.weight = nn.Parameter(source.qkv.weight.detach() * scale, requires_grad=False)
        self.qkv_bias = nn.Parameter(source.qkv.bias.detach() * scale[:, 0], requires_grad=False)
        self.proj = source.proj
        slots = self.window**2
        index = source.relative_position_index.view(-1)
        bias = source.relative_position_bias_table.detach().t().index_select(1, index)
        bias = bias.view(1, self.heads, slots, slots)
        if shift:
            masks = torch.from_numpy(seam_masks(self.window, shift))
            bias = bias + masks[:, None]
        self.register_buffer("masks", bias.contiguous())

    def forward(self, x: Tensor, windows: Windows) -> Tensor:
        """x: (B, L, C), tokens row by row → the same, attended inside the windows."""
        batch, _, channels = x.shape
        slots = self.window**2
        if windows.is_padded:
            # The released networks project the padding too: zeros become the bias, and are seen.
            x = F.pad(x, (0, 0, 0, 1))
        x = x.index_select(1, windows.order)
        # Five axes, for runtimes that have no more.
        q, k, v = (
            part.reshape(batch, -1, slots, self.heads, channels // self.heads).transpose(2, 3)
            for part in F.linear(x, self.weight, self.qkv_bias).chunk(3, dim=-1)
        )
        bias = self.masks
        if windows.kinds is not None:
            bias = bias.index_select(0, windows.kinds)
        if self.fused:
            x = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=None)
        else:
            x = torch.softmax(q @ k.transpose(-2, -1) + bias, dim=-1) @ v
        x = x.transpose(2, 3).reshape(batch, -1, channels)
        return self.proj(x.index_select(1, windows.home))


class ExportableSwinBlock(nn.Module):
    """`SwinBlock` in inference, on `Windows`."""

    def __init__(self, source: SwinBlock, shift: int, *, fused: bool) -> None:
        super().__init__()
        self.norm1, self.norm2 = source.norm1, source.norm2
        self.attn = ExportableWindowAttention(source.attn, shift, fused=fused)
        self.fc1, self.fc2 = source.mlp.fc1, source.mlp.fc2

    def forward(self, x: Tensor, windows: Windows) -> Tensor:
        """x: tokens (B, L, C)."""
        x = x + self.attn(self.norm1(x), windows)
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class ExportablePatchMerging(nn.Module):
    """`PatchMerging` that pads by a remainder which may be zero, rather than asking."""

    def __init__(self, source: PatchMerging) -> None:
        super().__init__()
        self.norm, self.reduction = source.norm, source.reduction

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, H, W, C) → (B, ceil(H / 2), ceil(W / 2), 2 C)."""
        batch, height, width, channels = x.shape
        rows, columns = (height + 1) // 2, (width + 1) // 2
        x = F.pad(x, (0, 0, 0, 2 * columns - width, 0, 2 * rows - height))
        x = x.reshape(batch * rows, 2, columns, 2, channels).permute(0, 2, 3, 1, 4)
        return self.reduction(self.norm(x.reshape(batch, rows, columns, 4 * channels)))


class ExportableSwinStage(nn.Module):
    """`SwinStage` in inference, for any size."""

    def __init__(self, source: SwinStage, *, fused: bool) -> None:
        super().__init__()
        self.window, self.shifts = source.window, source.shifts
        self.blocks = nn.ModuleList(
            ExportableSwinBlock(block, shift, fused=fused)  # type: ignore[arg-type]
            for block, shift in zip(source.blocks, source.shifts, strict=True)
        )
        self.downsample = (
            ExportablePatchMerging(source.downsample)
            if isinstance(source.downsample, PatchMerging)
            else source.downsample
        )

    def forward(self, x: Tensor, run: object = None) -> tuple[Tensor, Tensor]:
        """x: (B, H, W, C) → the attended tokens, and the same merged for the next stage.

        `run` is `SwinStage`'s, and not needed without training.
        """
        batch, height, width, channels = x.shape
        windows = {
            shift: Windows(height, width, self.window, shift, x.device)
            for shift in sorted(set(self.shifts))
        }
        tokens = x.reshape(batch, height * width, channels)
        for shift, block in zip(self.shifts, self.blocks, strict=True):
            tokens = block(tokens, windows[shift])
        x = tokens.reshape(batch, height, width, channels)
        return x, self.downsample(x)
