"""Deformable convolution as sampling and a product of matrices, for fewer bits than float32.

OpenVINO's own operation computes in float32. Here pixels are rows of a table with a border of
zeros; a sample is gathered from four rows, the samples of an output pixel are one row of a matrix
("columns"), and one product with the kernel follows, in bfloat16 where the graph runs in it. With
`Ranges` the table, the columns and the kernel are integers of eight bits. The work goes in pieces
that fit a processor's cache.

Positions are split into an integer and a fraction before home positions are added, so that they
stay exact where the graph runs in bfloat16.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from birefnet.errors import needs_extra

with needs_extra("openvino", __name__):
    import openvino.opset15 as ops
    from openvino import Model, Node, Output
    from openvino.op import Constant

from birefnet.inference.engines.openvino_nodes import (
    Value,
    constant,
    integers,
    lengths,
    number,
    reshape,
    transpose,
)

# Two pixels of zeros around the picture: a sample further out is moved between them.
BORDER = 2
DEFORMABLE = "DeformableConvolution"
LEVELS = 255  # of an unsigned integer of eight bits, above zero


@dataclass(frozen=True)
class Ranges:
    """Largest values that the integers of one deformable convolution stand for; the least is 0.

    Attributes:
        pixels: of the input, which comes from a ReLU.
        columns: of the modulated samples.
    """

    pixels: float
    columns: float


def deformable_nodes(graph: Model) -> list[Node]:
    """The deformable convolutions of a graph, in its order."""
    return [one for one in graph.get_ordered_ops() if one.get_type_name() == DEFORMABLE]


def separate(graph: Model) -> None:
    """Give rows, columns and modulation of all sampling positions convolutions of their own.

    The one convolution that makes them writes pixel by pixel all channels. Cutting them apart costs
    as much as a fifth of it; what three of them write is used as it lies.
    """
    for node in deformable_nodes(graph):
        split = node.input_value(1).get_node()
        if split.get_type_name() != "VariadicSplit":
            continue  # a graph that was not made here
        biased = split.input_value(0).get_node()
        convolution = biased.input_value(0).get_node()
        if [biased.get_type_name(), convolution.get_type_name()] != ["Add", "Convolution"]:
            continue
        kernel, bias = _values(convolution.input_value(1)), _values(biased.input_value(1))
        taps, side = len(kernel) // 3, kernel.shape[-1]
        pads = [side // 2, side // 2]
        dy, dx, mask = (
            ops.add(
                ops.convolution(
                    convolution.input_value(0), constant(kernel[part]), [1, 1], pads, pads, [1, 1]
                ),
                constant(bias.reshape(1, -1, 1, 1)[:, part]),
            )
            for part in (
                slice(0, 2 * taps, 2),
                slice(1, 2 * taps, 2),
                slice(2 * taps, 3 * taps),
            )
        )
        node.input(1).replace_source_output(_interleave(dy, dx, taps).output(0))
        for target in split.output(1).get_target_inputs():
            target.replace_source_output(mask.output(0))
    graph.validate_nodes_and_infer_types()


def _interleave(dy: Node, dx: Node, taps: int) -> Node:
    """Two of (B, taps, H, W) → (B, 2 * taps, H, W), as the operation takes them."""
    pair = ops.concat([ops.unsqueeze(dy, integers(2)), ops.unsqueeze(dx, integers(2))], 2)
    batch, height, width = lengths(dy, 0, 2, 3)
    return reshape(pair, batch, 2 * taps, height, width)


def _positions(offset: Output, taps: int) -> tuple[Value, Value]:
    """Inverse of `_interleave`: what it was given, or cut apart."""
    pair = offset.get_node().input_value(0).get_node()
    if pair.get_type_name() == "Concat":
        dy, dx = (pair.input_value(i).get_node() for i in range(2))
        return dy.input_value(0), dx.input_value(0)
    batch, height, width = lengths(offset, 0, 2, 3)
    pairs = reshape(offset, batch, taps, 2, height, width)
    dy, dx = ops.split(pairs, ops.constant(np.int64(2)), 2).outputs()
    return ops.squeeze(dy, integers(2)), ops.squeeze(dx, integers(2))


def sample(node: Node, ranges: Ranges | None = None) -> tuple[Node, list[Value]]:
    """Operations that equal a deformable convolution, and its columns in pieces."""
    x, offset, weight, mask = (node.input_value(i) for i in range(4))
    kernel = _values(weight)
    out_channels, channels, size, _ = kernel.shape
    dy, dx = _positions(offset, size * size)
    made = columns(
        x, dy, dx, mask, channels=channels, size=size, pieces=_pieces(node, size), ranges=ranges
    )
    rows = _kernel_rows(kernel)
    if ranges is None:
        products = [ops.matmul(piece, constant(rows), False, True) for piece in made]
    else:
        products = quantised_products(made, rows, ranges)
    return assemble(products, x, out_channels), made


def replace_deformables(graph: Model, ranges: Mapping[str, Ranges] | None = None) -> None:
    """Write all deformable convolutions of `graph` as sampling and products.

    Args:
        graph: changed in place; quickest after `separate`.
        ranges: by names of nodes, for integers; None stays in floating point.
    """
    for node in deformable_nodes(graph):
        name = node.get_friendly_name()
        replacement, _ = sample(node, None if ranges is None else ranges[name])
        replacement.set_friendly_name(name)
        for target in node.output(0).get_target_inputs():
            target.replace_source_output(replacement.output(0))
    graph.validate_nodes_and_infer_types()


def _pieces(node: Node, size: int) -> int:
    """How many pieces: from the second stage on, four times as many for each, of equal size.

    At the last stage the picture's sides are divided by 4 and multiples of 8, so 16 pieces fit.
    More are no quicker, and each takes its time to compile.
    """
    stage = re.search(r"decoder[./]stages\.(\d+)[./]", node.get_friendly_name())
    return 4 ** max(int(stage[1]) - 1, 0) if stage and size > 1 else 1


def _values(weight: Output) -> NDArray[np.float32]:
    node = weight.get_node()
    while not isinstance(node, Constant):  # a conversion, where weights are stored in half
        node = node.input_value(0).get_node()
    return node.get_data().astype(np.float32)


def _kernel_rows(weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """(O, C, k, k) → (O, k * k * C), in the order of the columns."""
    return np.ascontiguousarray(weight.transpose(0, 2, 3, 1).reshape(len(weight), -1))


def columns(
    x: Value,
    dy: Value,
    dx: Value,
    mask: Value,
    *,
    channels: int,
    size: int,
    pieces: int,
    ranges: Ranges | None = None,
) -> list[Value]:
    """Sample `x` (B, C, H, W) at the positions of a `size` x `size` kernel.

    Args:
        x: not negative if there are `ranges`.
        dy, dx: (B, taps, H, W), how far from its home each sample lies [px].
        mask: (B, taps, H, W), factor of each tap.
        channels: C.
        size: k.
        pieces: how many; divides the number of output pixels.
        ranges: sample integers.

    Returns:
        The columns in pieces, each (B * H * W / pieces, taps * C).
    """
    taps = size * size
    batch, height, width = lengths(x, 0, 2, 3)
    pitch = ops.add(width, integers(2 * BORDER))
    rows = ops.multiply(ops.add(height, integers(2 * BORDER)), pitch)
    tables = _tables(x, channels, pitch, ranges)

    pixels = ops.multiply(height, width)
    dy, dx, modulation = (
        reshape(transpose(part, 0, 2, 3, 1), batch, pixels, taps) for part in (dy, dx, mask)
    )
    if ranges is not None:
        modulation = ops.multiply(modulation, number(ranges.pixels / ranges.columns))

    pixel = _count(pixels)  # (pixels, 1)
    tap = np.arange(taps).reshape(1, 1, taps)
    top, down = _position(
        dy, ops.divide(pixel, _int32(width)), tap // size - size // 2, _int32(height)
    )
    left, right = _position(
        dx, ops.mod(pixel, _int32(width)), tap % size - size // 2, _int32(width)
    )
    image = ops.multiply(ops.unsqueeze(_count(batch), integers(2)), _int32(rows))
    first = ops.add(ops.add(ops.multiply(top, _int32(pitch)), left), image)

    made: list[Value] = []
    for index, y, x_, factor in zip(
        *(_cut(part, pieces) for part in (first, down, right, modulation)), strict=True
    ):
        corners: list[Value] = [ops.gather(table, index, integers(0)) for table in tables]
        if ranges is not None:
            corners = [ops.convert(corner, "f32") for corner in corners]
        y, x_, factor = (ops.unsqueeze(part, integers(1)) for part in (y, x_, factor))
        above, below = _mix(corners[0], corners[1], x_), _mix(corners[2], corners[3], x_)
        sample = ops.multiply(_mix(above, below, y), factor)
        made.append(reshape(sample, -1, taps * channels))
    return made


def quantised_products(
    columns: list[Value], weight: NDArray[np.float32], ranges: Ranges
) -> list[Node]:
    """Each piece of integer columns times the transpose of `weight` (O, taps * C)."""
    peak = np.maximum(np.abs(weight).max(axis=1, keepdims=True), 1e-12)
    codes = np.rint(weight / peak * 127).astype(np.int8)
    scale = (peak / 127).astype(np.float32)
    kernel = ops.multiply(ops.convert(constant(codes), "f32"), constant(scale))
    unit = number(ranges.columns / LEVELS)
    low, high = number(0.0), number(float(LEVELS))
    return [
        ops.matmul(
            ops.multiply(ops.fake_quantize(piece, low, high, low, high, LEVELS + 1), unit),
            kernel,
            False,
            True,
        )
        for piece in columns
    ]


def assemble(products: list[Node], like: Value, channels: int) -> Node:
    """Pieces of (pixels, O) → (B, O, H, W), with B, H and W those of `like`."""
    batch, height, width = lengths(like, 0, 2, 3)
    joined = products[0] if len(products) == 1 else ops.concat(products, 0)
    return transpose(reshape(joined, batch, height, width, channels), 0, 3, 1, 2)


def _tables(x: Value, channels: int, pitch: Node, ranges: Ranges | None) -> list[Value]:
    """Pixels as rows, four times: so that one index finds a pixel and its three neighbours."""
    table = transpose(x, 0, 2, 3, 1)
    zero: Value = number(0.0)
    if ranges is not None:
        scaled = ops.multiply(table, number(LEVELS / ranges.pixels))
        table = ops.convert(ops.round(ops.clamp(scaled, 0.0, float(LEVELS))), "u8")
        zero = ops.constant(np.uint8(0))
    edge = integers(0, BORDER, BORDER, 0)
    table = reshape(ops.pad(table, edge, edge, "constant", zero), -1, channels)
    one, end = integers(1), integers(2**62)
    steps = (one, pitch, ops.add(pitch, one))
    return [table, *(ops.slice(table, step, end, one, integers(0)) for step in steps)]


def _position(offset: Node, home: Node, tap: NDArray[np.int64], length: Node) -> tuple[Node, Node]:
    """Row (or column) of the table before the samples, int32, and the fraction behind it."""
    whole = ops.floor(offset)
    row = ops.add(ops.add(ops.convert(whole, "i32"), home), constant(tap.astype(np.int32) + BORDER))
    zero, last = _scalar(0), ops.add(length, _scalar(BORDER))
    return ops.minimum(ops.maximum(row, zero), last), ops.subtract(offset, whole)


def _mix(before: Value, after: Value, part: Value) -> Node:
    return ops.add(before, ops.multiply(ops.subtract(after, before), part))


def _count(length: Node) -> Node:
    """(length, 1): 0, 1, …, int32."""
    steps = ops.range(_scalar(0), ops.squeeze(_int32(length)), _scalar(1), "i32")
    return ops.unsqueeze(steps, integers(1))


def _scalar(value: int) -> Node:
    return ops.constant(np.array(value, np.int32))


def _int32(values: Node) -> Node:
    return ops.convert(values, "i32")


def _cut(values: Node, pieces: int) -> list[Value]:
    flat = reshape(values, -1)
    return [flat] if pieces == 1 else _split(flat, pieces)


def _split(values: Node, parts: int) -> list[Value]:
    """Equal parts along the first axis."""
    return list(ops.split(values, ops.constant(np.int64(0)), parts).outputs())
