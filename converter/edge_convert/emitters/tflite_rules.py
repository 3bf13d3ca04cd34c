"""What LiteRT's int8 kernels demand of quantization parameters: data for whoever chooses them.

`quantize.py` reads these tables so that its choices can be written; `broken_rules` finds a choice
that cannot. Each entry was checked by running the kernel (tests/converter/test_emitters_tflite.py);
the published form is ai.google.dev/edge/litert/models/quantization_spec.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from edge_convert.graph import Graph, Node, Op
from edge_convert.quantizing.quantization import Quantization, QuantParams

# Operators that can run on int8 activations. Every other one stays in float, with conversions around.
INT8_KERNELS: frozenset[Op] = frozenset(
    {
        Op.CONV2D,
        Op.DEPTHWISE_CONV2D,
        Op.TRANSPOSE_CONV2D,
        Op.DENSE,
        Op.MATMUL,
        Op.AVERAGE_POOL2D,
        Op.MAX_POOL2D,
        Op.ADD,
        Op.SUB,
        Op.MUL,
        Op.MINIMUM,
        Op.MAXIMUM,
        Op.RELU,
        Op.RELU6,
        Op.RELU_N1_TO_1,
        Op.LEAKY_RELU,
        Op.PRELU,
        Op.ELU,
        Op.SIGMOID,
        Op.TANH,
        Op.HARD_SWISH,
        Op.GELU,
        Op.SOFTMAX,
        Op.LOG_SOFTMAX,
        Op.EXP,
        Op.RSQRT,
        Op.ABS,
        Op.RESHAPE,
        Op.TRANSPOSE,
        Op.PAD,
        Op.MIRROR_PAD,
        Op.CONCAT,
        Op.SLICE,
        Op.GATHER,
        Op.TILE,
        Op.BROADCAST_TO,
        Op.RESIZE_BILINEAR,
        Op.RESIZE_NEAREST,
        Op.SPACE_TO_DEPTH,
        Op.DEPTH_TO_SPACE,
        Op.MEAN,
        Op.SUM,
        Op.REDUCE_MAX,
        Op.REDUCE_MIN,
        Op.ARG_MAX,
        Op.L2_NORMALIZE,
    }
)

# tflite-runtime 2.14 aborts the process when these broadcast beyond four dimensions in int8.
_FOUR_DIMENSIONS = frozenset({Op.MUL, Op.PRELU})

# int8 forms in a version that the Edge TPU's compiler cannot read; one of them makes it refuse the whole
# file, in float they only stay on the CPU.
BEYOND_EDGE_TPU: frozenset[Op] = frozenset({Op.EXP, Op.TILE})

# The Edge TPU runs it as one operator; a CPU is faster with several (tflite_split.py).
WHOLE_ON_EDGE_TPU: frozenset[Op] = frozenset({Op.PRELU})

# The output's (scale, zero point) is fixed by the kernel.
FIXED_OUTPUT: dict[Op, tuple[float, int]] = {
    Op.SIGMOID: (1 / 256, -128),
    Op.SOFTMAX: (1 / 256, -128),
    Op.TANH: (1 / 128, 0),
    Op.LOG_SOFTMAX: (16 / 256, 127),
    Op.L2_NORMALIZE: (1 / 128, 0),
}

# Codes are moved or compared, never rescaled: every float operand and the output share one scale
# and zero point.
SAME_PARAMS: frozenset[Op] = frozenset(
    {
        Op.AVERAGE_POOL2D,
        Op.MAX_POOL2D,
        Op.MINIMUM,
        Op.MAXIMUM,
        Op.RESHAPE,
        Op.TRANSPOSE,
        Op.PAD,
        Op.MIRROR_PAD,
        Op.CONCAT,
        Op.SLICE,
        Op.GATHER,
        Op.TILE,
        Op.BROADCAST_TO,
        Op.RESIZE_BILINEAR,
        Op.RESIZE_NEAREST,
        Op.SPACE_TO_DEPTH,
        Op.DEPTH_TO_SPACE,
        Op.REDUCE_MAX,
        Op.REDUCE_MIN,
    }
)

# Operators with int8 weights as their second input, and the axis of one scale per channel. The Edge
# TPU takes DENSE per tensor only; `QuantParams.axis` None says that.
WEIGHT_AXIS: dict[Op, int] = {
    Op.CONV2D: 0,
    Op.DEPTHWISE_CONV2D: 3,
    Op.TRANSPOSE_CONV2D: 0,
    Op.DENSE: 0,
}


def float_operands(graph: Graph, node: Node) -> tuple[str, ...]:
    """The float tensors that the node reads as activations: all but indices, weights and bias."""
    names = node.inputs[:1] if node.op in WEIGHT_AXIS else node.inputs
    return tuple(name for name in names if graph.tensor(name).dtype == "float32")


def has_int8_form(graph: Graph, node: Node) -> bool:
    """Whether this very node, with its attributes, can be written with int8 activations."""
    if node.op not in INT8_KERNELS or not float_operands(graph, node):
        return False
    if node.op in WEIGHT_AXIS:
        return all(graph.tensor(name).is_constant for name in node.inputs[1:])
    if node.op in _FOUR_DIMENSIONS and len(graph.tensor(node.output).shape) > 4:
        return len({graph.tensor(name).shape for name in node.inputs}) == 1
    return node.op is not Op.ELU or node.attrs["alpha"] == 1.0  # other slopes are written as five operators


def runs_in_int8(graph: Graph, node: Node, quantization: Quantization | None) -> bool:
    """Whether the node will be written with int8 activations under this quantization."""
    if quantization is None or node.name in quantization.float_nodes or not has_int8_form(graph, node):
        return False
    names = [*float_operands(graph, node)]
    if node.op in WEIGHT_AXIS:
        names.append(node.inputs[1])
    if graph.tensor(node.output).dtype == "float32":
        names.append(node.output)
    return all(name in quantization.params for name in names)


def broken_rules(graph: Graph, quantization: Quantization) -> tuple[str, ...]:
    """One sentence for each node whose parameters its kernel would refuse or, worse, ignore."""
    return tuple(_broken(graph, quantization))


def _broken(graph: Graph, quantization: Quantization) -> Iterable[str]:
    for node in graph.nodes:
        if not runs_in_int8(graph, node, quantization):
            continue
        params = quantization.params
        fixed = FIXED_OUTPUT.get(node.op)
        if fixed is not None and not _are(params[node.output], *fixed):
            yield f"{node.name}: {node.op} must give scale {fixed[0]} and zero point {fixed[1]}"
        if node.op in SAME_PARAMS:
            out = params[node.output]
            for name in float_operands(graph, node):
                if not _are(params[name], float(out.scale), int(out.zero_point)):
                    yield f"{node.name}: {node.op} must have the same parameters for {name} and its output"
        if node.op in WEIGHT_AXIS and params[node.inputs[1]].axis not in (None, WEIGHT_AXIS[node.op]):
            yield f"{node.name}: {node.op} must have the scales of its weights on axis {WEIGHT_AXIS[node.op]}"


def _are(params: QuantParams, scale: float, zero_point: int) -> bool:
    return bool(np.isclose(float(params.scale), scale, rtol=1e-6)) and int(params.zero_point) == zero_point
