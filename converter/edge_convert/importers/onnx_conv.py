"""Convolutions, pools and resizing of images: the ONNX operators that are about windows.

1-D forms run as 2-D ones of height 1. Padding becomes explicit: `auto_pad`, `ceil_mode` and
`output_shape` are worked out here, once, because every size is known.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edge_convert.graph import Array, Op, Tensor
from edge_convert.importers.onnx_builder import Builder, Call, Handler, check_count

Pair = tuple[int, int]


def _pair(values: Sequence[int], spatial: int) -> Pair:
    """Attribute of 1 or 2 numbers as (height, width)."""
    return (1, int(values[0])) if spatial == 1 else (int(values[0]), int(values[1]))


def _attr_pair(call: Call, key: str, spatial: int, default: int) -> Pair:
    values = [int(v) for v in call.attrs.get(key, [default] * spatial)]
    return (default, values[0]) if spatial == 1 else (values[0], values[1])


def _explicit_pads(
    call: Call, spatial: int, size: Pair, kernel: Pair, strides: Pair, dilations: Pair
) -> tuple[int, int, int, int]:
    """(top, bottom, left, right) in pixels, from `pads` or `auto_pad`."""
    mode = call.attrs.get("auto_pad", "NOTSET")
    if mode == "VALID":
        return (0, 0, 0, 0)
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        both: list[int] = []
        for n, k, s, d in zip(size, kernel, strides, dilations, strict=True):
            total = max((-(-n // s) - 1) * s + d * (k - 1) + 1 - n, 0)
            small, large = total // 2, total - total // 2
            both += [small, large] if mode == "SAME_UPPER" else [large, small]
        return (both[0], both[1], both[2], both[3])
    pads = [int(p) for p in call.attrs.get("pads", [0] * (2 * spatial))]
    if min(pads, default=0) < 0:
        raise call.refuse(f"negative padding {pads}")
    if spatial == 1:
        return (0, 0, pads[0], pads[1])
    return (pads[0], pads[2], pads[1], pads[3])


def _check_rank(call: Call, x: Tensor) -> int:
    spatial = len(x.shape) - 2
    if spatial not in (1, 2):
        raise call.refuse(f"input has shape {x.shape}; only 1-D and 2-D images are supported")
    return spatial


def _weights(b: Builder, call: Call, spatial: int) -> Array:
    w = b.elements(call, 1, "the kernel").astype(np.float32)
    return w[:, :, None, :] if spatial == 1 else w


def _bias(b: Builder, call: Call) -> list[Tensor]:
    if not call.has(2):
        return []
    return [b.constant(b.elements(call, 2, "the bias"), call.inputs[2])]


def conv(b: Builder, call: Call) -> Tensor:
    """Conv to CONV2D, or to DEPTHWISE_CONV2D when every input channel is a group of its own."""
    x = b.operand(call, 0)
    spatial = _check_rank(call, x)
    w = _weights(b, call, spatial)
    groups = int(call.attrs.get("group", 1))
    channels = x.shape[1]
    if w.ndim != 4 or channels != w.shape[1] * groups or w.shape[0] % groups:
        raise call.refuse(f"kernel {w.shape} with {groups} groups does not fit input {x.shape}")
    strides = _attr_pair(call, "strides", spatial, 1)
    dilations = _attr_pair(call, "dilations", spatial, 1)
    image = b.channels_last(x)
    kernel = (w.shape[2], w.shape[3])
    pads = _explicit_pads(call, spatial, (image.shape[1], image.shape[2]), kernel, strides, dilations)
    common = {"strides": strides, "dilations": dilations, "pads": pads, "activation": "none"}
    bias = _bias(b, call)
    if groups == channels and groups > 1:
        # ONNX and TensorFlow both count output channels as input channel * multiplier + m
        kernel_t = b.constant(w.transpose(1, 2, 3, 0), call.inputs[1])
        y = b.add(Op.DEPTHWISE_CONV2D, image, kernel_t, *bias, **common)
    else:
        kernel_t = b.constant(w.transpose(0, 2, 3, 1), call.inputs[1])
        y = b.add(Op.CONV2D, image, kernel_t, *bias, groups=groups, **common)
    return b.channels_first(y, spatial + 2)


def conv_transpose(b: Builder, call: Call) -> Tensor:
    """ConvTranspose; dilations go into the kernel as zeros, groups become a block-diagonal kernel."""
    x = b.operand(call, 0)
    spatial = _check_rank(call, x)
    w = _weights(b, call, spatial)  # [in, out / groups, kh, kw]
    groups = int(call.attrs.get("group", 1))
    if w.ndim != 4 or w.shape[0] != x.shape[1] or w.shape[0] % groups:
        raise call.refuse(f"kernel {w.shape} with {groups} groups does not fit input {x.shape}")
    dilations = _attr_pair(call, "dilations", spatial, 1)
    check_count(call, w.size * groups * abs(dilations[0] * dilations[1]))
    w = _dilated(w, dilations)
    w = _block_diagonal(w, groups)
    strides = _attr_pair(call, "strides", spatial, 1)
    extra = _attr_pair(call, "output_padding", spatial, 0)
    image = b.channels_last(x)
    kernel = (w.shape[2], w.shape[3])
    full = [(n - 1) * s + k + e for n, s, k, e in zip(image.shape[1:3], strides, kernel, extra, strict=True)]
    mode = call.attrs.get("auto_pad", "NOTSET")
    wanted: list[int] | None = None
    if "output_shape" in call.attrs:
        wanted = [int(d) for d in call.attrs["output_shape"]][-spatial:]
        wanted = [1, *wanted] if spatial == 1 else wanted
    elif mode in ("SAME_UPPER", "SAME_LOWER"):
        wanted = [n * s for n, s in zip(image.shape[1:3], strides, strict=True)]
    if wanted is None:
        pads = _explicit_pads(call, spatial, (image.shape[1], image.shape[2]), kernel, strides, (1, 1))
    else:
        totals = [f - want for f, want in zip(full, wanted, strict=True)]
        if min(totals) < 0:
            raise call.refuse(f"output_shape {wanted} is larger than the {full} that the kernel covers")
        # the specification: the odd pixel goes to the end for SAME_UPPER, else to the beginning
        begins = [t // 2 if mode == "SAME_UPPER" else t - t // 2 for t in totals]
        pads = (begins[0], totals[0] - begins[0], begins[1], totals[1] - begins[1])
    height, width = full[0] - pads[0] - pads[1], full[1] - pads[2] - pads[3]
    y = b.add(
        Op.TRANSPOSE_CONV2D,
        image,
        b.constant(w.transpose(1, 2, 3, 0), call.inputs[1]),
        *_bias(b, call),
        strides=strides,
        pads=pads,
        output_shape=(image.shape[0], height, width, w.shape[1]),
        activation="none",
    )
    return b.channels_first(y, spatial + 2)


def _dilated(w: Array, dilations: Pair) -> Array:
    """The kernel with zeros between its taps."""
    if dilations == (1, 1):
        return w
    (dh, dw), (kh, kw) = dilations, w.shape[2:]
    wide = np.zeros((*w.shape[:2], (kh - 1) * dh + 1, (kw - 1) * dw + 1), w.dtype)
    wide[:, :, ::dh, ::dw] = w
    return wide


def _block_diagonal(w: Array, groups: int) -> Array:
    """[in, out / groups, kh, kw] of a grouped transposed convolution as [in, out, kh, kw] of a plain one."""
    if groups == 1:
        return w
    rows, columns = w.shape[0] // groups, w.shape[1]
    full = np.zeros((w.shape[0], columns * groups, *w.shape[2:]), w.dtype)
    for g in range(groups):
        full[g * rows : (g + 1) * rows, g * columns : (g + 1) * columns] = w[g * rows : (g + 1) * rows]
    return full


def _ceil_pads(
    call: Call, size: Pair, kernel: Pair, strides: Pair, pads: tuple[int, int, int, int]
) -> tuple[int, int, int, int]:
    """Padding with which plain flooring gives the number of windows that `ceil_mode` asks for.

    A last window that would begin in the padding after the image does not count (the
    specification and PyTorch).
    """
    if not call.attrs.get("ceil_mode", 0):
        return pads
    out = list(pads)
    for axis, (n, k, s) in enumerate(zip(size, kernel, strides, strict=True)):
        before, after = pads[2 * axis], pads[2 * axis + 1]
        count = -(-(n + before + after - k) // s) + 1
        if (count - 1) * s >= n + before:
            count -= 1
        out[2 * axis + 1] = max((count - 1) * s + k - n - before, 0)
    return (out[0], out[1], out[2], out[3])


def max_pool(b: Builder, call: Call) -> Tensor:
    """MaxPool; positions of the maxima are not supported."""
    if len([o for o in call.outputs if o]) > 1:
        raise call.refuse("the second output (indices of the maxima) is not supported")
    x = b.operand(call, 0)
    spatial = _check_rank(call, x)
    if _attr_pair(call, "dilations", spatial, 1) != (1, 1):
        raise call.refuse(f"dilations {call.attrs['dilations']}; only 1 is supported")
    kernel = _pair(call.attrs["kernel_shape"], spatial)
    strides = _attr_pair(call, "strides", spatial, 1)
    image = b.channels_last(x)
    size = (image.shape[1], image.shape[2])
    pads = _explicit_pads(call, spatial, size, kernel, strides, (1, 1))
    pads = _ceil_pads(call, size, kernel, strides, pads)
    y = b.add(Op.MAX_POOL2D, image, kernel=kernel, strides=strides, pads=pads)
    return b.channels_first(y, spatial + 2)


def average_pool(b: Builder, call: Call) -> Tensor:
    """AveragePool; the overhang that `ceil_mode` adds never counts towards the average."""
    x = b.operand(call, 0)
    spatial = _check_rank(call, x)
    if _attr_pair(call, "dilations", spatial, 1) != (1, 1):
        raise call.refuse(f"dilations {call.attrs['dilations']}; only 1 is supported")
    kernel = _pair(call.attrs["kernel_shape"], spatial)
    strides = _attr_pair(call, "strides", spatial, 1)
    image = b.channels_last(x)
    size = (image.shape[1], image.shape[2])
    stated = _explicit_pads(call, spatial, size, kernel, strides, (1, 1))
    pads = _ceil_pads(call, size, kernel, strides, stated)
    include = bool(call.attrs.get("count_include_pad", 0)) and any(stated)
    y = b.add(Op.AVERAGE_POOL2D, image, kernel=kernel, strides=strides, pads=pads, count_include_pad=include)
    if include and pads != stated:
        # count what the stated padding covers and correct the full-window divisor by it
        counts = [
            np.array([min(i * s + k, n + stated[2 * a] + stated[2 * a + 1]) - i * s for i in range(out)])
            for a, (n, k, s, out) in enumerate(zip(size, kernel, strides, y.shape[1:3], strict=True))
        ]
        factor = kernel[0] * kernel[1] / (counts[0][:, None] * counts[1][None, :])
        y = b.binary(Op.MUL, y, b.constant(factor[None, :, :, None], f"{call.name}:divisor"))
    return b.channels_first(y, spatial + 2)


def _global(op: Op) -> Handler:
    def handler(b: Builder, call: Call) -> Tensor:
        x = b.operand(call, 0)
        return b.add(op, x, axes=tuple(range(2, len(x.shape))), keepdims=True)

    return handler


def local_response(b: Builder, call: Call) -> Tensor:
    """LRN: the sum of squares over neighbouring channels is a 1x1 convolution with a band of ones."""
    x = b.operand(call, 0)
    spatial = _check_rank(call, x)
    size = int(call.attrs["size"])
    alpha, beta = float(call.attrs.get("alpha", 1e-4)), float(call.attrs.get("beta", 0.75))
    channels = x.shape[1]
    check_count(call, channels * channels)
    position = np.arange(channels)
    offset = position[None, :] - position[:, None]  # input channel minus output channel
    band = (offset >= -((size - 1) // 2)) & (offset <= size // 2)
    image = b.channels_last(x)
    total = b.add(
        Op.CONV2D,
        b.binary(Op.MUL, image, image),
        b.constant((band * (alpha / size)).astype(np.float32)[:, None, None, :], f"{call.name}:band"),
        b.constant(np.full(channels, call.attrs.get("bias", 1.0), np.float32), f"{call.name}:bias"),
        strides=(1, 1),
        dilations=(1, 1),
        pads=(0, 0, 0, 0),
        groups=1,
        activation="none",
    )
    scale = b.add(Op.POW, total, b.scalar(-beta, total))
    return b.channels_first(b.binary(Op.MUL, image, scale), spatial + 2)


HANDLERS: dict[str, Handler] = {
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "MaxPool": max_pool,
    "AveragePool": average_pool,
    "GlobalAveragePool": _global(Op.MEAN),
    "GlobalMaxPool": _global(Op.REDUCE_MAX),
    "LRN": local_response,
}
