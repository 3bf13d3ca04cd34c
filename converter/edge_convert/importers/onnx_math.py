"""Element-wise ONNX operators and activations, those that the graph has no word for taken apart.

The decompositions are exact in real arithmetic; where float32 could overflow the stable form
stands here (Softplus, LogSumExp).
"""

from __future__ import annotations

import math

import numpy as np

from edge_convert.graph import Op, Tensor
from edge_convert.importers.onnx_builder import Builder, Call, Handler


def _unary(op: Op) -> Handler:
    def handler(b: Builder, call: Call) -> Tensor:
        return b.add(op, b.operand(call, 0))

    return handler


def _binary(op: Op) -> Handler:
    def handler(b: Builder, call: Call) -> Tensor:
        return b.binary(op, b.operand(call, 0), b.operand(call, 1))

    return handler


def _chain(op: Op, mean: bool = False) -> Handler:
    """Operators of any number of operands (Sum, Max, Min, Mean), from left to right."""

    def handler(b: Builder, call: Call) -> Tensor:
        first, *rest = [i for i in range(len(call.inputs)) if not _is_neutral(b, call, i, op)] or [0]
        total = b.operand(call, first)
        for index in rest:
            total = b.binary(op, total, b.operand(call, index))
        if mean and len(call.inputs) > 1:
            total = b.binary(Op.MUL, total, b.scalar(1.0 / len(call.inputs), total))
        return total

    return handler


def _is_neutral(b: Builder, call: Call, index: int, op: Op) -> bool:
    """Whether an operand is the infinity that never wins a maximum or a minimum."""
    infinity = {Op.MAXIMUM: -math.inf, Op.MINIMUM: math.inf}.get(op)
    return (
        infinity is not None
        and b.is_known(call, index)
        and bool((b.known[call.inputs[index]] == infinity).all())
    )


def _times(b: Builder, x: Tensor, factor: float) -> Tensor:
    return x if factor == 1.0 else b.binary(Op.MUL, x, b.scalar(factor, x))


def _plus(b: Builder, x: Tensor, term: float) -> Tensor:
    return x if term == 0.0 else b.binary(Op.ADD, x, b.scalar(term, x))


def _attr(call: Call, key: str, default: float) -> float:
    return float(call.attrs.get(key, default))


def clip_between(b: Builder, x: Tensor, low: float, high: float) -> Tensor:
    """Saturation at any bounds, by the operator made for them where there is one."""
    named = {(0.0, 6.0): Op.RELU6, (-1.0, 1.0): Op.RELU_N1_TO_1, (0.0, math.inf): Op.RELU}
    if x.dtype == "float32":
        if abs(low) > 3e38:
            low = -math.inf  # the lowest float is how exporters write "no bound"
        if abs(high) > 3e38:
            high = math.inf
        if (low, high) in named:
            return b.add(named[low, high], x)
    if low > -math.inf:
        x = b.binary(Op.MAXIMUM, x, b.scalar(low, x))
    if high < math.inf:
        x = b.binary(Op.MINIMUM, x, b.scalar(high, x))
    return x


def clip(b: Builder, call: Call) -> Tensor:
    """Clip between bounds, absent ones included; computed ones are a MAXIMUM and a MINIMUM."""
    computed = [i for i in (1, 2) if call.has(i) and not b.is_known(call, i)]
    if computed:
        x = b.operand(call, 0)
        for index, op in ((1, Op.MAXIMUM), (2, Op.MINIMUM)):
            if call.has(index) and not _is_neutral(b, call, index, op):
                x = b.binary(op, x, b.operand(call, index))
        return x
    low = float(b.elements(call, 1, "the lower bound").item()) if call.has(1) else -math.inf
    high = float(b.elements(call, 2, "the upper bound").item()) if call.has(2) else math.inf
    return clip_between(b, b.operand(call, 0), low, high)


def power(b: Builder, call: Call) -> Tensor:
    """Pow; the common constant exponents have cheaper words."""
    x = b.operand(call, 0)
    if b.is_known(call, 1) and b.known[call.inputs[1]].size == 1 and x.dtype == "float32":
        exponent = float(b.known[call.inputs[1]].item())
        if exponent == 1.0:
            return x
        if exponent == 2.0:
            return b.binary(Op.MUL, x, x)
        if exponent == 0.5:
            return b.add(Op.SQRT, x)
        if exponent == -0.5:
            return b.add(Op.RSQRT, x)
        return b.binary(Op.POW, x, b.scalar(exponent, x))
    exponents = b.operand(call, 1)
    if exponents.data is not None and exponents.dtype != x.dtype:
        exponents = b.constant(exponents.data.astype(x.dtype), exponents.name)
    return b.binary(Op.POW, x, exponents)


