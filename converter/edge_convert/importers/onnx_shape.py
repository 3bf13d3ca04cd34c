"""ONNX operators that move elements without computing: reshapes, slices, joins, pads, tiles."""

from __future__ import annotations

import math

import numpy as np

from edge_convert.graph import Array, Op, Tensor
from edge_convert.importers.onnx_builder import Builder, Call, Handler, axis_of, check_count


def _list(b: Builder, call: Call, key: str, index: int) -> tuple[int, ...] | None:
    """Integers that older opsets have as an attribute and newer ones as a constant input."""
    if key in call.attrs:
        return tuple(int(v) for v in call.attrs[key])
    return b.integers(call, index, key) if call.has(index) else None


def reshape(b: Builder, call: Call) -> Tensor:
    """Reshape; 0 copies a dimension (unless allowzero), -1 is what is left."""
    x = b.operand(call, 0)
    wanted = list(b.integers(call, 1, "the shape"))
    if not call.attrs.get("allowzero", 0):
        wanted = [x.shape[i] if d == 0 and i < len(x.shape) else d for i, d in enumerate(wanted)]
    if wanted.count(-1) == 1:
        rest = math.prod(d for d in wanted if d != -1)
        wanted[wanted.index(-1)] = x.size // rest if rest else 0
    if math.prod(wanted) != x.size or min(wanted, default=1) <= 0:
        raise call.refuse(f"{x.shape} cannot take the shape {tuple(wanted)} at batch 1")
    return b.reshape(x, tuple(wanted))


def flatten(b: Builder, call: Call) -> Tensor:
    """Flatten to two dimensions."""
    x = b.operand(call, 0)
    rank, axis = len(x.shape), int(call.attrs.get("axis", 1))
    axis = axis + rank if axis < 0 else axis
    return b.reshape(x, (math.prod(x.shape[:axis]), math.prod(x.shape[axis:])))


def squeeze(b: Builder, call: Call) -> Tensor:
    """Squeeze."""
    x = b.operand(call, 0)
    stated = _list(b, call, "axes", 1)
    rank = len(x.shape)
    axes = (
        [i for i, d in enumerate(x.shape) if d == 1]
        if stated is None
        else [axis_of(call, a, rank) for a in stated]
    )
    if any(x.shape[a] != 1 for a in axes):
        raise call.refuse(f"axes {axes} of shape {x.shape} are not all 1")
    return b.reshape(x, tuple(d for i, d in enumerate(x.shape) if i not in axes))


def unsqueeze(b: Builder, call: Call) -> Tensor:
    """Unsqueeze."""
    x = b.operand(call, 0)
    stated = _list(b, call, "axes", 1) or ()
    rank = len(x.shape) + len(stated)
    axes = {axis_of(call, a, rank) for a in stated}
    rest = iter(x.shape)
    return b.reshape(x, tuple(1 if i in axes else next(rest) for i in range(rank)))


def transpose(b: Builder, call: Call) -> Tensor:
    """Transpose; without perm the axes are reversed."""
    x = b.operand(call, 0)
    perm = call.attrs.get("perm", list(range(len(x.shape)))[::-1])
    if sorted(perm) != list(range(len(x.shape))):
        raise call.refuse(f"perm {list(perm)} is not an order of the axes of {x.shape}")
    return b.transpose(x, [int(p) for p in perm])


def concat(b: Builder, call: Call) -> Tensor:
    """Concat."""
    empty = [i for i, name in enumerate(call.inputs) if name in b.known and not b.known[name].size]
    parts = [b.operand(call, i) for i in range(len(call.inputs)) if i not in empty]
    axis = axis_of(call, int(call.attrs["axis"]), len(parts[0].shape))
    if len({p.shape[:axis] + p.shape[axis + 1 :] for p in parts}) > 1 or len({p.dtype for p in parts}) > 1:
        raise call.refuse(f"parts of shape {[p.shape for p in parts]} cannot be joined along axis {axis}")
    return parts[0] if len(parts) == 1 else b.add(Op.CONCAT, *parts, axis=axis)


