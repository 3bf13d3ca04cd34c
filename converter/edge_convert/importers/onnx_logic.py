"""ONNX comparisons, logic, and the choice between two values."""

from __future__ import annotations

import numpy as np

from edge_convert.graph import Array, Op, Tensor
from edge_convert.importers.onnx_builder import Builder, Call, Handler


def _binary(op: Op) -> Handler:
    def handler(b: Builder, call: Call) -> Tensor:
        return b.binary(op, b.operand(call, 0), b.operand(call, 1))

    return handler


def not_(b: Builder, call: Call) -> Tensor:
    """Not."""
    return b.add(Op.LOGICAL_NOT, b.operand(call, 0))


def _bounded(values: Array) -> Array:
    """Infinities, which a graph's constants may not be, as the largest numbers that still add up.

    NaN marks what the source does not answer (an index out of range, in JAX); it becomes 0, and evidence
    with NaN answers is refused.
    """
    values = np.nan_to_num(values, nan=0.0, posinf=np.inf, neginf=-np.inf)
    most = np.finfo(np.float32).max / 4
    return np.clip(values, -most, most)


def choose(b: Builder, condition: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """SELECT with operands of one rank."""
    if x.dtype != y.dtype or condition.dtype != "bool":
        raise b.refuse(f"a choice by {condition.dtype} between {x.dtype} and {y.dtype}")
    shape = np.broadcast_shapes(condition.shape, x.shape, y.shape)
    parts = [b.ranked(part, len(shape)) for part in (condition, x, y)]
    return b.add(Op.SELECT, *parts)


def _side(b: Builder, call: Call, index: int) -> Tensor:
    if b.is_known(call, index):
        data = b.known[call.inputs[index]]
        return b.constant(_bounded(data) if data.dtype.kind == "f" else data, call.inputs[index])
    return b.operand(call, index)


def where(b: Builder, call: Call) -> Tensor:
    """Where; a constant condition is a blend by a mask of ones and zeros, which runs in int8."""
    x, y = _side(b, call, 1), _side(b, call, 2)
    if not b.is_known(call, 0):
        return choose(b, b.operand(call, 0), x, y)
    condition = b.known[call.inputs[0]].astype(bool)
    if condition.all() or not condition.any():
        chosen = x if condition.all() else y
        shape = np.broadcast_shapes(condition.shape, x.shape, y.shape)
        return chosen if chosen.shape == shape else b.add(Op.BROADCAST_TO, chosen, shape=shape)
    if x.dtype != "float32" or y.dtype != "float32":
        return choose(b, b.constant(condition, call.inputs[0]), x, y)
    sides = []
    for side, mask in ((x, condition), (y, ~condition)):
        if side.data is not None:
            sides.append(b.constant(np.where(mask, side.data, np.float32(0)), side.name))
        else:
            sides.append(b.binary(Op.MUL, side, b.constant(mask.astype(np.float32), f"{call.name}:mask")))
    return b.binary(Op.ADD, sides[0], sides[1])


HANDLERS: dict[str, Handler] = {
    "Equal": _binary(Op.EQUAL),
    "Greater": _binary(Op.GREATER),
    "GreaterOrEqual": _binary(Op.GREATER_EQUAL),
    "Less": _binary(Op.LESS),
    "LessOrEqual": _binary(Op.LESS_EQUAL),
    "And": _binary(Op.LOGICAL_AND),
    "Or": _binary(Op.LOGICAL_OR),
    "Xor": _binary(Op.NOT_EQUAL),
    "Not": not_,
    "Where": where,
}
