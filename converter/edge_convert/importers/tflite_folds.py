"""Operators on values that do not depend on the model's inputs, worked out while reading.

TensorFlow writes the arithmetic of a dynamic batch axis into the file (SHAPE, STRIDED_SLICE, PACK in
front of a RESHAPE). With the batch fixed all of it is known, and none of it reaches the graph.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from edge_convert.errors import SourceInvalid
from edge_convert.graph import Array

_LARGEST_FOLD = 1_000_000  # elements; a forged size must not become an allocation
# Sizes are at times scaled in float ("twice as high"); weights stay tensors of the graph.
_MOST_FLOATS = 8

Fold = Callable[[Sequence[Array], Any], list[Array]]


def fold(label: str, code: str, inputs: Sequence[Array], options: Any) -> list[Array] | None:
    """What the operator `code` of `FOLDS` computes, or None for what is too large.

    Element types are those of numpy; the caller knows what the file says.

    Raises:
        SourceInvalid: The operands do not belong together.
    """
    too_many_floats = any(v.dtype.kind == "f" and v.size > _MOST_FLOATS for v in inputs)
    if too_many_floats or math.prod(max(v.size, 1) for v in inputs) > _LARGEST_FOLD:
        return None
    try:
        with np.errstate(all="ignore"):
            return FOLDS[code](inputs, options)
    except (ValueError, IndexError, TypeError, AttributeError) as error:
        raise SourceInvalid(f"{label}: {' '.join(str(error).split())}") from error


def strided_slice_index(shape: Sequence[int], spec: Sequence[Sequence[int]], options: Any) -> list[Any]:
    """The numpy index that a STRIDED_SLICE stands for: slices, integers (dropped axes), None (new axes).

    Args:
        spec: begin, end and strides as the operator gives them.

    Raises:
        ValueError: A stride of 0, or more indices than axes.
    """
    begins, ends, strides = spec
    if not len(begins) == len(ends) == len(strides):
        raise ValueError("begin, end and strides differ in length")
    places = range(len(begins))
    given = sum(not (options.newAxisMask >> i & 1 or options.ellipsisMask >> i & 1) for i in places)
    index: list[Any] = []
    axis = 0
    for i in places:
        if options.ellipsisMask >> i & 1:
            skipped = len(shape) - given
            index += _whole(shape[axis : axis + skipped])
            axis += skipped
        elif options.newAxisMask >> i & 1:
            index.append(None)
        elif axis >= len(shape):
            raise ValueError(f"{len(begins)} indices for {len(shape)} axes")
        else:
            index.append(_along_axis(i, shape[axis], (begins[i], ends[i], strides[i]), options))
            axis += 1
    return index + _whole(shape[axis:])


def _along_axis(i: int, size: int, spec: tuple[int, int, int], options: Any) -> slice | int:
    """What the i-th begin, end and stride take of an axis of this size."""
    begin, end, stride = spec
    if stride == 0:
        raise ValueError("a stride of 0")
    if options.shrinkAxisMask >> i & 1:
        if not -size <= begin < size:
            raise ValueError(f"index {begin} of an axis with {size} positions")
        return begin % size
    first = None if options.beginMask >> i & 1 else begin
    last = None if options.endMask >> i & 1 else (begin + end if options.offset else end)
    return slice(*slice(first, last, stride).indices(size))


def _whole(shape: Sequence[int]) -> list[slice]:
    return [slice(0, d, 1) for d in shape]


def _strided_slice(inputs: Sequence[Array], options: Any) -> list[Array]:
    spec = [[int(v) for v in np.ravel(part)] for part in inputs[1:4]]
    index = [
        slice(i.start, None if i.stop < 0 else i.stop, i.step) if isinstance(i, slice) else i
        for i in strided_slice_index(inputs[0].shape, spec, options)
    ]
    return [inputs[0][tuple(index)]]


def _pack(inputs: Sequence[Array], options: Any) -> list[Array]:
    return [np.stack(inputs, axis=options.axis)]


def _concatenation(inputs: Sequence[Array], options: Any) -> list[Array]:
    return [np.concatenate(inputs, axis=options.axis)]


def _gather(inputs: Sequence[Array], options: Any) -> list[Array]:
    return [np.take(inputs[0], inputs[1], axis=options.axis)]


def _unpack(inputs: Sequence[Array], options: Any) -> list[Array]:
    return list(np.moveaxis(inputs[0], options.axis, 0))


def _expand_dims(inputs: Sequence[Array], options: Any) -> list[Array]:
    return [np.expand_dims(inputs[0], int(np.ravel(inputs[1])[0]))]


def _squeeze(inputs: Sequence[Array], options: Any) -> list[Array]:
    axes = None if options is None or options.squeezeDims is None else tuple(map(int, options.squeezeDims))
    return [np.squeeze(inputs[0], axes or None)]


def _reshape(inputs: Sequence[Array], options: Any) -> list[Array]:
    shape = inputs[1] if len(inputs) > 1 else options.newShape
    return [inputs[0].reshape([int(v) for v in np.ravel(shape)])]


def _fill(inputs: Sequence[Array], options: Any) -> list[Array]:
    shape = [int(v) for v in np.ravel(inputs[0])]
    if int(np.prod(shape, dtype=object)) > _LARGEST_FOLD:
        raise ValueError(f"FILL of shape {shape}")
    return [np.full(shape, inputs[1])]


def _range(inputs: Sequence[Array], options: Any) -> list[Array]:
    start, limit, delta = (np.ravel(v)[0] for v in inputs)
    if delta == 0 or abs((limit - start) / delta) > _LARGEST_FOLD:
        raise ValueError(f"RANGE from {start} to {limit} by {delta}")
    return [np.arange(start, limit, delta, dtype=inputs[0].dtype)]


def _division(function: Callable[[Array, Array], Array]) -> Fold:
    def fold(inputs: Sequence[Array], options: Any) -> list[Array]:
        if not np.all(inputs[1]):
            raise ValueError("a division by zero")
        return [np.asarray(function(inputs[0], inputs[1]))]

    return fold


def _binary(function: Callable[[Array, Array], Array]) -> Fold:
    return lambda inputs, options: [np.asarray(function(inputs[0], inputs[1]))]


def _reduction(function: Callable[..., Any]) -> Fold:
    def fold(inputs: Sequence[Array], options: Any) -> list[Array]:
        axes = tuple(int(v) for v in np.ravel(inputs[1]))
        return [np.asarray(function(inputs[0], axis=axes, keepdims=bool(options.keepDims)))]

    return fold


# Applied when every input is known.
FOLDS: dict[str, Fold] = {
    "ADD": _binary(np.add),
    "CAST": lambda inputs, options: [inputs[0]],  # the caller gives the result the file's type
    "CONCATENATION": _concatenation,
    "DIV": _division(np.true_divide),  # cut towards zero when the caller makes it an integer
    "EQUAL": _binary(np.equal),
    "EXPAND_DIMS": _expand_dims,
    "FILL": _fill,
    "FLOOR_DIV": _division(np.floor_divide),
    "GATHER": _gather,
    "GREATER": _binary(np.greater),
    "GREATER_EQUAL": _binary(np.greater_equal),
    "LESS": _binary(np.less),
    "LESS_EQUAL": _binary(np.less_equal),
    "LOGICAL_AND": _binary(np.logical_and),
    "LOGICAL_OR": _binary(np.logical_or),
    "MAXIMUM": _binary(np.maximum),
    "MINIMUM": _binary(np.minimum),
    "MUL": _binary(np.multiply),
    "NOT_EQUAL": _binary(np.not_equal),
    "PACK": _pack,
    "RANGE": _range,
    "REDUCE_MAX": _reduction(np.max),
    "REDUCE_MIN": _reduction(np.min),
    "REDUCE_PROD": _reduction(np.prod),
    "RESHAPE": _reshape,
    "SELECT": lambda inputs, options: [np.where(inputs[0], inputs[1], inputs[2])],
    "SELECT_V2": lambda inputs, options: [np.where(inputs[0], inputs[1], inputs[2])],
    "SQUEEZE": _squeeze,
    "STRIDED_SLICE": _strided_slice,
    "SUB": _binary(np.subtract),
    "SUM": _reduction(np.sum),
    "UNPACK": _unpack,
}
