"""Shape and element type of what an operator of the graph gives, from its inputs and attributes.

One small function per family of operators and a table over `Op`. Importers and passes ask here
instead of working shapes out a second time; nothing here looks at elements.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from edge_convert.graph import Node, Op, Tensor

Shape = tuple[int, ...]

# Beyond these a size is a forgery, or no device's: a gigabyte of float32 in one tensor.
LARGEST_ELEMENTS = 2**28
LARGEST_SIDE = 2**24


def is_sane(shape: Sequence[int]) -> bool:
    """Whether a tensor of this shape may be thought of; nothing is allocated before it is asked."""
    return all(0 < d <= LARGEST_SIDE for d in shape) and math.prod(shape) <= LARGEST_ELEMENTS


Rule = Callable[[Sequence[Shape], Mapping[str, Any]], Shape]

ELEMENTWISE_UNARY = frozenset(
    {
        Op.RELU, Op.RELU6, Op.RELU_N1_TO_1, Op.LEAKY_RELU, Op.ELU, Op.SIGMOID, Op.TANH, Op.HARD_SWISH,
        Op.GELU, Op.EXP, Op.LOG, Op.SQRT, Op.RSQRT, Op.ABS, Op.NEG, Op.FLOOR, Op.CEIL, Op.ROUND, Op.SIN,
        Op.COS, Op.CAST, Op.LOGICAL_NOT,
    }
)  # fmt: skip
# These give bool, whatever they compare.
COMPARISONS = frozenset({Op.EQUAL, Op.NOT_EQUAL, Op.GREATER, Op.GREATER_EQUAL, Op.LESS, Op.LESS_EQUAL})
ELEMENTWISE_BINARY = COMPARISONS | {
    Op.ADD, Op.SUB, Op.MUL, Op.DIV, Op.MINIMUM, Op.MAXIMUM, Op.POW, Op.LOGICAL_AND, Op.LOGICAL_OR,
}  # fmt: skip
REDUCTIONS = frozenset({Op.MEAN, Op.SUM, Op.REDUCE_MAX, Op.REDUCE_MIN, Op.REDUCE_PROD})


def window_count(size: int, kernel: int, stride: int, dilation: int, before: int, after: int) -> int:
    """How many positions a window takes along one axis; all in pixels, padding explicit."""
    return (size + before + after - (dilation * (kernel - 1) + 1)) // stride + 1


def _windowed(
    x: Shape, kernel: Sequence[int], attrs: Mapping[str, Any], dilations: Sequence[int]
) -> tuple[int, int]:
    top, bottom, left, right = attrs["pads"]
    sh, sw = attrs["strides"]
    return (
        window_count(x[1], kernel[0], sh, dilations[0], top, bottom),
        window_count(x[2], kernel[1], sw, dilations[1], left, right),
    )


def _same(inputs: Sequence[Shape], attrs: Mapping[str, Any]) -> Shape:
    return inputs[0]


def _broadcast(inputs: Sequence[Shape], attrs: Mapping[str, Any]) -> Shape:
    return tuple(int(d) for d in np.broadcast_shapes(*inputs))


def _conv(inputs: Sequence[Shape], attrs: Mapping[str, Any]) -> Shape:
    x, w = inputs[0], inputs[1]
    return (x[0], *_windowed(x, w[1:3], attrs, attrs["dilations"]), w[0])


def _depthwise(inputs: Sequence[Shape], attrs: Mapping[str, Any]) -> Shape:
    x, w = inputs[0], inputs[1]
    return (x[0], *_windowed(x, w[1:3], attrs, attrs["dilations"]), w[3])


def _pool(inputs: Sequence[Shape], attrs: Mapping[str, Any]) -> Shape:
    x = inputs[0]
    return (x[0], *_windowed(x, attrs["kernel"], attrs, (1, 1)), x[3])


def _matmul(inputs: Sequence[Shape], attrs: Mapping[str, Any]) -> Shape:
    a, b = inputs
    rows = a[-1] if attrs["transpose_a"] else a[-2]
    columns = b[-2] if attrs["transpose_b"] else b[-1]
    return (*(int(d) for d in np.broadcast_shapes(a[:-2], b[:-2])), rows, columns)


def _concat(inputs: Sequence[Shape], attrs: Mapping[str, Any]) -> Shape:
    axis = attrs["axis"]
    first = inputs[0]
    return (*first[:axis], sum(s[axis] for s in inputs), *first[axis + 1 :])


def _pad(inputs: Sequence[Shape], attrs: Mapping[str, Any]) -> Shape:
    return tuple(d + before + after for d, (before, after) in zip(inputs[0], attrs["paddings"], strict=True))


def _slice(inputs: Sequence[Shape], attrs: Mapping[str, Any]) -> Shape:
    return tuple(
        len(range(b, e, s)) for b, e, s in zip(attrs["begin"], attrs["end"], attrs["strides"], strict=True)
    )


def _gather(inputs: Sequence[Shape], attrs: Mapping[str, Any]) -> Shape:
    x, indices = inputs
    axis = attrs["axis"]
    return (*x[:axis], *indices, *x[axis + 1 :])


def _tile(inputs: Sequence[Shape], attrs: Mapping[str, Any]) -> Shape:
    return tuple(d * m for d, m in zip(inputs[0], attrs["multiples"], strict=True))


def _resize(inputs: Sequence[Shape], attrs: Mapping[str, Any]) -> Shape:
    x = inputs[0]
    return (x[0], *attrs["size"], x[3])


def _space_to_depth(inputs: Sequence[Shape], attrs: Mapping[str, Any]) -> Shape:
    (n, h, w, c), block = inputs[0], attrs["block"]
    return (n, h // block, w // block, c * block * block)


def _depth_to_space(inputs: Sequence[Shape], attrs: Mapping[str, Any]) -> Shape:
    (n, h, w, c), block = inputs[0], attrs["block"]
    return (n, h * block, w * block, c // (block * block))


def _reduce(inputs: Sequence[Shape], attrs: Mapping[str, Any]) -> Shape:
    x, axes = inputs[0], attrs["axes"]
    if attrs["keepdims"]:
        return tuple(1 if i in axes else d for i, d in enumerate(x))
    return tuple(d for i, d in enumerate(x) if i not in axes)


def _arg_max(inputs: Sequence[Shape], attrs: Mapping[str, Any]) -> Shape:
    x, axis = inputs[0], attrs["axis"]
    return (*x[:axis], *x[axis + 1 :])


RULES: dict[Op, Rule] = {
    Op.CONV2D: _conv,
    Op.DEPTHWISE_CONV2D: _depthwise,
    Op.TRANSPOSE_CONV2D: lambda inputs, attrs: tuple(attrs["output_shape"]),
    Op.DENSE: lambda inputs, attrs: (*inputs[0][:-1], inputs[1][0]),
    Op.MATMUL: _matmul,
    Op.AVERAGE_POOL2D: _pool,
    Op.MAX_POOL2D: _pool,
    Op.RESHAPE: lambda inputs, attrs: tuple(attrs["shape"]),
    Op.TRANSPOSE: lambda inputs, attrs: tuple(inputs[0][p] for p in attrs["perm"]),
    Op.PAD: _pad,
    Op.MIRROR_PAD: _pad,
    Op.CONCAT: _concat,
    Op.SLICE: _slice,
    Op.GATHER: _gather,
    Op.TILE: _tile,
    Op.BROADCAST_TO: lambda inputs, attrs: tuple(attrs["shape"]),
    Op.RESIZE_BILINEAR: _resize,
    Op.RESIZE_NEAREST: _resize,
    Op.SPACE_TO_DEPTH: _space_to_depth,
    Op.DEPTH_TO_SPACE: _depth_to_space,
    Op.ARG_MAX: _arg_max,
    Op.SELECT: _broadcast,
    **dict.fromkeys(REDUCTIONS, _reduce),
    **dict.fromkeys(ELEMENTWISE_BINARY, _broadcast),
}


def infer(op: Op, inputs: Sequence[Tensor], attrs: Mapping[str, Any]) -> tuple[Shape, str]:
    """Shape and dtype of a node's output.

    Raises:
        ValueError: The inputs' shapes cannot be broadcast together.
    """
    shape = RULES.get(op, _same)([t.shape for t in inputs], attrs)
    dtype = inputs[0].dtype
    if op is Op.ARG_MAX:
        dtype = "int64"
    elif op is Op.CAST:
        dtype = attrs["dtype"]
    elif op in COMPARISONS:
        dtype = "bool"
    elif op is Op.SELECT:
        dtype = inputs[1].dtype
    return tuple(int(d) for d in shape), dtype


def result(
    op: Op,
    name: str,
    inputs: Sequence[Tensor],
    attrs: Mapping[str, Any],
    output: str,
    source: str = "",
) -> tuple[Node, Tensor]:
    """A node and the tensor it computes, with the shape that follows."""
    shape, dtype = infer(op, inputs, attrs)
    node = Node(op, name, tuple(t.name for t in inputs), (output,), dict(attrs), source)
    return node, Tensor(output, shape, dtype)
