"""What each TensorFlow Lite operator is in the graph: a table from its name to a handler.

A handler reads the current operator through the `Builder` and gives the tensors it computes. Padding
becomes explicit, activations that a node cannot carry become nodes, and each of the many ways to say
a reshape or a slice becomes the one way of the graph.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edge_convert.emitters.tflite_padding import NO_PADS, Pads, same_pads
from edge_convert.graph import DTYPES, Op, Tensor
from edge_convert.importers.tflite_builder import Builder, Handler
from edge_convert.importers.tflite_folds import strided_slice_index

# SAME padding grows with the window: a forged one must not become gigabytes of zeros
_LARGEST_WINDOW = 4096

# SIGN_BIT is not among them: no converter writes it and the graph cannot say it
_ACTIVATIONS = {
    schema.ActivationFunctionType.NONE: "none",
    schema.ActivationFunctionType.RELU: "relu",
    schema.ActivationFunctionType.RELU6: "relu6",
    schema.ActivationFunctionType.RELU_N1_TO_1: "relu_n1_to_1",
    schema.ActivationFunctionType.TANH: "tanh",
}


def _activation(b: Builder, options: Any) -> str:
    number = options.fusedActivationFunction
    if number not in _ACTIVATIONS:
        raise b.refuse(f"fused activation {number}")
    return _ACTIVATIONS[number]


def _image(b: Builder, x: Tensor) -> tuple[int, int, int, int]:
    if len(x.shape) != 4:
        raise b.refuse(f"input has shape {list(x.shape)}; expected [batch, height, width, channels]")
    n, h, w, c = x.shape
    return n, h, w, c


def _strides(b: Builder, options: Any) -> tuple[int, int]:
    strides = (int(options.strideH), int(options.strideW))
    if not 1 <= min(strides) <= max(strides) <= _LARGEST_WINDOW:
        raise b.refuse(f"strides {strides}; expected 1 to {_LARGEST_WINDOW}")
    return strides


def _pads(
    b: Builder,
    options: Any,
    size: tuple[int, int],
    kernel: tuple[int, int],
    dilations: tuple[int, int] = (1, 1),
) -> Pads:
    if options.padding == schema.Padding.VALID:
        return NO_PADS
    if options.padding != schema.Padding.SAME:
        raise b.refuse(f"padding type {options.padding}")
    return same_pads(size, kernel, _strides(b, options), dilations)


def _bias(b: Builder, position: int, channels: int) -> list[Tensor]:
    """The bias when there is one, else nothing."""
    if not b.has(position):
        return []
    bias = b.operand(position)
    if bias.shape != (channels,):
        raise b.refuse(f"bias has shape {list(bias.shape)}; expected [{channels}]")
    return [bias]


def _convolution_inputs(b: Builder, channel_axis: int) -> list[Tensor]:
    """Image, weights and bias; `channel_axis` is that of the output channels in the weights."""
    x, weights = b.operand(0), b.operand(1)
    _image(b, x)
    if len(weights.shape) != 4:
        raise b.refuse(f"weights have shape {list(weights.shape)}; expected four dimensions")
    return [x, weights, *_bias(b, 2, weights.shape[channel_axis])]


def _dilations(b: Builder, options: Any) -> tuple[int, int]:
    dilations = (int(options.dilationHFactor), int(options.dilationWFactor))
    if not 1 <= min(dilations) <= max(dilations) <= _LARGEST_WINDOW:
        raise b.refuse(f"dilations {dilations}; expected 1 to {_LARGEST_WINDOW}")
    return dilations


def _conv_2d(b: Builder, options: Any) -> Tensor:
    inputs = _convolution_inputs(b, 0)
    _, h, w, channels = _image(b, inputs[0])
    out, kernel_h, kernel_w, per_group = inputs[1].shape
    if channels % per_group or out % (channels // per_group):
        raise b.refuse(f"{channels} input and {out} output channels cannot be grouped by {per_group}")
    dilations = _dilations(b, options)
    return b.activated(
        Op.CONV2D,
        _activation(b, options),
        *inputs,
        strides=_strides(b, options),
        dilations=dilations,
        pads=_pads(b, options, (h, w), (kernel_h, kernel_w), dilations),
        groups=channels // per_group,
    )


def _depthwise_conv_2d(b: Builder, options: Any) -> Tensor:
    inputs = _convolution_inputs(b, 3)
    _, h, w, channels = _image(b, inputs[0])
    one, kernel_h, kernel_w, out = inputs[1].shape
    if out % channels or one != 1:
        raise b.refuse(f"weights of shape {list(inputs[1].shape)} for {channels} input channels")
    dilations = _dilations(b, options)
    return b.activated(
        Op.DEPTHWISE_CONV2D,
        _activation(b, options),
        *inputs,
        strides=_strides(b, options),
        dilations=dilations,
        pads=_pads(b, options, (h, w), (kernel_h, kernel_w), dilations),
    )


def _transpose_conv(b: Builder, options: Any) -> Tensor:
    shape = b.integers(0, "the output shape")
    weights, x = b.operand(1), b.operand(2)
    n, _, _, channels = _image(b, x)
    fits = len(weights.shape) == len(shape) == 4 and min(shape[1:]) > 0
    if not fits or (weights.shape[0], weights.shape[3]) != (shape[3], channels):
        raise b.refuse(f"weights of shape {list(weights.shape)} for an output of shape {list(shape)}")
    kernel = (weights.shape[1], weights.shape[2])
    inputs = [x, weights, *_bias(b, 3, shape[3])]
    return b.activated(
        Op.TRANSPOSE_CONV2D,
        _activation(b, options),
        *inputs,
        strides=_strides(b, options),
        pads=_pads(b, options, (shape[1], shape[2]), kernel),
        output_shape=(n, *shape[1:]),
    )


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
    return b.activated(Op.DENSE, _activation(b, options), x, weights, *_bias(b, 2, weights.shape[0]))


def _batch_matmul(b: Builder, options: Any) -> Tensor:
    x, y = b.operand(0), b.operand(1)
    turned_x, turned_y = bool(options.adjX), bool(options.adjY)
    is_matrix = min(len(x.shape), len(y.shape)) >= 2
    if not is_matrix or x.shape[-2 if turned_x else -1] != y.shape[-1 if turned_y else -2]:
        raise b.refuse(f"inputs of shapes {list(x.shape)} and {list(y.shape)} cannot be multiplied")
    return b.add(Op.MATMUL, x, y, transpose_a=turned_x, transpose_b=turned_y)


def _pool(b: Builder, options: Any, op: Op, x: Tensor, **attrs: Any) -> Tensor:
    _, h, w, _ = _image(b, x)
    kernel = (int(options.filterHeight), int(options.filterWidth))
    if not 1 <= min(kernel) <= max(kernel) <= _LARGEST_WINDOW:
        raise b.refuse(f"a window of {kernel}; expected sides of 1 to {_LARGEST_WINDOW}")
    pads = _pads(b, options, (h, w), kernel)
    return b.add(op, x, kernel=kernel, strides=_strides(b, options), pads=pads, **attrs)


def _max_pool(b: Builder, options: Any) -> Tensor:
    return b.then(_pool(b, options, Op.MAX_POOL2D, b.operand(0)), _activation(b, options))


def _average_pool(b: Builder, options: Any) -> Tensor:
    pooled = _pool(b, options, Op.AVERAGE_POOL2D, b.operand(0), count_include_pad=False)
    return b.then(pooled, _activation(b, options))


def _l2_pool(b: Builder, options: Any) -> Tensor:
    square = b.add(Op.MUL, b.operand(0), b.operand(0), activation="none")
    mean = _pool(b, options, Op.AVERAGE_POOL2D, square, count_include_pad=False)
    return b.then(b.add(Op.SQRT, mean), _activation(b, options))


def _pair(b: Builder) -> tuple[Tensor, Tensor]:
    x, y = b.operand(0), b.operand(1)
    if x.dtype != y.dtype:
        raise b.refuse(f"operands have element types {x.dtype} and {y.dtype}")
    return x, y


def _arithmetic(op: Op) -> Handler:
    """An element-wise operator whose node carries an activation."""
    return lambda b, options: b.activated(op, _activation(b, options), *_pair(b))


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


def _broadcasts(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    try:
        return np.broadcast_shapes(shape, wanted) == wanted
    except ValueError:
        return False


def _prelu(b: Builder, options: Any) -> Tensor:
    x, slope = b.operand(0), b.operand(1)
    if not _broadcasts(slope.shape, x.shape[1:]):
        raise b.refuse(f"slopes of shape {list(slope.shape)} for an input of shape {list(x.shape)}")
    return b.add(Op.PRELU, x, slope)


def _gelu(b: Builder, options: Any) -> Tensor:
    return b.add(Op.GELU, b.operand(0), approximate=options is not None and bool(options.approximate))


def _softmax(b: Builder, options: Any) -> Tensor:
    return b.add(Op.SOFTMAX, b.operand(0), beta=float(options.beta))


def _l2_normalization(b: Builder, options: Any) -> Tensor:
    return b.then(b.add(Op.L2_NORMALIZE, b.operand(0)), _activation(b, options))


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
    if _activation(b, options) != "none":
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
    if not _broadcasts(x.shape, shape):
        raise b.refuse(f"an input of shape {list(x.shape)} does not broadcast to {list(shape)}")
    return b.add(Op.BROADCAST_TO, x, shape=shape)


def _resize(op: Op) -> Handler:
    def handle(b: Builder, options: Any) -> Tensor:
        x, size = b.operand(0), b.integers(1, "the size")
        _image(b, x)
        if len(size) != 2:
            raise b.refuse(f"size {size}; expected a height and a width")
        return b.add(
            op,
            x,
            size=size,
            align_corners=bool(options.alignCorners),
            half_pixel_centers=bool(options.halfPixelCenters),
        )

    return handle


def _block(op: Op) -> Handler:
    def handle(b: Builder, options: Any) -> Tensor:
        x, block = b.operand(0), int(options.blockSize)
        _, h, w, c = _image(b, x)
        divided = (h, w) if op is Op.SPACE_TO_DEPTH else (c,)
        unit = block if op is Op.SPACE_TO_DEPTH else block * block
        if block < 1 or any(d % unit for d in divided):
            raise b.refuse(f"block {block} for an input of shape {list(x.shape)}")
        return b.add(op, x, block=block)

    return handle


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
    "AVERAGE_POOL_2D": _average_pool,
    "BATCH_MATMUL": _batch_matmul,
    "BROADCAST_TO": _broadcast_to,
    "CAST": _cast,
    "CEIL": _unary(Op.CEIL),
    "CONCATENATION": _concatenation,
    "CONV_2D": _conv_2d,
    "COS": _unary(Op.COS),
    "DEPTHWISE_CONV_2D": _depthwise_conv_2d,
    "DEPTH_TO_SPACE": _block(Op.DEPTH_TO_SPACE),
    "DIV": _arithmetic(Op.DIV),
    "ELU": _elu,
    "EXP": _unary(Op.EXP),
    "EXPAND_DIMS": _expand_dims,
    "FLOOR": _unary(Op.FLOOR),
    "FULLY_CONNECTED": _fully_connected,
    "GATHER": _gather,
    "GELU": _gelu,
    "HARD_SWISH": _unary(Op.HARD_SWISH),
    "L2_NORMALIZATION": _l2_normalization,
    "L2_POOL_2D": _l2_pool,
    "LEAKY_RELU": _leaky_relu,
    "LOG": _unary(Op.LOG),
    "LOGISTIC": _unary(Op.SIGMOID),
    "LOG_SOFTMAX": _unary(Op.LOG_SOFTMAX),
    "MAXIMUM": _binary(Op.MAXIMUM),
    "MAX_POOL_2D": _max_pool,
    "MEAN": _reduction(Op.MEAN),
    "MINIMUM": _binary(Op.MINIMUM),
    "MIRROR_PAD": _mirror_pad,
    "MUL": _arithmetic(Op.MUL),
    "NEG": _unary(Op.NEG),
    "PACK": _pack,
    "PAD": _pad,
    "PADV2": _pad,
    "POW": _binary(Op.POW),
    "PRELU": _prelu,
    "REDUCE_MAX": _reduction(Op.REDUCE_MAX),
    "REDUCE_MIN": _reduction(Op.REDUCE_MIN),
    "REDUCE_PROD": _reduction(Op.REDUCE_PROD),
    "RELU": _unary(Op.RELU),
    "RELU6": _unary(Op.RELU6),
    "RELU_0_TO_1": _relu_0_to_1,
    "RELU_N1_TO_1": _unary(Op.RELU_N1_TO_1),
    "RESHAPE": _reshape,
    "RESIZE_BILINEAR": _resize(Op.RESIZE_BILINEAR),
    "RESIZE_NEAREST_NEIGHBOR": _resize(Op.RESIZE_NEAREST),
    "REVERSE_V2": _reverse,
    "ROUND": _unary(Op.ROUND),
    "RSQRT": _unary(Op.RSQRT),
    "SIN": _unary(Op.SIN),
    "SLICE": _slice,
    "SOFTMAX": _softmax,
    "SPACE_TO_DEPTH": _block(Op.SPACE_TO_DEPTH),
    "SPLIT": _split,
    "SPLIT_V": _split_v,
    "SQRT": _unary(Op.SQRT),
    "SQUARE": _square,
    "SQUARED_DIFFERENCE": _squared_difference,
    "SQUEEZE": _squeeze,
    "STRIDED_SLICE": _strided_slice,
    "SUB": _arithmetic(Op.SUB),
    "SUM": _reduction(Op.SUM),
    "TANH": _unary(Op.TANH),
    "TILE": _tile,
    "TRANSPOSE": _transpose,
    "TRANSPOSE_CONV": _transpose_conv,
    "UNPACK": _unpack,
}
