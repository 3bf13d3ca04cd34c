"""Comparisons, logic and choices of TensorFlow Lite files."""

from __future__ import annotations

from typing import Any

import numpy as np

from edge_convert.graph import Op, Tensor
from edge_convert.importers.tflite_builder import Builder, Handler


def _binary(op: Op) -> Handler:
    def handler(b: Builder, options: Any) -> Tensor:
        x, y = b.operand(0), b.operand(1)
        if x.dtype != y.dtype:
            raise b.refuse(f"operands have element types {x.dtype} and {y.dtype}")
        return b.add(op, x, y)

    return handler


def _not(b: Builder, options: Any) -> Tensor:
    return b.add(Op.LOGICAL_NOT, b.operand(0))


def _select(b: Builder, options: Any) -> Tensor:
    """SELECT_V2 broadcasts as numpy does; SELECT takes a vector of one choice for each row besides."""
    condition, x, y = b.operand(0), b.operand(1), b.operand(2)
    if condition.dtype != "bool" or x.dtype != y.dtype:
        raise b.refuse(f"a choice by {condition.dtype} between {x.dtype} and {y.dtype}")
    is_of_rows = len(condition.shape) == 1 and len(x.shape) > 1 and x.shape == y.shape
    if b.code == "SELECT" and is_of_rows and condition.shape[0] == x.shape[0]:
        condition = b.reshape(condition, (condition.shape[0], *[1] * (len(x.shape) - 1)))
    try:
        np.broadcast_shapes(condition.shape, x.shape, y.shape)
    except ValueError as error:
        raise b.refuse(f"shapes {condition.shape}, {x.shape} and {y.shape} do not go together") from error
    return b.add(Op.SELECT, condition, x, y)


HANDLERS: dict[str, Handler] = {
    "EQUAL": _binary(Op.EQUAL),
    "NOT_EQUAL": _binary(Op.NOT_EQUAL),
    "GREATER": _binary(Op.GREATER),
    "GREATER_EQUAL": _binary(Op.GREATER_EQUAL),
    "LESS": _binary(Op.LESS),
    "LESS_EQUAL": _binary(Op.LESS_EQUAL),
    "LOGICAL_AND": _binary(Op.LOGICAL_AND),
    "LOGICAL_OR": _binary(Op.LOGICAL_OR),
    "LOGICAL_NOT": _not,
    "SELECT": _select,
    "SELECT_V2": _select,
}
