"""Reductions and what runs along one axis: Reduce*, ArgMax, Softmax."""

from __future__ import annotations

import math

import numpy as np

from edge_convert.graph import Op, Tensor
from edge_convert.importers.onnx_builder import Builder, Call, Handler, axis_of


def _axes(b: Builder, call: Call, rank: int) -> tuple[int, ...]:
    """Axes as an attribute (older opsets) or an input; none means all, or nothing at all."""
    if "axes" in call.attrs:
        axes = [int(a) for a in call.attrs["axes"]]
    elif call.has(1):
        axes = list(b.integers(call, 1, "the axes"))
    else:
        axes = []
    if not axes and not call.attrs.get("noop_with_empty_axes", 0):
        axes = list(range(rank))
    return tuple(sorted(axis_of(call, a, rank) for a in axes))


def _reduce(op: Op, before: Op | None = None, after: Op | None = None) -> Handler:
    """A reduction with a function of each element before it and one of the result after it."""

    def handler(b: Builder, call: Call) -> Tensor:
        x = b.operand(call, 0)
        axes = _axes(b, call, len(x.shape))
        if before is Op.MUL:
            x = b.binary(Op.MUL, x, x)
        elif before is not None:
            x = b.add(before, x)
        if axes:
            x = b.add(op, x, axes=axes, keepdims=bool(call.attrs.get("keepdims", 1)))
        return x if after is None else b.add(after, x)

    return handler


def log_sum_exp(b: Builder, call: Call) -> Tensor:
    """ReduceLogSumExp, with the largest element taken out first so that it cannot overflow."""
    x = b.operand(call, 0)
    axes = _axes(b, call, len(x.shape))
    if not axes:
        return x
    top = b.add(Op.REDUCE_MAX, x, axes=axes, keepdims=True)
    y = b.add(Op.SUM, b.add(Op.EXP, b.binary(Op.SUB, x, top)), axes=axes, keepdims=True)
    y = b.binary(Op.ADD, b.add(Op.LOG, y), top)
    if call.attrs.get("keepdims", 1):
        return y
    return b.reshape(y, tuple(d for i, d in enumerate(y.shape) if i not in axes))


def _arg(negate: bool) -> Handler:
    def handler(b: Builder, call: Call) -> Tensor:
        if call.attrs.get("select_last_index", 0):
            raise call.refuse("select_last_index=1; only the first of equal elements can be given")
        x = b.operand(call, 0)
        axis = axis_of(call, int(call.attrs.get("axis", 0)), len(x.shape))
        y = b.add(Op.ARG_MAX, b.add(Op.NEG, x) if negate else x, axis=axis)
        if call.attrs.get("keepdims", 1):
            y = b.reshape(y, (*x.shape[:axis], 1, *x.shape[axis + 1 :]))
        return y

    return handler


def _softmax(op: Op) -> Handler:
    def handler(b: Builder, call: Call) -> Tensor:
        x = b.operand(call, 0)
        rank = len(x.shape)
        attrs = {"beta": 1.0} if op is Op.SOFTMAX else {}
        axis = axis_of(call, int(call.attrs.get("axis", -1 if call.opset >= 13 else 1)), rank)
        if call.opset < 13 and math.prod(x.shape[axis:]) != x.shape[axis]:
            # before opset 13 everything from the axis on was one row
            flat = b.reshape(x, (math.prod(x.shape[:axis]), math.prod(x.shape[axis:])))
            return b.reshape(b.add(op, flat, **attrs), x.shape)
        perm = [i for i in range(rank) if i != axis] + [axis]
        y = b.add(op, b.transpose(x, perm), **attrs)
        return b.transpose(y, [int(i) for i in np.argsort(perm)])

    return handler


HANDLERS: dict[str, Handler] = {
    "ReduceMean": _reduce(Op.MEAN),
    "ReduceSum": _reduce(Op.SUM),
    "ReduceMax": _reduce(Op.REDUCE_MAX),
    "ReduceMin": _reduce(Op.REDUCE_MIN),
    "ReduceProd": _reduce(Op.REDUCE_PROD),
    "ReduceL1": _reduce(Op.SUM, before=Op.ABS),
    "ReduceL2": _reduce(Op.SUM, before=Op.MUL, after=Op.SQRT),
    "ReduceSumSquare": _reduce(Op.SUM, before=Op.MUL),
    "ReduceLogSum": _reduce(Op.SUM, after=Op.LOG),
    "ReduceLogSumExp": log_sum_exp,
    "ArgMax": _arg(negate=False),
    "ArgMin": _arg(negate=True),
    "Softmax": _softmax(Op.SOFTMAX),
    "LogSoftmax": _softmax(Op.LOG_SOFTMAX),
}
