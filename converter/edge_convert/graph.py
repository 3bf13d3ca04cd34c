"""The one float graph in the middle: what every importer makes and every pass and target reads.

A `Graph` is a value: passes return a new one. Image tensors are NHWC, every shape is static
(batch 1), all padding is explicit, and there is one way to say a thing (no Squeeze beside
Reshape, no Split beside Slice). Quantization is not in here: it is a mapping from tensor names
to parameters that travels beside the graph (`quantizing/quantization.py`).

Why this set of operators: it is the intersection of what TensorFlow Lite's built-in operators
and OpenVINO's opset can say exactly, so that a target is a table from `Op` to its own operator.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class Op(StrEnum):
    """The operators of the float graph. Inputs and attributes of each stand in `SIGNATURES`."""

    # weights: [out, kh, kw, in / groups]; bias [out] optional
    CONV2D = "conv2d"
    # weights: [1, kh, kw, in * multiplier]; bias optional
    DEPTHWISE_CONV2D = "depthwise_conv2d"
    # weights: [out, kh, kw, in]; bias optional; attr output_shape says the exact result
    TRANSPOSE_CONV2D = "transpose_conv2d"
    # x [..., in] times weights [out, in]; bias optional
    DENSE = "dense"
    MATMUL = "matmul"
    AVERAGE_POOL2D = "average_pool2d"
    MAX_POOL2D = "max_pool2d"
    ADD = "add"
    SUB = "sub"
    MUL = "mul"
    DIV = "div"
    MINIMUM = "minimum"
    MAXIMUM = "maximum"
    POW = "pow"
    RELU = "relu"
    RELU6 = "relu6"
    RELU_N1_TO_1 = "relu_n1_to_1"
    LEAKY_RELU = "leaky_relu"
    PRELU = "prelu"
    ELU = "elu"
    SIGMOID = "sigmoid"
    TANH = "tanh"
    HARD_SWISH = "hard_swish"
    GELU = "gelu"
    SOFTMAX = "softmax"
    LOG_SOFTMAX = "log_softmax"
    EXP = "exp"
    LOG = "log"
    SQRT = "sqrt"
    RSQRT = "rsqrt"
    ABS = "abs"
    NEG = "neg"
    FLOOR = "floor"
    CEIL = "ceil"
    ROUND = "round"
    SIN = "sin"
    COS = "cos"
    RESHAPE = "reshape"
    TRANSPOSE = "transpose"
    PAD = "pad"
    MIRROR_PAD = "mirror_pad"
    CONCAT = "concat"
    SLICE = "slice"
    GATHER = "gather"
    TILE = "tile"
    BROADCAST_TO = "broadcast_to"
    RESIZE_BILINEAR = "resize_bilinear"
    RESIZE_NEAREST = "resize_nearest"
    SPACE_TO_DEPTH = "space_to_depth"
    DEPTH_TO_SPACE = "depth_to_space"
    MEAN = "mean"
    SUM = "sum"
    REDUCE_MAX = "reduce_max"
    REDUCE_MIN = "reduce_min"
    REDUCE_PROD = "reduce_prod"
    ARG_MAX = "arg_max"
    L2_NORMALIZE = "l2_normalize"
    # comparisons give bool; SELECT takes from its second operand where the first is true
    EQUAL = "equal"
    NOT_EQUAL = "not_equal"
    GREATER = "greater"
    GREATER_EQUAL = "greater_equal"
    LESS = "less"
    LESS_EQUAL = "less_equal"
    LOGICAL_AND = "logical_and"
    LOGICAL_OR = "logical_or"
    LOGICAL_NOT = "logical_not"
    SELECT = "select"
    CAST = "cast"


@dataclass(frozen=True)
class Signature:
    """What a node of one operator must have.

    Args:
        inputs: (fewest, most) inputs; most None is any number.
        attrs: Names that must all be present; values are plain Python (int, float, str, tuples).
    """

    inputs: tuple[int, int | None]
    attrs: tuple[str, ...] = ()


# pads is (top, bottom, left, right) in pixels; strides and dilations are (height, width).
# activation is one of ACTIVATIONS and is applied to the result, inside the node.
SIGNATURES: dict[Op, Signature] = {
    Op.CONV2D: Signature((2, 3), ("strides", "dilations", "pads", "groups", "activation")),
    Op.DEPTHWISE_CONV2D: Signature((2, 3), ("strides", "dilations", "pads", "activation")),
    # output_shape: (n, h, w, c); pads are those of the forward convolution it transposes
    Op.TRANSPOSE_CONV2D: Signature((2, 3), ("strides", "pads", "output_shape", "activation")),
    Op.DENSE: Signature((2, 3), ("activation",)),
    Op.MATMUL: Signature((2, 2), ("transpose_a", "transpose_b")),
    # padded positions do not count towards the average unless count_include_pad
    Op.AVERAGE_POOL2D: Signature((1, 1), ("kernel", "strides", "pads", "count_include_pad")),
    Op.MAX_POOL2D: Signature((1, 1), ("kernel", "strides", "pads")),
    # broadcasting is numpy's; the second operand may be a constant
    Op.ADD: Signature((2, 2), ("activation",)),
    Op.SUB: Signature((2, 2), ("activation",)),
    Op.MUL: Signature((2, 2), ("activation",)),
    Op.DIV: Signature((2, 2), ("activation",)),
    Op.MINIMUM: Signature((2, 2)),
    Op.MAXIMUM: Signature((2, 2)),
    Op.POW: Signature((2, 2)),
    Op.LEAKY_RELU: Signature((1, 1), ("alpha",)),
    # second input: slope, a constant that broadcasts against x without its batch axis
    Op.PRELU: Signature((2, 2)),
    Op.ELU: Signature((1, 1), ("alpha",)),
    Op.GELU: Signature((1, 1), ("approximate",)),  # approximate: bool, the tanh form
    Op.SOFTMAX: Signature((1, 1), ("beta",)),  # always over the last axis
    Op.LOG_SOFTMAX: Signature((1, 1)),  # always over the last axis
    Op.RESHAPE: Signature((1, 1), ("shape",)),  # no -1, no 0: resolved
    Op.TRANSPOSE: Signature((1, 1), ("perm",)),
    Op.PAD: Signature((1, 1), ("paddings", "value")),  # paddings: ((before, after), ...) per axis
    Op.MIRROR_PAD: Signature((1, 1), ("paddings", "mode")),  # mode: "reflect" | "symmetric"
    Op.CONCAT: Signature((1, None), ("axis",)),  # axis >= 0
    Op.SLICE: Signature((1, 1), ("begin", "end", "strides")),  # per axis, resolved, strides != 0
    Op.GATHER: Signature((2, 2), ("axis",)),
    Op.TILE: Signature((1, 1), ("multiples",)),
    Op.BROADCAST_TO: Signature((1, 1), ("shape",)),
    # size: (height, width)
    Op.RESIZE_BILINEAR: Signature((1, 1), ("size", "align_corners", "half_pixel_centers")),
    Op.RESIZE_NEAREST: Signature((1, 1), ("size", "align_corners", "half_pixel_centers")),
    Op.SPACE_TO_DEPTH: Signature((1, 1), ("block",)),
    Op.DEPTH_TO_SPACE: Signature((1, 1), ("block",)),  # TensorFlow's channel order (ONNX "DCR")
    Op.MEAN: Signature((1, 1), ("axes", "keepdims")),
    Op.SUM: Signature((1, 1), ("axes", "keepdims")),
    Op.REDUCE_MAX: Signature((1, 1), ("axes", "keepdims")),
    Op.REDUCE_MIN: Signature((1, 1), ("axes", "keepdims")),
    Op.REDUCE_PROD: Signature((1, 1), ("axes", "keepdims")),
    Op.ARG_MAX: Signature((1, 1), ("axis",)),  # drops the axis; int64
    Op.CAST: Signature((1, 1), ("dtype",)),
    Op.SELECT: Signature((3, 3)),
    **dict.fromkeys(
        (
            Op.EQUAL, Op.NOT_EQUAL, Op.GREATER, Op.GREATER_EQUAL, Op.LESS, Op.LESS_EQUAL,
            Op.LOGICAL_AND, Op.LOGICAL_OR,
        ),
        Signature((2, 2)),
    ),
}  # fmt: skip
for _op in Op:
    SIGNATURES.setdefault(_op, Signature((1, 1)))

ACTIVATIONS = ("none", "relu", "relu6", "relu_n1_to_1")
DTYPES = ("float32", "int32", "int64", "bool")


@dataclass(frozen=True, eq=False)
class Tensor:
    """A named value: a constant when `data` is there, else something computed or fed.

    Args:
        shape: Static, batch axis included.
        dtype: One of DTYPES; constants of the float graph are float32 or an integer type.
        data: The constant's elements, of exactly this shape and dtype, read-only.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    data: Array | None = None

    @property
    def is_constant(self) -> bool:
        """Whether the elements are known at conversion time."""
        return self.data is not None

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(np.prod(self.shape, dtype=np.int64))


