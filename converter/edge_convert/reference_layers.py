"""What convolutions and pools compute, in plain numpy; joins `reference_kernels.KERNELS`.

A convolution is one matrix product for each row of its kernel, so that memory stays at a few times the
largest tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from edge_convert.graph import Array, Op

Kernel = Callable[[Sequence[Array], Mapping[str, Any]], Array]


def _padded(x: Array, pads: Sequence[int], value: float = 0.0) -> Array:
    top, bottom, left, right = pads
    if not any(pads):
        return x
    # as np.pad does, which takes longer over its arguments than over a small tensor
    n, high, wide, channels = x.shape
    padded = np.full((n, top + high + bottom, left + wide + right, channels), value, x.dtype)
    padded[:, top : top + high, left : left + wide] = x
    return padded


def _result_size(
    x: Array, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> tuple[int, int]:
    """Height and width of what a kernel makes of `x` (already padded)."""
    high, wide = (
        (size - d * (k - 1) - 1) // s + 1
        for size, k, s, d in zip(x.shape[1:3], kernel, strides, dilations, strict=True)
    )
    return high, wide


def _taps(
    x: Array, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> tuple[list[list[Array]], int, int]:
    """Views of `x` (already padded), one per kernel position, each [n, out_h, out_w, c]."""
    (kh, kw), (sh, sw), (dh, dw) = kernel, strides, dilations
    out_h, out_w = _result_size(x, kernel, strides, dilations)
    views = [
        [
            x[:, i * dh : i * dh + (out_h - 1) * sh + 1 : sh, j * dw : j * dw + (out_w - 1) * sw + 1 : sw]
            for j in range(kw)
        ]
        for i in range(kh)
    ]
    return views, out_h, out_w


def activated(y: Array, attrs: Mapping[str, Any], out: Array | None = None) -> Array:
    """A result after the activation that is fused into its node, in `out` if there is an activation."""
    low, high = {
        "none": (None, None),
        "relu": (0.0, None),
        "relu6": (0.0, 6.0),
        "relu_n1_to_1": (-1.0, 1.0),
    }[attrs.get("activation", "none")]
    if low is None:
        return y
    return np.clip(y, y.dtype.type(low), None if high is None else y.dtype.type(high), out=out)


def _finish(y: Array, inputs: Sequence[Array], attrs: Mapping[str, Any]) -> Array:
    if len(inputs) > 2:
        add_by_channel(y, inputs[2])  # the caller's own array
    return activated(y, attrs, out=y)


def add_by_channel(y: Array, terms: Array) -> None:
    """Add a term to each channel, in place; to lines of pixels, for short loops are slow in numpy."""
    if y.ndim == 4 and y.flags.c_contiguous and terms.size == y.shape[3]:
        y = y.reshape(-1, y.shape[2] * y.shape[3])
        terms = np.tile(terms.reshape(-1), y.shape[1] // terms.size)
    y += terms


def _conv2d(inputs: Sequence[Array], attrs: Mapping[str, Any]) -> Array:
    x, w = _padded(inputs[0], attrs["pads"]), inputs[1]
    out, kh, kw, per_group = w.shape
    groups = attrs["groups"]
    out_h, out_w = _result_size(x, (kh, kw), attrs["strides"], attrs["dilations"])
    shape = (x.shape[0], out_h, out_w, out)
    width = out // groups
    if groups == 1:
        return _finish(_products(x, w, out_h, out_w, attrs).reshape(shape), inputs, attrs)
    y = np.empty(shape, np.float32)
    for g in range(groups):
        rows, channels = slice(g * width, (g + 1) * width), slice(g * per_group, (g + 1) * per_group)
        part = _products(x[..., channels], w[rows], out_h, out_w, attrs)
        y[..., rows] = part.reshape(*shape[:3], width)
    return _finish(y, inputs, attrs)


def _products(x: Array, w: Array, out_h: int, out_w: int, attrs: Mapping[str, Any]) -> Array:
    """What an ungrouped convolution adds up, [pixels, out]: matrices, for numpy multiplies these fastest.

    The taps of one kernel row lie side by side, one product for each row; with few channels the taps
    of all rows do, one product in all.
    """
    out, kh, kw, channels = w.shape
    (sh, sw), (dh, dw) = attrs["strides"], attrs["dilations"]
    by_n, by_row, by_column, by_channel = x.strides
    if kh * kw * channels <= 64:
        pixels = as_strided(
            x,
            (len(x), out_h, out_w, kh, kw, channels),
            (by_n, sh * by_row, sw * by_column, dh * by_row, dw * by_column, by_channel),
            writeable=False,
        )
        return np.ascontiguousarray(pixels).reshape(-1, kh * kw * channels) @ w.reshape(out, -1).T
    shape = (len(x), x.shape[1], out_w, kw, channels)
    lines = as_strided(x, shape, (by_n, by_row, sw * by_column, dw * by_column, by_channel), writeable=False)
    lines = np.ascontiguousarray(lines).reshape(*shape[:3], -1)
    y: Array | None = None
    for i in range(kh):
        rows = lines[:, i * dh : i * dh + (out_h - 1) * sh + 1 : sh]
        part = np.ascontiguousarray(rows).reshape(-1, kw * channels) @ w[:, i].reshape(out, -1).T
        y = part if y is None else np.add(y, part, out=y)
    assert y is not None, "a kernel has at least one row"
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
    lines = np.tile(w[0], (1, 1, out_w))  # a tap's weights for a whole line
    y = np.empty((n, out_h, out_w * out), np.float32)
    product = np.empty_like(y)
    for i in range(kh):
        for j in range(kw):
            first, phase = divmod(j * dw, sw)
            rows = slice(i * dh, i * dh + (out_h - 1) * sh + 1, sh)
            columns = slice(first * out, (first + out_w) * out)
            if i == j == 0:
                np.multiply(phases[phase][:, rows, columns], lines[i, j], out=y)
                continue
            np.multiply(phases[phase][:, rows, columns], lines[i, j], out=product)
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


KERNELS: dict[Op, Kernel] = {
    Op.CONV2D: _conv2d,
    Op.DEPTHWISE_CONV2D: _depthwise_conv2d,
    Op.TRANSPOSE_CONV2D: _transpose_conv2d,
    Op.DENSE: lambda inputs, attrs: _finish(inputs[0] @ inputs[1].T, inputs, attrs),
    Op.AVERAGE_POOL2D: _average_pool,
    Op.MAX_POOL2D: _max_pool,
}
