"""Swin Transformer v1, as a backbone of four maps.

Source: Liu et al., "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows",
ICCV 2021. Names in the state dict are those of the original's detection backbone; the maps equal
its maps, the way there differs (see `windows`).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from birefnet.network.backbones.base import Backbone, DropPath, drop_path_rates
from birefnet.network.backbones.windows import (
    WindowChunk,
    WindowPlan,
    relative_position_index,
    seam_masks,
    window_chunks,
    window_plan,
)
from birefnet.network.execution import on_cpu

# Tokens that a block takes at once in inference on a CPU: what it makes of them, the hidden values
# of its perceptron above all, then stays in the cache.
_CHUNK = 2048
# Slots of a window from which on a CPU two products and a softmax, one window after the other, beat
# the fused function in float32 (1.4 to 1.8 times as fast with windows of 12; those of 7 lose).
_FUSED_BELOW = 100


class PatchEmbedding(nn.Module):
    """4 x 4 pixels become one token."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, channels, 4, stride=4)
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, 3, H, W) → (B, ceil(H / 4), ceil(W / 4), channels)."""
        x = F.pad(x, (0, -x.shape[-1] % 4, 0, -x.shape[-2] % 4))
        rows = x.shape[-2] // 4
        parts = _parts(x, rows, tokens=x.shape[0] * rows * x.shape[-1] // 4)
        return _in_parts(lambda p: self._embed(x[:, :, 4 * p.start : 4 * p.stop]), parts)

    def _embed(self, x: Tensor) -> Tensor:
        # With channels last the convolution writes tokens; no transpose of the large map.
        x = self.proj(x.contiguous(memory_format=torch.channels_last))
        return self.norm(x.permute(0, 2, 3, 1))


class PatchMerging(nn.Module):
    """2 x 2 tokens become one of twice the channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * channels)
        self.reduction = nn.Linear(4 * channels, 2 * channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, H, W, C) → (B, ceil(H / 2), ceil(W / 2), 2 C)."""
        height, width = x.shape[1:3]
        if height % 2 or width % 2:
            x = F.pad(x, (0, 0, 0, width % 2, 0, height % 2))
        rows = x.shape[1] // 2
        parts = _parts(x, rows, tokens=x.shape[0] * rows * x.shape[2])
        return _in_parts(lambda p: self._merge(x[:, 2 * p.start : 2 * p.stop]), parts)

    def _merge(self, x: Tensor) -> Tensor:
        batch, height, width, channels = x.shape
        height, width = height // 2, width // 2
        x = x.reshape(batch, height, 2, width, 2, channels)
        # The four neighbours are ordered (row, column) = (0, 0), (1, 0), (0, 1), (1, 1).
        x = x.permute(0, 1, 3, 4, 2, 5).reshape(batch, height, width, 4 * channels)
        return self.reduction(self.norm(x))


class WindowAttention(nn.Module):
    """Multi-head attention inside windows, with a learned bias per relative position.

    Args:
        channels: of the tokens.
        window: side of the windows, in tokens.
        heads: number of heads.
    """

    relative_position_index: Tensor

    def __init__(self, channels: int, window: int, heads: int) -> None:
        super().__init__()
        self.window = window
        self.heads = heads
        table = torch.zeros((2 * window - 1) ** 2, heads)
        self.relative_position_bias_table = nn.Parameter(nn.init.trunc_normal_(table, std=0.02))
        self.register_buffer("relative_position_index", relative_position_index(window))
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        self._kept_bias: tuple[Tensor, Tensor] | None = None

    def forward(self, x: Tensor, plan: WindowPlan) -> Tensor:
        """x: tokens (B, L, C) row by row → the same, attended inside the windows of `plan`."""
        batch, length, channels = x.shape
        qkv = self.qkv(x.reshape(-1, channels).index_select(0, plan.order))
        bias = self.bias(x).to(qkv.dtype)
        attended = []
        if plan.inner:
            attended.append(self._attend(qkv[: plan.inner], bias))
        if len(plan.fill):
            edge = qkv[plan.inner :]
            if len(plan.empty):
                edge = edge.index_select(0, plan.fill)
                # The released networks project padding too: zeros become the bias, and are seen.
                edge[plan.empty] = self.qkv.bias.to(edge.dtype)
            if plan.kinds is not None:
                bias = bias + plan.masks.to(bias.dtype).index_select(0, plan.kinds)
            attended.append(self._attend(edge, bias))
        slots = torch.cat(attended) if len(attended) > 1 else attended[0]
        return self.proj(slots.index_select(0, plan.home)).view(batch, length, channels)

    def _attend(self, qkv: Tensor, bias: Tensor) -> Tensor:
        """qkv: (windows * N, 3 C), bias: (windows or 1, heads, N, N) → (windows * N, C)."""
        slots = self.window**2
        qkv = qkv.view(-1, slots, 3, self.heads, qkv.shape[-1] // (3 * self.heads))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return x.transpose(1, 2).reshape(x.shape[0] * slots, -1)

    def in_chunk(self, x: Tensor, chunk: WindowChunk, bias: Tensor) -> Tensor:
        """x: the tokens of `chunk`, (t, C) → the same, attended; `bias`: (1, heads, N, N)."""
        qkv = self.qkv(x)
        if chunk.fill is None or chunk.taken is None:
            return self.proj(self._attend_on_cpu(qkv, bias))
        qkv = qkv.index_select(0, chunk.fill)
        # The released networks project padding too: zeros become the bias, and are seen.
        qkv[chunk.empty] = self.qkv.bias.to(qkv.dtype)
        return self.proj(self._attend_on_cpu(qkv, bias).index_select(0, chunk.taken))

    def _attend_on_cpu(self, qkv: Tensor, bias: Tensor) -> Tensor:
        """As `_attend`, window by window; `bias` fits every window."""
        slots = self.window**2
        if slots < _FUSED_BELOW or qkv.dtype != torch.float32:
            return self._attend(qkv, bias)
        qkv = qkv.view(-1, slots, 3, self.heads, qkv.shape[-1] // (3 * self.heads))
        out = qkv.new_empty(len(qkv), slots, self.heads, qkv.shape[-1])
        scale = qkv.shape[-1] ** -0.5
        for window, attended in zip(qkv.permute(0, 2, 3, 1, 4), out, strict=True):
            q, k, v = window  # (heads, N, width): products read them where they are
            logits = torch.baddbmm(bias[0], q, k.transpose(1, 2), alpha=scale)
            attended.copy_(torch.bmm(logits.softmax(-1), v).transpose(0, 1))
        return out.view(len(qkv) * slots, -1)

    def bias(self, x: Tensor) -> Tensor:
        """The bias of the logits by relative position: (1, heads, N, N).

        On a CPU in inference it is kept until the table changes.
        """
        table = self.relative_position_bias_table
        if not on_cpu(x):
            return self._bias(table)
        if self._kept_bias is None or not _same(self._kept_bias[0], table):
            with torch.inference_mode(False), torch.no_grad():
                self._kept_bias = table.detach().clone(), self._bias(table.detach())
        return self._kept_bias[1]

    def _bias(self, table: Tensor) -> Tensor:
        slots = self.window**2
        bias = table.t().index_select(1, self.relative_position_index.view(-1))
        return bias.view(1, self.heads, slots, slots)


class SwinBlock(nn.Module):
    """Window attention and a perceptron, each behind a norm and beside a shortcut."""

    def __init__(self, channels: int, window: int, heads: int, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attn = WindowAttention(channels, window, heads)
        self.drop_path = DropPath(drop_path)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = Perceptron(channels, 4 * channels)

    def forward(self, x: Tensor, plan: WindowPlan) -> Tensor:
        """x: tokens (B, L, C)."""
        x = x + self.drop_path(self.attn(self.norm1(x), plan))
        return x + self.drop_path(self.mlp(self.norm2(x)))

    def update_(self, x: Tensor, chunks: list[WindowChunk], masks: Tensor) -> None:
        """As `forward` without gradients, in place, on tokens (B * L, C) of a CPU.

        Windows share no token, and all that follows the attention is token by token: a chunk of
        windows goes through the whole block, and only its own tokens change.
        """
        bias = self.attn.bias(x).to(x.dtype)
        kinds = [bias, *(bias + mask.to(bias.dtype) for mask in masks[1:])]
        for chunk in chunks:
            part = x.index_select(0, chunk.tokens)
            part += self.attn.in_chunk(self.norm1(part), chunk, kinds[chunk.kind])
            part += self.mlp.in_place(self.norm2(part))
            x.index_copy_(0, chunk.tokens, part)


class Perceptron(nn.Module):
    """Linear, GELU, linear."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, hidden)
        self.fc2 = nn.Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, L, channels)."""
        return self.fc2(F.gelu(self.fc1(x)))

    def in_place(self, x: Tensor) -> Tensor:
        """The same for tokens (t, channels) without gradients, with less memory."""
        return self.fc2(torch.ops.aten.gelu_(self.fc1(x)))


class SwinStage(nn.Module):
    """Blocks at one resolution, windows shifted in every other one; then the merging."""

    def __init__(
        self, channels: int, heads: int, window: int, rates: list[float], *, merge: bool
    ) -> None:
        super().__init__()
        self.window = window
        self.shifts = [window // 2 if i % 2 else 0 for i in range(len(rates))]
        self.blocks = nn.ModuleList(SwinBlock(channels, window, heads, rate) for rate in rates)
        self.downsample = PatchMerging(channels) if merge else nn.Identity()

    def forward(self, x: Tensor, run: Callable[..., Tensor]) -> tuple[Tensor, Tensor]:
        """x: (B, H, W, C) → the attended tokens, and the same merged for the next stage.

        `run` calls the blocks, see `Backbone.run`. In inference on a CPU the attended tokens may
        lie in the memory of `x`.
        """
        size = (x.shape[1], x.shape[2])
        tokens = x.flatten(1, 2)
        if not self.training and on_cpu(x):
            self._update_(tokens, size)
            x = tokens.view(x.shape)
            return x, self.downsample(x)
        for shift, block in zip(self.shifts, self.blocks, strict=True):
            tokens = run(block, tokens, window_plan(tokens, size, self.window, shift))
        x = tokens.view(x.shape)
        return x, self.downsample(x)

    def _update_(self, tokens: Tensor, size: tuple[int, int]) -> None:
        """The blocks on tokens (B, H * W, C), in place."""
        batch, _, channels = tokens.shape
        for shift, block in zip(self.shifts, self.blocks, strict=True):
            chunks = window_chunks(batch, *size, self.window, shift, _CHUNK)
            masks = torch.from_numpy(seam_masks(self.window, shift))[:, None]
            block.update_(tokens.view(-1, channels), chunks, masks)  # type: ignore[operator]


class SwinTransformer(Backbone):
    """Swin v1.

    Args:
        channels: of the first stage; each further stage doubles them.
        depths: blocks of the four stages.
        heads: heads of the four stages.
        window: side of the windows, in tokens.
        drop_path: stochastic depth of the last block; default 0.2.
    """

    def __init__(
        self,
        *,
        channels: int,
        depths: tuple[int, int, int, int],
        heads: tuple[int, int, int, int],
        window: int,
        drop_path: float | None = None,
    ) -> None:
        super().__init__()
        self.out_channels = (channels, 2 * channels, 4 * channels, 8 * channels)
        rates = drop_path_rates(0.2 if drop_path is None else drop_path, sum(depths))
        self.patch_embed = PatchEmbedding(channels)
        self.layers = nn.ModuleList()
        for i, width in enumerate(self.out_channels):
            stage_rates = rates[sum(depths[:i]) : sum(depths[: i + 1])]
            self.layers.append(SwinStage(width, heads[i], window, stage_rates, merge=i < 3))
        self.norm0, self.norm1, self.norm2, self.norm3 = map(nn.LayerNorm, self.out_channels)
        self.apply(_initialise)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, 3, H, W), any size → maps of ceil(H / s) x ceil(W / s) for s = 4, 8, 16, 32.

        The maps are in channels-last memory format.
        """
        x = self.patch_embed(x)
        maps = []
        norms = (self.norm0, self.norm1, self.norm2, self.norm3)
        for stage, norm in zip(self.layers, norms, strict=True):
            here, x = stage(x, self.run)
            maps.append(_normalised(norm, here).permute(0, 3, 1, 2))
        return maps


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _parts(x: Tensor, rows: int, tokens: int) -> list[slice]:
    """How to take `rows` rows of `x`: at once, or in inference on a CPU so many that what is made
    of a part stays in the cache; `tokens` is that of all rows."""
    count = -(-tokens // _CHUNK) if on_cpu(x) else 1
    step = max(1, rows // count)
    return [slice(first, min(first + step, rows)) for first in range(0, rows, step)]


def _in_parts(make: Callable[[slice], Tensor], parts: list[slice]) -> Tensor:
    """The results of `make` for each part, (B, rows, W, C), below each other."""
    first = make(parts[0])
    if len(parts) == 1:
        return first
    batch, _, width, channels = first.shape
    out = first.new_empty(batch, parts[-1].stop, width, channels)
    out[:, parts[0]] = first
    for part in parts[1:]:
        out[:, part] = make(part)
    return out


def _normalised(norm: nn.Module, x: Tensor) -> Tensor:
    """`norm(x)`; in inference on a CPU in the memory of `x` (B, H, W, C), which is spent."""
    if not on_cpu(x):
        return norm(x)
    for part in x.flatten(0, 2).split(_CHUNK):
        part.copy_(norm(part))
    return x


def _same(a: Tensor, b: Tensor) -> bool:
    """Whether dtype, device and all values agree."""
    return a.dtype == b.dtype and a.device == b.device and torch.equal(a, b)


def swin_v1(size: str, *, drop_path: float | None = None) -> SwinTransformer:
    """Swin v1 of `size` "t", "s", "b" or "l": tiny and small with windows of 7, the others 12."""
    channels, depth, heads, window = {
        "t": (96, 6, 3, 7),
        "s": (96, 18, 3, 7),
        "b": (128, 18, 4, 12),
        "l": (192, 18, 6, 12),
    }[size]
    return SwinTransformer(
        channels=channels,
        depths=(2, 2, depth, 2),
        heads=(heads, 2 * heads, 4 * heads, 8 * heads),
        window=window,
        drop_path=drop_path,
    )