def reciprocal(b: Builder, call: Call) -> Tensor:
    """1 / x."""
    x = b.operand(call, 0)
    return b.binary(Op.DIV, b.scalar(1.0, x), x)


def leaky_relu(b: Builder, call: Call) -> Tensor:
    """LeakyRelu."""
    return b.add(Op.LEAKY_RELU, b.operand(call, 0), alpha=_attr(call, "alpha", 0.01))


def prelu(b: Builder, call: Call) -> Tensor:
    """PRelu; the slope is stored without the batch axis."""
    x = b.operand(call, 0)
    slope = b.elements(call, 1, "the slope").astype(np.float32)
    rank = len(x.shape)
    slope = slope.reshape((1,) * (rank - slope.ndim) + slope.shape)
    if slope.shape[0] != 1:
        raise call.refuse(f"slope of shape {slope.shape}; it may not vary along the batch axis")
    return b.add(Op.PRELU, x, b.constant(slope[0], call.inputs[1]))


def elu_of(b: Builder, x: Tensor, alpha: float) -> Tensor:
    """Elu of any alpha from the one with alpha 1, which is all that targets have."""
    unit = b.add(Op.ELU, x, alpha=1.0)
    if alpha == 1.0:
        return unit
    negative = _times(b, b.binary(Op.MINIMUM, unit, b.scalar(0.0, unit)), alpha)
    return b.binary(Op.ADD, b.add(Op.RELU, x), negative)


def elu(b: Builder, call: Call) -> Tensor:
    """Elu."""
    return elu_of(b, b.operand(call, 0), _attr(call, "alpha", 1.0))


def selu(b: Builder, call: Call) -> Tensor:
    """Selu is gamma * elu(x, alpha)."""
    alpha = _attr(call, "alpha", 1.6732632423543772)
    return _times(b, elu_of(b, b.operand(call, 0), alpha), _attr(call, "gamma", 1.0507009873554805))


def celu(b: Builder, call: Call) -> Tensor:
    """Celu is alpha * elu(x / alpha, 1)."""
    alpha = _attr(call, "alpha", 1.0)
    return _times(b, b.add(Op.ELU, _times(b, b.operand(call, 0), 1.0 / alpha), alpha=1.0), alpha)


def step(b: Builder, x: Tensor) -> Tensor:
    """1 where x > 0, else 0: the ceiling of anything positive is at least 1."""
    return b.binary(Op.MINIMUM, b.add(Op.CEIL, b.add(Op.RELU, x)), b.scalar(1.0, x))


def thresholded_relu(b: Builder, call: Call) -> Tensor:
    """x where x > alpha, else 0."""
    x, alpha = b.operand(call, 0), _attr(call, "alpha", 1.0)
    if alpha == 0.0:
        return b.add(Op.RELU, x)
    return b.binary(Op.MUL, x, step(b, _plus(b, x, -alpha)))


def sign(b: Builder, call: Call) -> Tensor:
    """-1, 0 or 1."""
    x = b.operand(call, 0)
    return b.binary(Op.SUB, step(b, x), step(b, b.add(Op.NEG, x)))


def hard_sigmoid_of(b: Builder, x: Tensor, alpha: float, beta: float) -> Tensor:
    """clip(alpha * x + beta, 0, 1), as a sixth of relu6 so that hard-swish can be recognised."""
    scaled = _plus(b, _times(b, x, round(6.0 * alpha, 7)), 6.0 * beta)
    return _times(b, b.add(Op.RELU6, scaled), 1.0 / 6.0)


def hard_sigmoid(b: Builder, call: Call) -> Tensor:
    """HardSigmoid."""
    return hard_sigmoid_of(b, b.operand(call, 0), _attr(call, "alpha", 0.2), _attr(call, "beta", 0.5))


def softplus_of(b: Builder, x: Tensor) -> Tensor:
    """log(1 + exp(x)) as relu(x) + log(1 + exp(-|x|)), which cannot overflow."""
    tail = b.add(Op.LOG, _plus(b, b.add(Op.EXP, b.add(Op.NEG, b.add(Op.ABS, x))), 1.0))
    return b.binary(Op.ADD, b.add(Op.RELU, x), tail)


def softplus(b: Builder, call: Call) -> Tensor:
    """Softplus."""
    return softplus_of(b, b.operand(call, 0))


