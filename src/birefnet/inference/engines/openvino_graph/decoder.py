"""The simplified decoder, and what joins encoder and decoder."""

from __future__ import annotations

import math

import openvino.opset15 as ops
from openvino import Node

from birefnet.inference.engines.openvino_graph.emitter import Emitter, emits
from birefnet.inference.engines.openvino_graph.layers import convolve, resize, resize_like
from birefnet.inference.engines.openvino_nodes import Value, integers, lengths, reshape, transpose
from birefnet.network import simplify
from birefnet.network.birefnet import BiRefNet
from birefnet.network.blocks import (
    Branch,
    ImagePatchBlock,
    OutwardReference,
    PooledBranch,
    ReconstructionBlock,
    ResidualPair,
    _ResidualBlock,
)
from birefnet.network.decoder import BilateralReferenceStage
from birefnet.network.encoder import Encoder, PyramidNeck
from birefnet.network.guidance import PICTURE_CHANNELS, STRIDES, GuidanceMaps


@emits(BiRefNet)
def birefnet(emit: Emitter, module: BiRefNet, image: Value) -> Node:
    maps, context = emit(module.encoder, image)
    squeezed = context if module.squeeze is None else emit(module.squeeze, context)
    if module.neck is not None:
        maps = emit(module.neck, [*maps[:3], squeezed], lengths(image, 2, 3))
        squeezed = maps[-1]
    picture = _channels(image, 0, PICTURE_CHANNELS) if module.config.guidance_channel else image
    return emit(module.decoder, squeezed, maps, picture)


def _channels(x: Value, first: int, last: int) -> Node:
    return ops.slice(x, integers(first), integers(last), integers(1), integers(1))


@emits(Encoder)
def encoder(emit: Emitter, module: Encoder, image: Value) -> tuple[list[Value], Value]:
    height, width = lengths(image, 2, 3)

    def features(x: Value) -> list[Value]:
        maps: list[Value] = emit(module.backbone, x)
        if module.guidance is not None:
            guide = _channels(x, PICTURE_CHANNELS, PICTURE_CHANNELS + 1)
            maps = emit(module.guidance, guide, maps)
        return maps

    maps = features(image)
    if module.image_pyramid != "none":
        two = integers(2)
        half = features(resize(image, ops.divide(height, two), ops.divide(width, two)))
        enlarged = [resize_like(small, large) for small, large in zip(half, maps, strict=True)]
        join = (lambda pair: ops.concat(pair, 1)) if module.image_pyramid == "cat" else _sum
        maps = [join(list(pair)) for pair in zip(maps, enlarged, strict=True)]
    context = maps[-1]
    if module.context_fusion:
        context = ops.concat([*(resize_like(x, maps[-1]) for x in maps[:-1]), maps[-1]], 1)
    return maps, context


def _sum(pair: list[Value]) -> Node:
    return ops.add(*pair)


@emits(GuidanceMaps)
def guidance_maps(
    emit: Emitter, module: GuidanceMaps, guide: Value, maps: list[Value]
) -> list[Value]:
    pooled: list[Value] = [
        ops.avg_pool(guide, 2 * [stride], [0, 0], [0, 0], 2 * [stride], True) for stride in STRIDES
    ]
    seen = zip(module.convs, [*pooled, pooled[-1]], maps, strict=True)
    return [ops.add(x, emit(conv, resize_like(small, x))) for conv, small, x in seen]


@emits(PyramidNeck)
def neck(
    emit: Emitter, module: PyramidNeck, maps: list[Value], sizes: tuple[Node, Node]
) -> list[Node]:
    return [
        resize(emit(project, x), *(ops.divide(size, integers(stride)) for size in sizes))
        for project, x, stride in zip(module.projections, maps, (4, 8, 16, 32), strict=True)
    ]


@emits(ReconstructionBlock)
def reconstruction_block(emit: Emitter, module: ReconstructionBlock, x: Value) -> Node:
    inside = emit(module.attention, ops.relu(emit(module.norm_in, emit(module.conv_in, x))))
    out = emit(module.norm_out, emit(module.conv_out, inside))
    return out if module.shortcut is None else ops.add(out, emit(module.shortcut, x))


@emits(ResidualPair)
def residual_pair(emit: Emitter, module: ResidualPair, x: Value) -> Node:
    return emit(module.blocks, x)


