"""How many elements a node makes of constants, before it is asked to: an upper bound, from a few numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from edge_convert.graph import Array
from edge_convert.importers.onnx_builder import Call

_MOST_NUMBERS = 64  # of a shape or of amounts; longer ones are no shapes

Growth = Callable[[Call, Sequence[Array]], float]


def of_broadcast(call: Call, values: Sequence[Array]) -> float:
    """Of any other operator: as many as its operands spread over each other have."""
    try:
        return math.prod(np.broadcast_shapes(*(v.shape for v in values)))
    except ValueError:
        return 0  # they do not; what evaluates the node refuses it


def _constant_of_shape(call: Call, values: Sequence[Array]) -> float:
    return math.prod(_numbers(values[0])) if values and values[0].dtype.kind in "iufb" else 1


def _range(call: Call, values: Sequence[Array]) -> float:
    step = values[2].item() if len(values) > 2 and values[2].size == 1 else 1
    return abs(float(values[1].item() - values[0].item()) / step) if step else math.inf


def _repeated(call: Call, values: Sequence[Array]) -> float:
    return float(values[0].size) * math.prod(_amounts(values))


def _padded(call: Call, values: Sequence[Array]) -> float:
    added = sum(abs(float(p)) for p in call.attrs.get("pads", _amounts(values)))
    return math.prod((d + added for d in values[0].shape), start=1.0)


def _one_hot(call: Call, values: Sequence[Array]) -> float:
    depth = _amounts(values)
    return float(values[0].size) * (depth[0] if depth else 1)


def _numbers(value: Array) -> list[float]:
    return [float(v) for v in np.ravel(value)[:_MOST_NUMBERS]]


def _amounts(values: Sequence[Array]) -> list[float]:
    """Of the second input, which says how often or how far."""
    return [abs(v) for v in _numbers(values[1])] if len(values) > 1 else []


GROWTH: dict[str, Growth] = {
    "ConstantOfShape": _constant_of_shape,
    "Expand": _repeated,
    "OneHot": _one_hot,
    "Pad": _padded,
    "Range": _range,
    "Tile": _repeated,
}