def mish(b: Builder, call: Call) -> Tensor:
    """x * tanh(softplus(x))."""
    x = b.operand(call, 0)
    return b.binary(Op.MUL, x, b.add(Op.TANH, softplus_of(b, x)))


def softsign(b: Builder, call: Call) -> Tensor:
    """x / (1 + |x|)."""
    x = b.operand(call, 0)
    return b.binary(Op.DIV, x, _plus(b, b.add(Op.ABS, x), 1.0))


def swish(b: Builder, call: Call) -> Tensor:
    """x * sigmoid(alpha * x)."""
    x = b.operand(call, 0)
    return b.binary(Op.MUL, x, b.add(Op.SIGMOID, _times(b, x, _attr(call, "alpha", 1.0))))


def shrink(b: Builder, call: Call) -> Tensor:
    """x - bias above lambd, x + bias below -lambd, else 0."""
    x, threshold, bias = b.operand(call, 0), _attr(call, "lambd", 0.5), _attr(call, "bias", 0.0)
    above = b.binary(Op.MUL, _plus(b, x, -bias), step(b, _plus(b, x, -threshold)))
    below = b.binary(Op.MUL, _plus(b, x, bias), step(b, _plus(b, b.add(Op.NEG, x), -threshold)))
    return b.binary(Op.ADD, above, below)


def gelu(b: Builder, call: Call) -> Tensor:
    """Gelu, exact or by tanh."""
    return b.add(Op.GELU, b.operand(call, 0), approximate=call.attrs.get("approximate", "none") == "tanh")


def tangent(b: Builder, call: Call) -> Tensor:
    """tan = sin / cos."""
    x = b.operand(call, 0)
    return b.binary(Op.DIV, b.add(Op.SIN, x), b.add(Op.COS, x))


_CAST_TO = {1: "float32", 10: "float32", 11: "float32", 16: "float32", 6: "int32", 7: "int64", 9: "bool"}


def cast(b: Builder, call: Call) -> Tensor:
    """Cast among float32, int32, int64 and bool; half and double count as float32."""
    x, to = b.operand(call, 0), int(call.attrs["to"])
    if to not in _CAST_TO:
        raise call.refuse(f"cast to ONNX element type {to}; expected float, int32, int64 or bool")
    return x if x.dtype == _CAST_TO[to] else b.add(Op.CAST, x, dtype=_CAST_TO[to])


def identity(b: Builder, call: Call) -> Tensor:
    """Identity."""
    return b.operand(call, 0)


def dropout(b: Builder, call: Call) -> Tensor:
    """Dropout as it is when it does not train: nothing."""
    if call.has(2) and bool(b.elements(call, 2, "training_mode").item()):
        raise call.refuse("training mode; export the model for inference")
    if len([o for o in call.outputs if o]) > 1:
        raise call.refuse("the second output (the mask) is not supported")
    return b.operand(call, 0)


HANDLERS: dict[str, Handler] = {
    "Relu": _unary(Op.RELU),
    "Sigmoid": _unary(Op.SIGMOID),
    "Tanh": _unary(Op.TANH),
    "HardSwish": _unary(Op.HARD_SWISH),
    "Exp": _unary(Op.EXP),
    "Log": _unary(Op.LOG),
    "Sqrt": _unary(Op.SQRT),
    "Abs": _unary(Op.ABS),
    "Neg": _unary(Op.NEG),
    "Floor": _unary(Op.FLOOR),
    "Ceil": _unary(Op.CEIL),
    "Round": _unary(Op.ROUND),
    "Sin": _unary(Op.SIN),
    "Cos": _unary(Op.COS),
    "Add": _binary(Op.ADD),
    "Sub": _binary(Op.SUB),
    "Mul": _binary(Op.MUL),
    "Div": _binary(Op.DIV),
    "Sum": _chain(Op.ADD),
    "Mean": _chain(Op.ADD, mean=True),
    "Max": _chain(Op.MAXIMUM),
    "Min": _chain(Op.MINIMUM),
    "Pow": power,
    "Reciprocal": reciprocal,
    "LeakyRelu": leaky_relu,
    "PRelu": prelu,
    "Elu": elu,
    "Selu": selu,
    "Celu": celu,
    "ThresholdedRelu": thresholded_relu,
    "Shrink": shrink,
    "Sign": sign,
    "HardSigmoid": hard_sigmoid,
    "Softplus": softplus,
    "Mish": mish,
    "Softsign": softsign,
    "Swish": swish,
    "Gelu": gelu,
    "Tan": tangent,
    "Clip": clip,
    "Cast": cast,
    "Identity": identity,
    "Dropout": dropout,
}
