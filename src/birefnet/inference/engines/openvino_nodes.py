"""Short ways to write nodes of an OpenVINO graph."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from birefnet.errors import needs_extra

with needs_extra("openvino", __name__):
    import openvino.opset15 as ops
    from openvino import Node, Output


Value: TypeAlias = "Node | Output"
"""The input of an operation: a node with one output, or an output of one."""


def constant(values: NDArray[np.generic]) -> Node:
    """A constant that shares its memory with `values`."""
    return ops.constant(np.ascontiguousarray(values), shared_memory=True)


def integers(*values: int) -> Node:
    """A vector of int64, as shapes, axes and pads want it."""
    return ops.constant(np.array(values, np.int64))


def number(value: float) -> Node:
    """A float32 scalar."""
    return ops.constant(np.array(value, np.float32))


def lengths(x: Value, *axes: int) -> list[Node]:
    """Sizes of `x` along `axes`, each a vector of one int64."""
    shape = ops.shape_of(x, "i64")
    return [ops.gather(shape, integers(axis), integers(0)) for axis in axes]


def reshape(x: Value, *sizes: int | Node) -> Node:
    """`x` in another shape; sizes are numbers (one may be -1) or vectors of one int64."""
    parts = [integers(size) if isinstance(size, int) else size for size in sizes]
    if all(isinstance(size, int) for size in sizes):
        return ops.reshape(x, integers(*sizes), False)
    return ops.reshape(x, ops.concat(parts, 0), False)


def transpose(x: Value, *order: int) -> Node:
    return ops.transpose(x, integers(*order))