@emits(_ResidualBlock)
def residual_block(emit: Emitter, module: _ResidualBlock, x: Value) -> Node:
    inside = ops.relu(emit(module.norm1, emit(module.conv1, x)))
    inside = emit(module.norm2, emit(module.conv2, inside))
    return ops.relu(ops.add(inside, emit(module.norm_shortcut, emit(module.shortcut, x))))


@emits(simplify.InferenceASPP)
def aspp(emit: Emitter, module: simplify.InferenceASPP, x: Value) -> Node:
    """Each branch goes through its share of the joining convolution: nothing is concatenated."""
    joined = convolve(emit(module.pooled, x), module.project_pooled, module.bias)
    shares = module.project.chunk(len(module.branches), dim=1)
    for branch, share in zip(module.branches, shares, strict=True):
        joined = ops.add(convolve(emit(branch, x), share), joined)
    return ops.relu(joined)


@emits(PooledBranch)
def pooled_branch(emit: Emitter, module: PooledBranch, x: Value) -> Node:
    """(B, C, H, W) → (B, width, 1, 1): not spread over the map."""
    return ops.relu(emit(module.conv, ops.reduce_mean(x, integers(2, 3), True)))


@emits(Branch)
def one_branch(emit: Emitter, module: Branch, x: Value) -> Node:
    return ops.relu(emit(module.norm, emit(module.conv, x)))


@emits(ImagePatchBlock)
def image_patch_block(emit: Emitter, module: ImagePatchBlock, x: Value) -> Node:
    return emit(module.conv_out, emit(module.conv_in, x))


@emits(OutwardReference)
def outward_reference(emit: Emitter, module: OutwardReference, features: Value) -> Node:
    gradient = ops.relu(emit(module.norm, emit(module.conv, features)))
    return ops.multiply(features, ops.sigmoid(emit(module.attention, gradient)))


@emits(BilateralReferenceStage)
def stage(
    emit: Emitter, module: BilateralReferenceStage, features: Value, encoded: Value, image: Value
) -> Value:
    if module.lateral is not None:
        features = ops.add(resize_like(features, encoded), emit(module.lateral, encoded))
    if module.reference is not None:
        if module.inward == "split":
            source = _tiles(image, math.isqrt(module.reference.conv_in.in_channels // 3))
        else:
            source = resize_like(image, features)
        features = ops.concat([features, emit(module.reference, source)], 1)
    features = emit(module.block, features)
    return features if module.outward is None else emit(module.outward, features)


def _tiles(image: Value, grid: int) -> Node:
    """`birefnet.network.decoder.image_tiles` for a known number of tiles, `grid` squared."""
    batch, height, width = lengths(image, 0, 2, 3)
    height, width = (ops.divide(length, integers(grid)) for length in (height, width))
    split = reshape(image, batch, 3, grid, height, grid, width)
    return reshape(transpose(split, 0, 1, 2, 4, 3, 5), batch, 3 * grid * grid, height, width)


@emits(simplify.InferenceDecoder)
def decoder(
    emit: Emitter,
    module: simplify.InferenceDecoder,
    squeezed: Value,
    maps: list[Value],
    image: Value,
) -> Node:
    features = squeezed
    for one, encoded in zip(module.stages, reversed(maps), strict=True):
        features = emit(one, features, encoded, image)
    logits = resize_like(convolve(features, module.weight, module.bias), image)
    return logits if module.image_head is None else ops.add(logits, emit(module.image_head, image))


@emits(simplify._ImageHead)
def image_head(emit: Emitter, module: simplify._ImageHead, image: Value) -> Node:
    inside = convolve(image, module.weight, module.bias, padding=[2, 2])

    def cut(x: Value, axis: int, first: int, last: int) -> Node:
        return ops.slice(x, integers(first), integers(last), integers(1), integers(axis))

    def exact(strip: Node) -> Node:
        first = emit(module.first, strip)
        return convolve(first, module.second_weight, module.second_bias, padding=[1, 1])

    end = 2**62
    top = cut(exact(cut(image, 2, 0, 3)), 2, 0, 1)
    bottom = cut(exact(cut(image, 2, -3, end)), 2, -1, end)
    left = cut(cut(exact(cut(image, 3, 0, 3)), 3, 0, 1), 2, 1, -1)
    right = cut(cut(exact(cut(image, 3, -3, end)), 3, -1, end), 2, 1, -1)
    inside = cut(cut(inside, 2, 1, -1), 3, 1, -1)
    return ops.concat([top, ops.concat([left, inside, right], 3), bottom], 2)
