"""What the Intel NPU's compiler takes, operator by operator; it refuses a whole model or none of it.

Measured, for there is no published list: every operator of the float graph, in every use that the tests
write (tests/support/tflite_cases.py), was put through the compiler of openvino 2026.4.1 for the
platforms 3720 and 4000 in float16; examples/npu-compiler/operators.py does it again. That sizes of
another model are taken too is likely and not certain: only `npu.py` with a compiler can tell. Static
shapes and explicit padding, which it needs besides, hold for every float graph (`graph.py`).
"""

from __future__ import annotations

from edge_convert.device.fit import Place
from edge_convert.graph import Graph, Node, Op

MEASURED = "compiled for NPU 3720 and 4000 by openvino 2026.4.1 (examples/npu-compiler/operators.py)"
# The NPU plug-in has no heterogeneous execution: one operator that it refuses keeps the model off it
WHOLE = "docs.openvino.ai/2025/documentation/compatibility-and-support/supported-devices.html"

TAKEN: frozenset[Op] = frozenset(
    {
        Op.ABS,
        Op.ADD,
        Op.ARG_MAX,
        Op.AVERAGE_POOL2D,
        Op.BROADCAST_TO,
        Op.CAST,
        Op.CEIL,
        Op.CONCAT,
        Op.CONV2D,
        Op.COS,
        Op.DENSE,
        Op.DEPTH_TO_SPACE,
        Op.DEPTHWISE_CONV2D,
        Op.DIV,
        Op.ELU,
        Op.EQUAL,
        Op.EXP,
        Op.FLOOR,
        Op.GATHER,
        Op.GELU,
        Op.GREATER,
        Op.GREATER_EQUAL,
        Op.HARD_SWISH,
        Op.L2_NORMALIZE,
        Op.LEAKY_RELU,
        Op.LESS,
        Op.LESS_EQUAL,
        Op.LOG,
        Op.LOG_SOFTMAX,
        Op.LOGICAL_AND,
        Op.LOGICAL_NOT,
        Op.LOGICAL_OR,
        Op.MATMUL,
        Op.MAX_POOL2D,
        Op.MAXIMUM,
        Op.MEAN,
        Op.MINIMUM,
        Op.MIRROR_PAD,
        Op.MUL,
        Op.NEG,
        Op.NOT_EQUAL,
        Op.PAD,
        Op.POW,
        Op.PRELU,
        Op.REDUCE_MAX,
        Op.REDUCE_MIN,
        Op.REDUCE_PROD,
        Op.RELU,
        Op.RELU6,
        Op.RELU_N1_TO_1,
        Op.RESHAPE,
        Op.RESIZE_BILINEAR,
        Op.ROUND,
        Op.RSQRT,
        Op.SELECT,
        Op.SIGMOID,
        Op.SIN,
        Op.SLICE,
        Op.SOFTMAX,
        Op.SPACE_TO_DEPTH,
        Op.SQRT,
        Op.SUB,
        Op.SUM,
        Op.TANH,
        Op.TILE,
        Op.TRANSPOSE,
        Op.TRANSPOSE_CONV2D,
    }
)
# Taken in some sizes and refused in others.
UNCERTAIN: dict[Op, str] = {
    Op.RESIZE_NEAREST: "taken in two of three sizes that were tried; 7x6 to 13x11 fails inside the compiler",
}


def verdict(graph: Graph, node: Node) -> tuple[Place, str, str]:
    """Where a node runs, the rule and the rule's source."""
    if any(d < 1 for name in (*node.inputs, node.output) for d in graph.tensor(name).shape):
        return Place.CPU, "it has an open dimension; the NPU takes static shapes only", WHOLE
    if node.op in UNCERTAIN:
        return Place.ACCELERATOR, UNCERTAIN[node.op], MEASURED
    if node.op in TAKEN:
        return Place.ACCELERATOR, "taken by the compiler, with static shapes and explicit padding", MEASURED
    return (
        Place.CPU,
        f"{node.op} was refused or not tried; one such operator keeps the model on the CPU",
        MEASURED,
    )
