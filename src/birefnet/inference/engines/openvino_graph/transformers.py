"""Backbones of attention: Swin and PVT v2."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import openvino.opset15 as ops
from openvino import Node
from torch import Tensor, nn

from birefnet.inference.engines.openvino_graph.emitter import Emitter, constant, emits
from birefnet.inference.engines.openvino_graph.layers import gelu, product
from birefnet.inference.engines.openvino_nodes import (
    Value,
    integers,
    lengths,
    number,
    reshape,
    transpose,
)
from birefnet.network.backbones.pvt_v2 import (
    ConvolutionalPerceptron,
    DepthwiseConvolution,
    OverlapPatchEmbedding,
    PVTBlock,
    PyramidVisionTransformer,
    ReducedAttention,
)
from birefnet.network.backbones.swin import (
    PatchEmbedding,
    PatchMerging,
    Perceptron,
    SwinBlock,
    SwinStage,
    SwinTransformer,
    WindowAttention,
)
from birefnet.network.backbones.windows import HIDDEN


@dataclass
class _Windows:
    """Index maps of one stage and shift, as in `birefnet.network.backbones.windows`.

    Attributes:
        order: (slots,) token in each slot of the windows; one behind the last where it is empty.
        home: (tokens,) slot of each token.
        mask: (windows, 1, N, N) what is added to the attention; `None` without a shift.
    """

    order: Node
    home: Node
    mask: Node | None


def _windows(height: Node, width: Node, window: int, shift: int) -> _Windows:
    """Count the windows of a map of `height` x `width` inside the graph."""
    side = integers(window)
    rows = ops.divide(ops.add(height, integers(window - 1)), side)
    columns = ops.divide(ops.add(width, integers(window - 1)), side)

    def count(length: Node, axis: int) -> Node:
        """0, 1, … to `length` - 1, along `axis` of two."""
        start, step = ops.constant(np.int64(0)), ops.constant(np.int64(1))
        steps = ops.range(start, ops.squeeze(length), step, "i64")
        return ops.unsqueeze(steps, integers(1 - axis))

    def by_window(grid: Node) -> Node:
        """(rows * window, columns * window) → (windows, N)."""
        split = reshape(grid, rows, window, columns, window)
        return reshape(transpose(split, 0, 2, 1, 3), -1, window * window)

    full_height, full_width = ops.multiply(rows, side), ops.multiply(columns, side)
    slot_y, slot_x = count(full_height, 0), count(full_width, 1)
    offset = integers(shift)
    y = ops.mod(ops.add(slot_y, offset), full_height)
    x = ops.mod(ops.add(slot_x, offset), full_width)
    inside = ops.logical_and(ops.less(y, height), ops.less(x, width))
    token = ops.add(ops.multiply(y, width), x)
    order = by_window(ops.select(inside, token, ops.multiply(height, width)))

    y, x = count(height, 0), count(width, 1)
    y = ops.mod(ops.subtract(ops.add(y, full_height), offset), full_height)
    x = ops.mod(ops.subtract(ops.add(x, full_width), offset), full_width)
    number_of_window = ops.add(ops.multiply(ops.divide(y, side), columns), ops.divide(x, side))
    inner = ops.add(ops.multiply(ops.mod(y, side), side), ops.mod(x, side))
    home = ops.add(ops.multiply(number_of_window, integers(window * window)), inner)

    mask = None
    if shift:
        seam_y = ops.greater_equal(slot_y, ops.subtract(full_height, offset))
        seam_x = ops.greater_equal(slot_x, ops.subtract(full_width, offset))
        region = ops.add(
            ops.multiply(ops.convert(seam_y, "i64"), integers(2)), ops.convert(seam_x, "i64")
        )
        region = by_window(region)
        apart = ops.not_equal(
            ops.unsqueeze(region, integers(1, 3)), ops.unsqueeze(region, integers(1, 2))
        )
        mask = ops.select(apart, number(HIDDEN), number(0.0))
    return _Windows(_int32(order), _int32(home), mask)


def _int32(index: Node) -> Node:
    return ops.convert(reshape(index, -1), "i32")


@emits(PatchEmbedding)
def patch_embedding(emit: Emitter, module: PatchEmbedding, x: Value) -> Node:
    """Sides are multiples of 16, so nothing is padded."""
    return emit(module.norm, transpose(emit(module.proj, x), 0, 2, 3, 1))


@emits(PatchMerging)
def patch_merging(emit: Emitter, module: PatchMerging, x: Value) -> Node:
    """x: (B, H, W, C) → (B, ceil(H / 2), ceil(W / 2), 2 C)."""
    channels = module.norm.normalized_shape[0] // 4
    batch, height, width = lengths(x, 0, 1, 2)
    two = integers(2)
    odd = [ops.mod(height, two), ops.mod(width, two)]
    zero = integers(0)
    x = ops.pad(x, integers(0, 0, 0, 0), ops.concat([zero, *odd, zero], 0), "constant")
    rows, columns = (ops.divide(ops.add(length, integers(1)), two) for length in (height, width))
    split = reshape(x, batch, rows, 2, columns, 2, channels)
    merged = reshape(transpose(split, 0, 1, 3, 4, 2, 5), batch, rows, columns, 4 * channels)
    return emit(module.reduction, emit(module.norm, merged))


@emits(SwinTransformer)
def swin(emit: Emitter, module: SwinTransformer, x: Value) -> list[Node]:
    x = emit(module.patch_embed, x)
    norms = (module.norm0, module.norm1, module.norm2, module.norm3)
    maps = []
    for stage, norm in zip(module.layers, norms, strict=True):
        here, x = emit(stage, x)
        maps.append(transpose(emit(norm, here), 0, 3, 1, 2))
    return maps


@emits(SwinStage)
def swin_stage(emit: Emitter, module: SwinStage, x: Value) -> tuple[Node, Node]:
    batch, height, width = lengths(x, 0, 1, 2)
    channels = next(module.blocks.parameters()).numel()  # of the first norm
    plans = {s: _windows(height, width, module.window, s) for s in sorted(set(module.shifts))}
    for plan in plans.values():
        if plan.mask is not None:
            repeats = ops.concat([batch, integers(1, 1, 1)], 0)
            plan.mask = ops.tile(plan.mask, repeats)
    tokens = reshape(x, batch, ops.multiply(height, width), channels)
    for shift, block in zip(module.shifts, module.blocks, strict=True):
        tokens = emit(block, tokens, plans[shift])
    x = reshape(tokens, batch, height, width, channels)
    return x, emit(module.downsample, x)


@emits(SwinBlock)
def swin_block(emit: Emitter, module: SwinBlock, x: Value, plan: _Windows) -> Node:
    x = ops.add(x, emit(module.attn, emit(module.norm1, x), plan))
    return ops.add(x, emit(module.mlp, emit(module.norm2, x)))


@emits(Perceptron)
def perceptron(emit: Emitter, module: Perceptron, x: Value) -> Node:
    return emit(module.fc2, gelu(emit(module.fc1, x)))


@emits(WindowAttention)
def window_attention(emit: Emitter, module: WindowAttention, x: Value, plan: _Windows) -> Node:
    """x: (B, L, C). An empty slot holds zeros, of which the projections make their biases."""
    slots, heads = module.window**2, module.heads
    channels = module.proj.in_features
    padded = ops.pad(x, integers(0, 0, 0), integers(0, 1, 0), "constant")
    x = ops.gather(padded, plan.order, integers(1))
    q, k, v = (
        reshape(part, -1, slots, heads, channels // heads)
        for part in _projections(module.qkv, x, heads)
    )
    logits = ops.add(
        ops.matmul(transpose(q, 0, 2, 1, 3), transpose(k, 0, 2, 3, 1), False, False),
        constant(module._bias(module.relative_position_bias_table)),
    )
    if plan.mask is not None:
        logits = ops.add(logits, plan.mask)
    attended = ops.matmul(ops.softmax(logits, -1), transpose(v, 0, 2, 1, 3), False, False)
    attended = reshape(transpose(attended, 0, 2, 1, 3), *lengths(x, 0, 1), channels)
    return emit(module.proj, ops.gather(attended, plan.home, integers(1)))


def _projections(layer: nn.Linear, x: Value, heads: int) -> list[Node]:
    """Queries, scaled, keys and values, from one layer whose outputs hold them one by one.

    Three products are quicker than one whose result must be cut apart.
    """
    assert layer.bias is not None
    width = layer.out_features // 3
    scale = (width // heads) ** -0.5
    scales = (scale, 1.0, 1.0)
    weights, biases = layer.weight.chunk(3), layer.bias.chunk(3)
    return [
        product(x, _scaled(w, s), _scaled(b, s))
        for w, b, s in zip(weights, biases, scales, strict=True)
    ]


def _scaled(values: Tensor, scale: float) -> Tensor:
    return values if scale == 1 else values.detach() * scale


@emits(OverlapPatchEmbedding)
def overlap_patch_embedding(emit: Emitter, module: OverlapPatchEmbedding, x: Value) -> Node:
    return emit(module.norm, transpose(emit(module.proj, x), 0, 2, 3, 1))


@emits(DepthwiseConvolution)
def depthwise_convolution(emit: Emitter, module: DepthwiseConvolution, x: Value) -> Node:
    return transpose(emit(module.dwconv, transpose(x, 0, 3, 1, 2)), 0, 2, 3, 1)


@emits(ConvolutionalPerceptron)
def convolutional_perceptron(emit: Emitter, module: ConvolutionalPerceptron, x: Value) -> Node:
    return emit(module.fc2, gelu(emit(module.dwconv, emit(module.fc1, x))))


@emits(ReducedAttention)
def reduced_attention(emit: Emitter, module: ReducedAttention, x: Value) -> Node:
    """x: (B, H, W, C) → the same shape."""
    heads, channels = module.heads, module.proj.in_features
    batch, height, width = lengths(x, 0, 1, 2)
    seen = x
    if module.reduction > 1:
        kernel, zero = integers(module.reduction), integers(0)
        missing = [ops.maximum(ops.subtract(kernel, length), zero) for length in (height, width)]
        seen = ops.pad(
            transpose(x, 0, 3, 1, 2),
            integers(0, 0, 0, 0),
            ops.concat([zero, zero, *missing], 0),
            "constant",
        )
        seen = emit(module.norm, transpose(emit(module.sr, seen), 0, 2, 3, 1))
    scale = (channels // heads) ** -0.5
    assert module.q.bias is not None
    assert module.kv.bias is not None
    q = product(x, module.q.weight.detach() * scale, module.q.bias.detach() * scale)
    k, v = (
        product(seen, weight, bias)
        for weight, bias in zip(module.kv.weight.chunk(2), module.kv.bias.chunk(2), strict=True)
    )
    q, k, v = (reshape(part, batch, -1, heads, channels // heads) for part in (q, k, v))
    logits = ops.matmul(transpose(q, 0, 2, 1, 3), transpose(k, 0, 2, 3, 1), False, False)
    attended = ops.matmul(ops.softmax(logits, -1), transpose(v, 0, 2, 1, 3), False, False)
    attended = reshape(transpose(attended, 0, 2, 1, 3), batch, height, width, channels)
    return emit(module.proj, attended)


@emits(PVTBlock)
def pvt_block(emit: Emitter, module: PVTBlock, x: Value) -> Node:
    x = ops.add(x, emit(module.attn, emit(module.norm1, x)))
    return ops.add(x, emit(module.mlp, emit(module.norm2, x)))


@emits(PyramidVisionTransformer)
def pvt(emit: Emitter, module: PyramidVisionTransformer, x: Value) -> list[Node]:
    maps = []
    for i in range(1, 5):
        x = emit(module.get_submodule(f"patch_embed{i}"), x)
        for block in module.get_submodule(f"block{i}").children():
            x = emit(block, x)
        x = transpose(emit(module.get_submodule(f"norm{i}"), x), 0, 3, 1, 2)
        maps.append(x)
    return maps