@dataclass(frozen=True, eq=False)
class Node:
    """One operator of the graph.

    Args:
        name: Unique; error messages and reports name it.
        inputs: Tensor names, in the order of `Op`'s comment. An absent optional is left out.
        outputs: Tensor names; every operator of this set has exactly one.
        attrs: As `SIGNATURES` says.
        source: What the source file called it, for messages: "Conv 'layer1.0'" or "CONV_2D #3".
    """

    op: Op
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attrs: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""

    @property
    def output(self) -> str:
        """The one output."""
        return self.outputs[0]


@dataclass(frozen=True)
class Port:
    """A graph input or output as the *source* model has it.

    Args:
        name: The source's own name; the tensor contract uses it.
        tensor: Name of the graph tensor bound to it.
        shape: Shape in the source, batch 1.
        perm: The graph tensor is the source tensor transposed by this (numpy.transpose), or None
            when they are the same. For an output it maps the graph tensor to the source's.
        layout: "NHWC", "NCHW" or "" when it is not an image.
    """

    name: str
    tensor: str
    shape: tuple[int, ...]
    perm: tuple[int, ...] | None = None
    layout: str = ""


@dataclass(frozen=True, eq=False)
class Graph:
    """A float model: nodes in an order in which they can run.

    Args:
        tensors: Every tensor by name, constants included.
    """

    name: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    nodes: tuple[Node, ...]
    tensors: Mapping[str, Tensor]

    def tensor(self, name: str) -> Tensor:
        """Look a tensor up; a name that is not there is a fault of a pass."""
        return self.tensors[name]

    def constant(self, name: str) -> Array:
        """Elements of a constant; raises AssertionError if it is computed."""
        data = self.tensors[name].data
        assert data is not None, f"{name} is not a constant"
        return data

    def producers(self) -> dict[str, Node]:
        """The node that computes each tensor."""
        return {out: node for node in self.nodes for out in node.outputs}

    def consumers(self) -> dict[str, list[Node]]:
        """The nodes that read each tensor, in running order; a graph output is not a reader."""
        readers: dict[str, list[Node]] = {name: [] for name in self.tensors}
        for node in self.nodes:
            for name in dict.fromkeys(node.inputs):
                readers[name].append(node)
        return readers

    def output_tensors(self) -> tuple[str, ...]:
        """Names of the tensors that leave the graph."""
        return tuple(port.tensor for port in self.outputs)

    def parameters(self) -> int:
        """Number of float constants' elements that some node reads."""
        read = {name for node in self.nodes for name in node.inputs}
        return sum(
            t.size for n, t in self.tensors.items() if n in read and t.is_constant and t.dtype == "float32"
        )

    def rewritten(
        self,
        nodes: Iterable[Node],
        new_tensors: Iterable[Tensor] = (),
        inputs: tuple[Port, ...] | None = None,
        outputs: tuple[Port, ...] | None = None,
    ) -> Graph:
        """A graph with these nodes instead; tensors that nothing mentions any more are dropped."""
        nodes = tuple(nodes)
        tensors = dict(self.tensors) | {t.name: t for t in new_tensors}
        inputs = self.inputs if inputs is None else inputs
        outputs = self.outputs if outputs is None else outputs
        used = {n for node in nodes for n in (*node.inputs, *node.outputs)}
        used |= {p.tensor for p in (*inputs, *outputs)}
        return replace(
            self,
            nodes=nodes,
            tensors={n: t for n, t in tensors.items() if n in used},
            inputs=inputs,
            outputs=outputs,
        )


def constant(name: str, data: Array) -> Tensor:
    """A read-only constant tensor."""
    data = np.ascontiguousarray(data)
    data.setflags(write=False)
    return Tensor(name, tuple(data.shape), str(data.dtype), data)