def split(b: Builder, call: Call) -> list[Tensor]:
    """Split into SLICEs; sizes stated, or as equal as they can be."""
    x = b.operand(call, 0)
    axis = axis_of(call, int(call.attrs.get("axis", 0)), len(x.shape))
    sizes = _list(b, call, "split", 1)
    if sizes is None:
        count = int(call.attrs.get("num_outputs", len(call.outputs)))
        size = -(-x.shape[axis] // count)
        sizes = tuple(min(size, x.shape[axis] - i * size) for i in range(count))
    if sum(sizes) != x.shape[axis] or len(sizes) != len(call.outputs):
        raise call.refuse(f"sizes {sizes} do not add up to the {x.shape[axis]} of axis {axis}")
    starts = np.cumsum((0, *sizes))
    return [
        b.take(x, np.arange(start, start + size), axis)
        for start, size in zip(starts[:-1], sizes, strict=True)
    ]


def slice_(b: Builder, call: Call) -> Tensor:
    """Slice with constant bounds; a negative step becomes a GATHER of positions."""
    x = b.operand(call, 0)
    rank = len(x.shape)
    starts, ends = b.integers(call, 1, "starts"), b.integers(call, 2, "ends")
    axes = b.integers(call, 3, "axes") if call.has(3) else tuple(range(len(starts)))
    steps = b.integers(call, 4, "steps") if call.has(4) else (1,) * len(starts)
    begin, end, strides = [0] * rank, list(x.shape), [1] * rank
    backwards: list[tuple[int, Array]] = []
    for start, stop, axis, step in zip(starts, ends, axes, steps, strict=True):
        axis = axis_of(call, axis, rank)
        positions = range(*slice(start, stop, step).indices(x.shape[axis]))
        if not len(positions):
            raise call.refuse(f"nothing is left of axis {axis} of {x.shape}")
        if step < 0:
            backwards.append((axis, np.asarray(positions)))
        else:
            begin[axis], end[axis], strides[axis] = positions.start, positions.stop, step
    y = x
    if begin != [0] * rank or end != list(x.shape) or strides != [1] * rank:
        y = b.add(Op.SLICE, x, begin=tuple(begin), end=tuple(end), strides=tuple(strides))
    for axis, positions_ in backwards:
        y = b.take(y, positions_, axis)
    return y


def gather(b: Builder, call: Call) -> Tensor:
    """Gather; constant positions that are one after the other become a SLICE."""
    x = b.operand(call, 0)
    axis = axis_of(call, int(call.attrs.get("axis", 0)), len(x.shape))
    if not b.is_known(call, 1):
        return b.add(Op.GATHER, x, b.operand(call, 1), axis=axis)
    indices = b.known[call.inputs[1]]
    if indices.size == 0 or indices.min() < -x.shape[axis] or indices.max() >= x.shape[axis]:
        raise call.refuse(f"indices outside the {x.shape[axis]} positions of axis {axis}")
    y = b.take(x, np.ravel(indices) % x.shape[axis], axis)
    return b.reshape(y, (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))


def one_hot(b: Builder, call: Call) -> Tensor:
    """OneHot: rows of a constant square table, looked up."""
    depth = int(b.elements(call, 1, "the depth").item())
    off, on = (float(v) for v in np.ravel(b.elements(call, 2, "the values")))
    indices = b.operand(call, 0)
    if indices.dtype not in ("int32", "int64"):
        raise call.refuse(f"indices of element type {indices.dtype}; expected integers")
    check_count(call, depth * depth)
    table = np.full((depth, depth), off, np.float32)
    np.fill_diagonal(table, on)
    y = b.add(Op.GATHER, b.constant(table, f"{call.name}:rows"), indices, axis=0)
    rank = len(y.shape)
    axis = axis_of(call, int(call.attrs.get("axis", -1)), rank)
    order = list(range(rank - 1))
    return b.transpose(y, [*order[:axis], rank - 1, *order[axis:]])


def pad(b: Builder, call: Call) -> Tensor:
    """Pad: constant and reflect have their operator, edge and wrap are a GATHER; negative pads cut."""
    x = b.operand(call, 0)
    rank = len(x.shape)
    stated = _list(b, call, "pads", 1) or ()
    axes = [axis_of(call, a, rank) for a in b.integers(call, 3, "axes")] if call.has(3) else list(range(rank))
    amounts = [(0, 0)] * rank
    for i, axis in enumerate(axes):
        amounts[axis] = (stated[i], stated[i + len(axes)])
    mode = call.attrs.get("mode", "constant")
    check_count(call, sum(abs(a) for pair in amounts for a in pair))
    for axis, (before, after) in enumerate(amounts):
        if before < 0 or after < 0:
            x = b.take(x, np.arange(max(-before, 0), x.shape[axis] - max(-after, 0)), axis)
    paddings = tuple((max(before, 0), max(after, 0)) for before, after in amounts)
    if not any(before or after for before, after in paddings):
        return x
    if mode == "constant":
        value = float(b.elements(call, 2, "the padding value").item()) if call.has(2) else 0.0
        if not math.isfinite(value):
            raise call.refuse(f"padding value {value}")
        return b.add(Op.PAD, x, paddings=paddings, value=value)
    if mode == "reflect" and all(max(p) < d for p, d in zip(paddings, x.shape, strict=True)):
        return b.add(Op.MIRROR_PAD, x, paddings=paddings, mode="reflect")
    for axis, (before, after) in enumerate(paddings):
        if before or after:
            x = b.take(x, np.pad(np.arange(x.shape[axis]), (before, after), mode=mode), axis)
    return x


def expand(b: Builder, call: Call) -> Tensor:
    """Expand: numpy's broadcasting, both ways."""
    x = b.operand(call, 0)
    wanted = b.integers(call, 1, "the shape")
    shape = tuple(int(d) for d in np.broadcast_shapes(x.shape, wanted))
    x = b.reshape(x, (1,) * (len(shape) - len(x.shape)) + x.shape)
    return x if x.shape == shape else b.add(Op.BROADCAST_TO, x, shape=shape)


def tile(b: Builder, call: Call) -> Tensor:
    """Tile."""
    multiples = b.integers(call, 1, "the repeats")
    x = b.operand(call, 0)
    return x if set(multiples) <= {1} else b.add(Op.TILE, x, multiples=multiples)


def depth_to_space(b: Builder, call: Call) -> Tensor:
    """DepthToSpace; the CRD order is the DCR one after the channels are re-ordered."""
    x, block = b.operand(call, 0), int(call.attrs["blocksize"])
    channels = x.shape[1]
    if channels % (block * block):
        raise call.refuse(f"{channels} channels do not divide by {block} * {block}")
    image = b.channels_last(x)
    if call.attrs.get("mode", "DCR") == "CRD":
        order = np.arange(channels).reshape(channels // (block * block), block * block).T
        image = b.take(image, order.ravel(), 3)
    return b.channels_first(b.add(Op.DEPTH_TO_SPACE, image, block=block), 4)


def space_to_depth(b: Builder, call: Call) -> Tensor:
    """SpaceToDepth, in either order of channels."""
    x, block = b.operand(call, 0), int(call.attrs["blocksize"])
    if x.shape[2] % block or x.shape[3] % block:
        raise call.refuse(f"an image of {x.shape[2]} x {x.shape[3]} does not divide into blocks of {block}")
    image = b.add(Op.SPACE_TO_DEPTH, b.channels_last(x), block=block)
    if call.attrs.get("mode", "DCR") == "CRD":
        order = np.arange(image.shape[3]).reshape(block * block, x.shape[1]).T
        image = b.take(image, order.ravel(), 3)
    return b.channels_first(image, 4)


HANDLERS: dict[str, Handler] = {
    "Reshape": reshape,
    "Flatten": flatten,
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
    "Transpose": transpose,
    "Concat": concat,
    "Split": split,
    "Slice": slice_,
    "Gather": gather,
    "OneHot": one_hot,
    "Pad": pad,
    "Expand": expand,
    "Tile": tile,
    "DepthToSpace": depth_to_space,
    "SpaceToDepth": space_to_depth,
}
