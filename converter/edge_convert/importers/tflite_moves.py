"""What moves elements in TensorFlow Lite files; the many ways to say a reshape or a slice become one."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edge_convert.graph import Op, Tensor
from edge_convert.importers.tflite_builder import Builder, Handler
from edge_convert.importers.tflite_folds import strided_slice_index
from edge_convert.importers.tflite_operands import activation, broadcasts


def _reshape(b: Builder, options: Any) -> Tensor:
    x = b.operand(0)
    if b.has(1) and b.is_known(1):
        shape = b.integers(1, "the shape")
    elif options is not None and options.newShape is not None:
        shape = tuple(int(v) for v in options.newShape)
    else:
        raise b.refuse("the shape is computed from the model's inputs; it must be constant")
    if shape.count(-1) == 1:
        rest = int(np.prod([d for d in shape if d != -1], dtype=object))
        if rest < 1 or x.size % rest:
            raise b.refuse(f"a tensor of shape {x.shape} cannot take the shape {shape}")
        shape = tuple(x.size // rest if d == -1 else d for d in shape)
    return b.reshape(x, shape)


def _squeeze(b: Builder, options: Any) -> Tensor:
    x = b.operand(0)
    given = () if options is None or options.squeezeDims is None else tuple(options.squeezeDims)
    axes = [b.axis(int(a), len(x.shape)) for a in given] or [i for i, d in enumerate(x.shape) if d == 1]
    return b.reshape(x, tuple(d for i, d in enumerate(x.shape) if i not in axes))


def _expand_dims(b: Builder, options: Any) -> Tensor:
    x = b.operand(0)
    axis = b.axis(b.integer(1, "the axis"), len(x.shape) + 1)
    return b.reshape(x, (*x.shape[:axis], 1, *x.shape[axis:]))


def _transpose(b: Builder, options: Any) -> Tensor:
    x, perm = b.operand(0), b.integers(1, "the permutation")
    if sorted(perm) != list(range(len(x.shape))):
        raise b.refuse(f"{perm} is no permutation of {len(x.shape)} axes")
    return b.add(Op.TRANSPOSE, x, perm=perm)


def _paddings(b: Builder, x: Tensor) -> tuple[tuple[int, int], ...]:
    flat = b.integers(1, "the paddings")
    if len(flat) != 2 * len(x.shape) or min(flat, default=0) < 0:
        raise b.refuse(f"paddings {flat} for an input of shape {list(x.shape)}")
    return tuple(zip(flat[::2], flat[1::2], strict=True))


def _pad(b: Builder, options: Any) -> Tensor:
    x = b.operand(0)
    value = b.number(2, "the padding value") if b.has(2) else 0.0
    return b.add(Op.PAD, x, paddings=_paddings(b, x), value=value)


def _mirror_pad(b: Builder, options: Any) -> Tensor:
    x = b.operand(0)
    reflects = options.mode == schema.MirrorPadMode.REFLECT
    paddings = _paddings(b, x)
    if any(max(pair) > size - reflects for pair, size in zip(paddings, x.shape, strict=True)):
        raise b.refuse(f"paddings {paddings} mirror more than an input of shape {list(x.shape)} has")
    return b.add(Op.MIRROR_PAD, x, paddings=paddings, mode="reflect" if reflects else "symmetric")


def _concatenation(b: Builder, options: Any) -> Tensor:
    parts = b.operands()
    axis = b.axis(int(options.axis), len(parts[0].shape))
    rests = {(*p.shape[:axis], *p.shape[axis + 1 :]) for p in parts}
    if len(rests) != 1 or len({len(p.shape) for p in parts}) != 1 or len({p.dtype for p in parts}) != 1:
        raise b.refuse(f"parts of shapes {[list(p.shape) for p in parts]} along axis {axis}")
    if activation(b, options) != "none":
        # the built-in kernel refuses it and XNNPACK ignores it, so nothing says what was meant
        raise b.refuse("it carries an activation; no runtime applies one")
    return parts[0] if len(parts) == 1 else b.add(Op.CONCAT, *parts, axis=axis)


def _pack(b: Builder, options: Any) -> Tensor:
    parts = b.operands()
    axis = b.axis(int(options.axis), len(parts[0].shape) + 1)
    if len({p.shape for p in parts}) != 1:
        raise b.refuse(f"parts of shapes {[list(p.shape) for p in parts]}; they must be the same")
    columns = [b.reshape(p, (*p.shape[:axis], 1, *p.shape[axis:])) for p in parts]
    return columns[0] if len(columns) == 1 else b.add(Op.CONCAT, *columns, axis=axis)


def _slice(b: Builder, options: Any) -> Tensor:
    x, begin, size = b.operand(0), b.integers(1, "the begin"), b.integers(2, "the size")
    if not len(begin) == len(size) == len(x.shape):
        raise b.refuse(f"begin {begin} and size {size} for an input of shape {list(x.shape)}")
    end = tuple(d if s == -1 else first + s for first, s, d in zip(begin, size, x.shape, strict=True))
    if any(not 0 <= first < last <= d for first, last, d in zip(begin, end, x.shape, strict=True)):
        raise b.refuse(f"begin {begin} and size {size} leave an input of shape {list(x.shape)}")
    return b.add(Op.SLICE, x, begin=begin, end=end, strides=(1,) * len(begin))


def _strided_slice(b: Builder, options: Any) -> Tensor:
    x = b.operand(0)
    spec = [b.integers(i + 1, what) for i, what in enumerate(("begin", "end", "strides"))]
    try:
        index = strided_slice_index(x.shape, spec, options)
    except (ValueError, IndexError) as error:
        raise b.refuse(f"input of shape {list(x.shape)}: {error}") from error
    bounds = [slice(i, i + 1, 1) if isinstance(i, int) else i for i in index if i is not None]
    whole = [(s.start, s.stop, s.step) == (0, d, 1) for s, d in zip(bounds, x.shape, strict=True)]
    part = x
    if not all(whole):
        part = b.add(
            Op.SLICE,
            x,
            begin=tuple(s.start for s in bounds),
            end=tuple(s.stop for s in bounds),
            strides=tuple(s.step for s in bounds),
        )
    kept = iter(part.shape)
    shape: list[int] = []
    for i in index:
        if i is None:
            shape.append(1)
        elif isinstance(i, int):
            next(kept)
        else:
            shape.append(next(kept))
    return b.reshape(part, tuple(shape))


def _reverse(b: Builder, options: Any) -> Tensor:
    x = b.operand(0)
    axes = [b.axis(a, len(x.shape)) for a in b.integers(1, "the axes")]
    ranges = [(d - 1, -1, -1) if i in axes else (0, d, 1) for i, d in enumerate(x.shape)]
    begin, end, strides = zip(*ranges, strict=True)
    return b.add(Op.SLICE, x, begin=begin, end=end, strides=strides)


def _cut(b: Builder, x: Tensor, axis: int, sizes: list[int]) -> list[Tensor]:
    if sum(sizes) != x.shape[axis] or min(sizes, default=0) < 1 or len(sizes) != b.outputs:
        raise b.refuse(f"parts of {sizes} along axis {axis} of shape {list(x.shape)}")
    edges = np.cumsum([0, *sizes]).tolist()
    return [b.slice(x, axis, begin, end) for begin, end in pairwise(edges)]


def _split(b: Builder, options: Any) -> list[Tensor]:
    x, parts = b.operand(1), int(options.numSplits)
    axis = b.axis(b.integer(0, "the axis"), len(x.shape))
    if parts != b.outputs or x.shape[axis] % parts:
        raise b.refuse(f"{parts} equal parts along axis {axis} of shape {list(x.shape)}")
    return _cut(b, x, axis, [x.shape[axis] // parts] * parts)


def _split_v(b: Builder, options: Any) -> list[Tensor]:
    x, sizes = b.operand(0), list(b.integers(1, "the sizes"))
    axis = b.axis(b.integer(2, "the axis"), len(x.shape))
    if sizes.count(-1) == 1:
        rest = x.shape[axis] - sum(sizes) - 1
        sizes = [rest if s == -1 else s for s in sizes]
    return _cut(b, x, axis, sizes)


def _unpack(b: Builder, options: Any) -> list[Tensor]:
    x = b.operand(0)
    axis = b.axis(int(options.axis), len(x.shape))
    if x.shape[axis] != b.outputs:
        raise b.refuse(f"{b.outputs} parts along axis {axis} of shape {list(x.shape)}")
    shape = (*x.shape[:axis], *x.shape[axis + 1 :])
    return [b.reshape(part, shape) for part in _cut(b, x, axis, [1] * x.shape[axis])]


def _gather(b: Builder, options: Any) -> Tensor:
    x = b.operand(0)
    if options is not None and options.batchDims:
        raise b.refuse(f"{options.batchDims} batch dimensions; expected none")
    axis = b.axis(0 if options is None else int(options.axis), len(x.shape))
    if b.is_known(1):
        known = b.elements(1, "the indices")
        if known.size and not (known.min() >= 0 and known.max() < x.shape[axis]):
            raise b.refuse(f"indices {known.min()} to {known.max()} of {x.shape[axis]} positions")
    indices = b.operand(1)
    if indices.dtype not in ("int32", "int64"):
        raise b.refuse(f"indices of element type {indices.dtype}; expected integers")
    return b.add(Op.GATHER, x, indices, axis=axis)


def _tile(b: Builder, options: Any) -> Tensor:
    x, multiples = b.operand(0), b.integers(1, "the multiples")
    if len(multiples) != len(x.shape):
        raise b.refuse(f"multiples {multiples} for an input of shape {list(x.shape)}")
    return b.add(Op.TILE, x, multiples=multiples)


def _broadcast_to(b: Builder, options: Any) -> Tensor:
    x, shape = b.operand(0), b.integers(1, "the shape")
    if not broadcasts(x.shape, shape):
        raise b.refuse(f"an input of shape {list(x.shape)} does not broadcast to {list(shape)}")
    return b.add(Op.BROADCAST_TO, x, shape=shape)


HANDLERS: dict[str, Handler] = {
    "BROADCAST_TO": _broadcast_to,
    "CONCATENATION": _concatenation,
    "EXPAND_DIMS": _expand_dims,
    "GATHER": _gather,
    "MIRROR_PAD": _mirror_pad,
    "PACK": _pack,
    "PAD": _pad,
    "PADV2": _pad,
    "RESHAPE": _reshape,
    "REVERSE_V2": _reverse,
    "SLICE": _slice,
    "SPLIT": _split,
    "SPLIT_V": _split_v,
    "SQUEEZE": _squeeze,
    "STRIDED_SLICE": _strided_slice,
    "TILE": _tile,
    "TRANSPOSE": _transpose,
    "UNPACK": _unpack,
}
