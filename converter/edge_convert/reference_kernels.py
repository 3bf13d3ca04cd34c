"""What every operator of `graph.Op` computes, in plain numpy: one function for each, in a table.

Convolutions and pools are in `reference_layers.py`, logic in `reference_logic.py`. Running a whole graph is
`reference.py`, which also silences numpy: arithmetic out of a function's domain gives NaN or infinity here,
as it does on a device.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from edge_convert import reference_layers, reference_logic
from edge_convert.graph import Array, Op
from edge_convert.reference_layers import activated

Kernel = Callable[[Sequence[Array], Mapping[str, Any]], Array]


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
    return activated(a / b, attrs)


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
    return lambda inputs, attrs: activated(function(inputs[0], inputs[1]), attrs)


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
    Op.MATMUL: _matmul,
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
    **reference_layers.KERNELS,
    **reference_logic.KERNELS,
}
