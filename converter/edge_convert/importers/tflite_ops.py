"""Element-wise operators, matrices and reductions of TensorFlow Lite files.

A handler reads the current operator through the `Builder` and gives the tensors it computes; activations
that a node cannot carry become nodes. Images are `tflite_windows.py`'s matter, and moves `tflite_moves.py`'s.
"""

from __future__ import annotations

from typing import Any

from ai_edge_litert import schema_py_generated as schema

from edge_convert.graph import DTYPES, Op, Tensor
from edge_convert.importers.tflite_builder import Builder, Handler
from edge_convert.importers.tflite_operands import activation, bias, broadcasts


def _fully_connected(b: Builder, options: Any) -> Tensor:
    if options.weightsFormat != schema.FullyConnectedOptionsWeightsFormat.DEFAULT:
        raise b.refuse("weights in the shuffled format; expected the default one")
    x, weights = b.operand(0), b.operand(1)
    if len(weights.shape) != 2:
        raise b.refuse(f"weights have shape {list(weights.shape)}; expected [out, in]")
    width = weights.shape[1]
    if not options.keepNumDims:
        if x.size % width:
            raise b.refuse(f"input of shape {list(x.shape)} cannot be cut into rows of {width}")
        x = b.reshape(x, (x.size // width, width))
    elif not x.shape or x.shape[-1] != width:
        raise b.refuse(f"input of shape {list(x.shape)} for weights of shape {list(weights.shape)}")
    return b.activated(Op.DENSE, activation(b, options), x, weights, *bias(b, 2, weights.shape[0]))


def _batch_matmul(b: Builder, options: Any) -> Tensor:
    x, y = b.operand(0), b.operand(1)
    turned_x, turned_y = bool(options.adjX), bool(options.adjY)
    is_matrix = min(len(x.shape), len(y.shape)) >= 2
    if not is_matrix or x.shape[-2 if turned_x else -1] != y.shape[-1 if turned_y else -2]:
        raise b.refuse(f"inputs of shapes {list(x.shape)} and {list(y.shape)} cannot be multiplied")
    return b.add(Op.MATMUL, x, y, transpose_a=turned_x, transpose_b=turned_y)


def _pair(b: Builder) -> tuple[Tensor, Tensor]:
    x, y = b.operand(0), b.operand(1)
    if x.dtype != y.dtype:
        raise b.refuse(f"operands have element types {x.dtype} and {y.dtype}")
    return x, y


def _arithmetic(op: Op) -> Handler:
    """An element-wise operator whose node carries an activation."""
    return lambda b, options: b.activated(op, activation(b, options), *_pair(b))


def _binary(op: Op) -> Handler:
    return lambda b, options: b.add(op, *_pair(b))


def _unary(op: Op) -> Handler:
    return lambda b, options: b.add(op, b.operand(0))


def _add_n(b: Builder, options: Any) -> Tensor:
    total, *rest = b.operands()
    for term in rest:
        total = b.add(Op.ADD, total, term, activation="none")
    return total


def _square(b: Builder, options: Any) -> Tensor:
    return b.add(Op.MUL, b.operand(0), b.operand(0), activation="none")


def _squared_difference(b: Builder, options: Any) -> Tensor:
    difference = b.add(Op.SUB, *_pair(b), activation="none")
    return b.add(Op.MUL, difference, difference, activation="none")


def _relu_0_to_1(b: Builder, options: Any) -> Tensor:
    return b.add(Op.RELU_N1_TO_1, b.add(Op.RELU, b.operand(0)))


def _leaky_relu(b: Builder, options: Any) -> Tensor:
    return b.add(Op.LEAKY_RELU, b.operand(0), alpha=float(options.alpha))


def _elu(b: Builder, options: Any) -> Tensor:
    return b.add(Op.ELU, b.operand(0), alpha=1.0)


def _prelu(b: Builder, options: Any) -> Tensor:
    x, slope = b.operand(0), b.operand(1)
    if not broadcasts(slope.shape, x.shape[1:]):
        raise b.refuse(f"slopes of shape {list(slope.shape)} for an input of shape {list(x.shape)}")
    return b.add(Op.PRELU, x, slope)


def _gelu(b: Builder, options: Any) -> Tensor:
    return b.add(Op.GELU, b.operand(0), approximate=options is not None and bool(options.approximate))


def _softmax(b: Builder, options: Any) -> Tensor:
    return b.add(Op.SOFTMAX, b.operand(0), beta=float(options.beta))


def _l2_normalization(b: Builder, options: Any) -> Tensor:
    return b.then(b.add(Op.L2_NORMALIZE, b.operand(0)), activation(b, options))


def _reduction(op: Op) -> Handler:
    def handle(b: Builder, options: Any) -> Tensor:
        x = b.operand(0)
        axes = tuple(sorted({b.axis(a, len(x.shape)) for a in b.integers(1, "the axes")}))
        if not axes:
            return x
        return b.add(op, x, axes=axes, keepdims=bool(options.keepDims))

    return handle


def _arg(negated: bool) -> Handler:
    def handle(b: Builder, options: Any) -> Tensor:
        x = b.operand(0)
        axis = b.axis(b.integer(1, "the axis"), len(x.shape))
        best = b.add(Op.ARG_MAX, b.add(Op.NEG, x) if negated else x, axis=axis)
        wants_int32 = options is not None and options.outputType == schema.TensorType.INT32
        return b.add(Op.CAST, best, dtype="int32") if wants_int32 else best

    return handle


def _cast(b: Builder, options: Any) -> Tensor:
    assert b.call is not None
    x, wanted = b.operand(0), b.file.tensors[b.call.outputs[0]].type.lower()
    if wanted not in DTYPES:
        raise b.refuse(f"to element type {wanted.upper()}; expected one of {', '.join(DTYPES)}")
    return x if wanted == x.dtype else b.add(Op.CAST, x, dtype=wanted)


HANDLERS: dict[str, Handler] = {
    "ABS": _unary(Op.ABS),
    "ADD": _arithmetic(Op.ADD),
    "ADD_N": _add_n,
    "ARG_MAX": _arg(negated=False),
    "ARG_MIN": _arg(negated=True),
    "BATCH_MATMUL": _batch_matmul,
    "CAST": _cast,
    "CEIL": _unary(Op.CEIL),
    "COS": _unary(Op.COS),
    "DIV": _arithmetic(Op.DIV),
    "ELU": _elu,
    "EXP": _unary(Op.EXP),
    "FLOOR": _unary(Op.FLOOR),
    "FULLY_CONNECTED": _fully_connected,
    "GELU": _gelu,
    "HARD_SWISH": _unary(Op.HARD_SWISH),
    "L2_NORMALIZATION": _l2_normalization,
    "LEAKY_RELU": _leaky_relu,
    "LOG": _unary(Op.LOG),
    "LOGISTIC": _unary(Op.SIGMOID),
    "LOG_SOFTMAX": _unary(Op.LOG_SOFTMAX),
    "MAXIMUM": _binary(Op.MAXIMUM),
    "MEAN": _reduction(Op.MEAN),
    "MINIMUM": _binary(Op.MINIMUM),
    "MUL": _arithmetic(Op.MUL),
    "NEG": _unary(Op.NEG),
    "POW": _binary(Op.POW),
    "PRELU": _prelu,
    "REDUCE_MAX": _reduction(Op.REDUCE_MAX),
    "REDUCE_MIN": _reduction(Op.REDUCE_MIN),
    "REDUCE_PROD": _reduction(Op.REDUCE_PROD),
    "RELU": _unary(Op.RELU),
    "RELU6": _unary(Op.RELU6),
    "RELU_0_TO_1": _relu_0_to_1,
    "RELU_N1_TO_1": _unary(Op.RELU_N1_TO_1),
    "ROUND": _unary(Op.ROUND),
    "RSQRT": _unary(Op.RSQRT),
    "SIN": _unary(Op.SIN),
    "SOFTMAX": _softmax,
    "SQRT": _unary(Op.SQRT),
    "SQUARE": _square,
    "SQUARED_DIFFERENCE": _squared_difference,
    "SUB": _arithmetic(Op.SUB),
    "SUM": _reduction(Op.SUM),
    "TANH": _unary(Op.TANH),
}
