"""What every operator of `graph.Op` computes, in plain numpy: one function for each, in a table.

Convolutions are one matrix product per kernel tap, so that memory stays at a few times the largest
tensor. Running a whole graph is `reference.py`, which also silences numpy:
arithmetic out of a function's domain gives NaN or infinity here, as it does on a device.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from edge_convert import reference_logic
from edge_convert.graph import Array, Op

Kernel = Callable[[Sequence[Array], Mapping[str, Any]], Array]


# --- convolutions and pools ----------------------------------------------------------------------


def _padded(x: Array, pads: Sequence[int], value: float = 0.0) -> Array:
    top, bottom, left, right = pads
    if not any(pads):
        return x
    return np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=x.dtype.type(value))


def _taps(
    x: Array, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> tuple[list[list[Array]], int, int]:
    """Views of `x` (already padded), one per kernel position, each [n, out_h, out_w, c]."""
    (kh, kw), (sh, sw), (dh, dw) = kernel, strides, dilations
    out_h = (x.shape[1] - dh * (kh - 1) - 1) // sh + 1
    out_w = (x.shape[2] - dw * (kw - 1) - 1) // sw + 1
    views = [
        [
            x[:, i * dh : i * dh + (out_h - 1) * sh + 1 : sh, j * dw : j * dw + (out_w - 1) * sw + 1 : sw]
            for j in range(kw)
        ]
        for i in range(kh)
    ]
    return views, out_h, out_w


def _activate(y: Array, attrs: Mapping[str, Any]) -> Array:
    low, high = {
        "none": (None, None),
        "relu": (0.0, None),
        "relu6": (0.0, 6.0),
        "relu_n1_to_1": (-1.0, 1.0),
    }[attrs.get("activation", "none")]
    if low is None:
        return y
    return np.clip(y, y.dtype.type(low), None if high is None else y.dtype.type(high))


def _finish(y: Array, inputs: Sequence[Array], attrs: Mapping[str, Any]) -> Array:
    if len(inputs) > 2:
        y += inputs[2]  # the caller's own array
    return _activate(y, attrs)


def _conv2d(inputs: Sequence[Array], attrs: Mapping[str, Any]) -> Array:
    x, w = inputs[0], inputs[1]
    out, kh, kw, per_group = w.shape
    groups = attrs["groups"]
    views, out_h, out_w = _taps(_padded(x, attrs["pads"]), (kh, kw), attrs["strides"], attrs["dilations"])
    shape = (x.shape[0], out_h, out_w, out)
    width = out // groups
    if groups == 1:
        return _finish(_products(views, w).reshape(shape), inputs, attrs)
    y = np.empty(shape, np.float32)
    for g in range(groups):
        rows, channels = slice(g * width, (g + 1) * width), slice(g * per_group, (g + 1) * per_group)
        part = _products([[v[..., channels] for v in line] for line in views], w[rows])
        y[..., rows] = part.reshape(*shape[:3], width)
    return _finish(y, inputs, attrs)


def _products(views: list[list[Array]], w: Array) -> Array:
    """What an ungrouped convolution adds up, [pixels, out]: matrices, for numpy multiplies these fastest."""
    out, kh, kw, channels = w.shape
    if kh * kw * channels <= 64:  # few channels: one product beats many tiny ones
        pixels = views[0][0] if kh * kw == 1 else np.concatenate([v for line in views for v in line], axis=-1)
        return np.ascontiguousarray(pixels).reshape(-1, kh * kw * channels) @ w.reshape(out, -1).T
    y: Array = np.ascontiguousarray(views[0][0]).reshape(-1, channels) @ w[:, 0, 0].T
    for i in range(kh):
        for j in range(kw):
            if i or j:
                y += np.ascontiguousarray(views[i][j]).reshape(-1, channels) @ w[:, i, j].T
    return y


def _depthwise_conv2d(inputs: Sequence[Array], attrs: Mapping[str, Any]) -> Array:
    """Rows of pixels are multiplied as one long vector, channels inside: short loops are slow in numpy."""
    x, w = inputs[0], inputs[1]
    _, kh, kw, out = w.shape
    (sh, sw), (dh, dw) = attrs["strides"], attrs["dilations"]
    x = _padded(x, attrs["pads"])
    multiplier = out // x.shape[3]
    if multiplier > 1:
        x = np.repeat(x, multiplier, axis=3)
    n, high, wide, _ = x.shape
    out_h, out_w = (high - dh * (kh - 1) - 1) // sh + 1, (wide - dw * (kw - 1) - 1) // sw + 1
    # every sw-th column, beginning at each: what one tap reads lies side by side in one of these
    phases = [np.ascontiguousarray(x[:, :, p::sw]).reshape(n, high, -1) for p in range(min(sw, wide))]
    y = np.zeros((n, out_h, out_w * out), np.float32)
    product = np.empty_like(y)
    for i in range(kh):
        for j in range(kw):
            first, phase = divmod(j * dw, sw)
            rows = slice(i * dh, i * dh + (out_h - 1) * sh + 1, sh)
            columns = slice(first * out, (first + out_w) * out)
            np.multiply(phases[phase][:, rows, columns], np.tile(w[0, i, j], out_w), out=product)
            y += product
    return _finish(y.reshape(n, out_h, out_w, out), inputs, attrs)


def _transpose_conv2d(inputs: Sequence[Array], attrs: Mapping[str, Any]) -> Array:
    x, w = inputs[0], inputs[1]
    out, kh, kw, _ = w.shape
    (sh, sw), (top, _, left, _) = attrs["strides"], attrs["pads"]
    n, h, wide, _ = x.shape
    _, out_h, out_w, _ = attrs["output_shape"]
    full = np.zeros(
        (n, max((h - 1) * sh + kh, top + out_h), max((wide - 1) * sw + kw, left + out_w), out), np.float32
    )
    for i in range(kh):
        for j in range(kw):
            pixels = x.reshape(-1, x.shape[3]) @ w[:, i, j].T
            full[:, i : i + (h - 1) * sh + 1 : sh, j : j + (wide - 1) * sw + 1 : sw] += pixels.reshape(
                n, h, wide, out
            )
    return _finish(full[:, top : top + out_h, left : left + out_w], inputs, attrs)


def _max_pool(inputs: Sequence[Array], attrs: Mapping[str, Any]) -> Array:
    x = _padded(inputs[0], attrs["pads"], -np.inf)
    views, _, _ = _taps(x, attrs["kernel"], attrs["strides"], (1, 1))
    y = views[0][0].copy()
    for line in views:
        for view in line:
            np.maximum(y, view, out=y)
    return y


def _average_pool(inputs: Sequence[Array], attrs: Mapping[str, Any]) -> Array:
    x = inputs[0]
    total = _window_sum(_padded(x, attrs["pads"]), attrs)
    if attrs["count_include_pad"]:
        return total / np.float32(np.prod(attrs["kernel"]))
    ones = np.ones((1, *x.shape[1:3], 1), np.float32)
    return total / _window_sum(_padded(ones, attrs["pads"]), attrs)


def _window_sum(x: Array, attrs: Mapping[str, Any]) -> Array:
    views, _, _ = _taps(x, attrs["kernel"], attrs["strides"], (1, 1))
    total = np.zeros_like(views[0][0])
    for line in views:
        for view in line:
            total = total + view
    return total


# --- element-wise --------------------------------------------------------------------------------


def _erf(x: Array) -> Array:
    """The error function to double precision near enough for float32 (error < 2e-7).

    Abramowitz and Stegun 7.1.26 carried out in float64.
    """
    t = 1.0 / (1.0 + 0.3275911 * np.abs(x))
    series = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    y: Array = np.sign(x) * (1.0 - series * np.exp(-x * x))
    return y


def _gelu(inputs: Sequence[Array], attrs: Mapping[str, Any]) -> Array:
    x = inputs[0].astype(np.float64)
    y: Array
    if attrs["approximate"]:
        y = 0.5 * x * (1.0 + np.tanh(np.sqrt(2.0 / np.pi) * (x + 0.044715 * x**3)))
    else:
        y = 0.5 * x * (1.0 + _erf(x / np.sqrt(2.0)))
    return y.astype(np.float32)


def _sigmoid(x: Array) -> Array:
    # exp of a large number is infinite, and 1 over it the right 0
    y: Array = 1 / (1 + np.exp(-x))
    return y


def _elu(inputs: Sequence[Array], attrs: Mapping[str, Any]) -> Array:
    x = inputs[0]
    y: Array = np.where(x > 0, x, np.float32(attrs["alpha"]) * np.expm1(np.minimum(x, 0)))
    return y


def _divide(inputs: Sequence[Array], attrs: Mapping[str, Any]) -> Array:
    a, b = inputs
    if np.issubdtype(a.dtype, np.integer):  # towards zero, as C divides
        quotient: Array = np.sign(a) * np.sign(b) * (np.abs(a) // np.abs(b))
        return quotient.astype(a.dtype)
    return _activate(a / b, attrs)


def _power(inputs: Sequence[Array], attrs: Mapping[str, Any]) -> Array:
    y: Array = np.power(inputs[0], inputs[1])
    return y


def _prelu(inputs: Sequence[Array], attrs: Mapping[str, Any]) -> Array:
    x, slope = inputs
    return np.where(x >= 0, x, x * slope)


def _softmax(inputs: Sequence[Array], attrs: Mapping[str, Any]) -> Array:
    z = inputs[0] * np.float32(attrs["beta"])
    e: Array = np.exp(z - z.max(axis=-1, keepdims=True))
    e /= e.sum(axis=-1, keepdims=True)
    return e


def _log_softmax(inputs: Sequence[Array], attrs: Mapping[str, Any]) -> Array:
    z: Array = inputs[0] - inputs[0].max(axis=-1, keepdims=True)
    z -= np.log(np.exp(z).sum(axis=-1, keepdims=True))
    return z


def _l2_normalize(inputs: Sequence[Array], attrs: Mapping[str, Any]) -> Array:
    x = inputs[0]
    # the floor of TensorFlow Lite's kernel: a row of zeros gives zeros
    y: Array = x / np.maximum(np.sqrt((x * x).sum(axis=-1, keepdims=True)), np.float32(1e-6))
    return y


def _unary(function: Callable[[Array], Array]) -> Kernel:
    return lambda inputs, attrs: function(inputs[0])


def _activated(function: Callable[[Array, Array], Array]) -> Kernel:
    return lambda inputs, attrs: _activate(function(inputs[0], inputs[1]), attrs)


# --- shape and movement --------------------------------------------------------------------------


def _slice(inputs: Sequence[Array], attrs: Mapping[str, Any]) -> Array:
    x = inputs[0]
    index = tuple(
        slice(b, None if e < 0 else e, s)
        for b, e, s in zip(attrs["begin"], attrs["end"], attrs["strides"], strict=True)
    )
    return x[index]


def _mirror_pad(inputs: Sequence[Array], attrs: Mapping[str, Any]) -> Array:
    if attrs["mode"] == "reflect":
        return np.pad(inputs[0], attrs["paddings"], mode="reflect")
    return np.pad(inputs[0], attrs["paddings"], mode="symmetric")


def _pad(inputs: Sequence[Array], attrs: Mapping[str, Any]) -> Array:
    return np.pad(inputs[0], attrs["paddings"], constant_values=inputs[0].dtype.type(attrs["value"]))


def _space_to_depth(inputs: Sequence[Array], attrs: Mapping[str, Any]) -> Array:
    x, b = inputs[0], attrs["block"]
    n, h, w, c = x.shape
    return x.reshape(n, h // b, b, w // b, b, c).transpose(0, 1, 3, 2, 4, 5).reshape(n, h // b, w // b, -1)


def _depth_to_space(inputs: Sequence[Array], attrs: Mapping[str, Any]) -> Array:
    x, b = inputs[0], attrs["block"]
    n, h, w, _ = x.shape
    return x.reshape(n, h, w, b, b, -1).transpose(0, 1, 3, 2, 4, 5).reshape(n, h * b, w * b, -1)


def _matmul(inputs: Sequence[Array], attrs: Mapping[str, Any]) -> Array:
    a, b = inputs
    a = np.swapaxes(a, -1, -2) if attrs["transpose_a"] else a
    b = np.swapaxes(b, -1, -2) if attrs["transpose_b"] else b
    y: Array = np.matmul(a, b)
    return y


def resize_positions(size: int, out: int, align_corners: bool, half_pixel_centers: bool) -> Array:
    """Where each output pixel lies on the input axis, float64, before clamping (bilinear rule)."""
    steps = np.arange(out, dtype=np.float64)
    if align_corners and out > 1:
        return steps * ((size - 1) / (out - 1))
    if half_pixel_centers:
        return (steps + 0.5) * (size / out) - 0.5
    return steps * (size / out)


def nearest_indices(size: int, out: int, align_corners: bool, half_pixel_centers: bool) -> Array:
    """Which input pixel each output pixel copies: TensorFlow Lite's rule, int64.

    tensorflow/lite/kernels/internal/reference/resize_nearest_neighbor.h: the half-pixel form is
    floor((x + 0.5) * scale), the aligned one rounds half away from zero.
    """
    steps = np.arange(out, dtype=np.float64)
    if align_corners and out > 1:
        position = np.floor(steps * ((size - 1) / (out - 1)) + 0.5)
    elif half_pixel_centers:
        position = np.floor((steps + 0.5) * (size / out))
    else:
        position = np.floor(steps * (size / out))
    return np.clip(position, 0, size - 1).astype(np.int64)


def _resize_nearest(inputs: Sequence[Array], attrs: Mapping[str, Any]) -> Array:
    x = inputs[0]
    modes = (attrs["align_corners"], attrs["half_pixel_centers"])
    rows = nearest_indices(x.shape[1], attrs["size"][0], *modes)
    columns = nearest_indices(x.shape[2], attrs["size"][1], *modes)
    return x[:, rows][:, :, columns]


def _resize_bilinear(inputs: Sequence[Array], attrs: Mapping[str, Any]) -> Array:
    y = inputs[0]
    for axis, out in zip((1, 2), attrs["size"], strict=True):
        size = y.shape[axis]
        position = resize_positions(size, out, attrs["align_corners"], attrs["half_pixel_centers"])
        position = np.clip(position, 0, size - 1)
        low = np.floor(position).astype(np.int64)
        high = np.minimum(low + 1, size - 1)
        weight = (position - low).astype(np.float32).reshape([-1 if i == axis else 1 for i in range(4)])
        y = y.take(low, axis) * (1 - weight) + y.take(high, axis) * weight
    return y


def _reduced(function: Callable[..., Array]) -> Kernel:
    def kernel(inputs: Sequence[Array], attrs: Mapping[str, Any]) -> Array:
        x = inputs[0]
        return function(x, axis=tuple(attrs["axes"]), keepdims=bool(attrs["keepdims"])).astype(x.dtype)

    return kernel


KERNELS: dict[Op, Kernel] = {
    Op.CONV2D: _conv2d,
    Op.DEPTHWISE_CONV2D: _depthwise_conv2d,
    Op.TRANSPOSE_CONV2D: _transpose_conv2d,
    Op.DENSE: lambda inputs, attrs: _finish(inputs[0] @ inputs[1].T, inputs, attrs),
    Op.MATMUL: _matmul,
    Op.AVERAGE_POOL2D: _average_pool,
    Op.MAX_POOL2D: _max_pool,
    Op.ADD: _activated(np.add),
    Op.SUB: _activated(np.subtract),
    Op.MUL: _activated(np.multiply),
    Op.DIV: _divide,
    Op.MINIMUM: lambda inputs, attrs: np.minimum(inputs[0], inputs[1]),
    Op.MAXIMUM: lambda inputs, attrs: np.maximum(inputs[0], inputs[1]),
    Op.POW: _power,
    Op.RELU: lambda inputs, attrs: np.maximum(inputs[0], 0),
    Op.RELU6: lambda inputs, attrs: np.clip(inputs[0], 0, 6),
    Op.RELU_N1_TO_1: lambda inputs, attrs: np.clip(inputs[0], -1, 1),
    Op.LEAKY_RELU: lambda inputs, attrs: np.where(
        inputs[0] >= 0, inputs[0], inputs[0] * np.float32(attrs["alpha"])
    ),
    Op.PRELU: _prelu,
    Op.ELU: _elu,
    Op.SIGMOID: lambda inputs, attrs: _sigmoid(inputs[0]),
    Op.TANH: lambda inputs, attrs: np.tanh(inputs[0]),
    Op.HARD_SWISH: lambda inputs, attrs: inputs[0] * np.clip(inputs[0] + 3, 0, 6) * np.float32(1 / 6),
    Op.GELU: _gelu,
    Op.SOFTMAX: _softmax,
    Op.LOG_SOFTMAX: _log_softmax,
    Op.EXP: _unary(np.exp),
    Op.LOG: _unary(np.log),
    Op.SQRT: _unary(np.sqrt),
    Op.RSQRT: _unary(lambda x: 1 / np.sqrt(x)),
    Op.ABS: lambda inputs, attrs: np.abs(inputs[0]),
    Op.NEG: lambda inputs, attrs: np.negative(inputs[0]),
    Op.FLOOR: lambda inputs, attrs: np.floor(inputs[0]),
    Op.CEIL: lambda inputs, attrs: np.ceil(inputs[0]),
    Op.ROUND: lambda inputs, attrs: np.rint(inputs[0]),
    Op.SIN: lambda inputs, attrs: np.sin(inputs[0]),
    Op.COS: lambda inputs, attrs: np.cos(inputs[0]),
    Op.RESHAPE: lambda inputs, attrs: inputs[0].reshape(attrs["shape"]),
    Op.TRANSPOSE: lambda inputs, attrs: np.transpose(inputs[0], attrs["perm"]),
    Op.PAD: _pad,
    Op.MIRROR_PAD: _mirror_pad,
    Op.CONCAT: lambda inputs, attrs: np.concatenate(inputs, axis=attrs["axis"]),
    Op.SLICE: _slice,
    Op.GATHER: lambda inputs, attrs: np.take(inputs[0], inputs[1], axis=attrs["axis"]),
    Op.TILE: lambda inputs, attrs: np.tile(inputs[0], attrs["multiples"]),
    Op.BROADCAST_TO: lambda inputs, attrs: np.broadcast_to(inputs[0], attrs["shape"]),
    Op.RESIZE_BILINEAR: _resize_bilinear,
    Op.RESIZE_NEAREST: _resize_nearest,
    Op.SPACE_TO_DEPTH: _space_to_depth,
    Op.DEPTH_TO_SPACE: _depth_to_space,
    Op.MEAN: _reduced(np.mean),
    Op.SUM: _reduced(np.sum),
    Op.REDUCE_MAX: _reduced(np.max),
    Op.REDUCE_MIN: _reduced(np.min),
    Op.REDUCE_PROD: _reduced(np.prod),
    Op.ARG_MAX: lambda inputs, attrs: np.asarray(np.argmax(inputs[0], axis=attrs["axis"]), np.int64),
    Op.L2_NORMALIZE: _l2_normalize,
    Op.CAST: lambda inputs, attrs: inputs[0].astype(attrs["dtype"]),
    **reference_logic.KERNELS,
}
