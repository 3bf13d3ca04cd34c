"""Convolutions, pools and resizing of images in TensorFlow Lite files: padding becomes explicit."""

from __future__ import annotations

from typing import Any

from ai_edge_litert import schema_py_generated as schema

from edge_convert.emitters.tflite_padding import NO_PADS, Pads, same_pads
from edge_convert.graph import Op, Tensor
from edge_convert.importers.tflite_builder import Builder, Handler
from edge_convert.importers.tflite_operands import activation, bias

# SAME padding grows with the window: a forged one must not become gigabytes of zeros
_LARGEST_WINDOW = 4096


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


def _convolution_inputs(b: Builder, channel_axis: int) -> list[Tensor]:
    """Image, weights and bias; `channel_axis` is that of the output channels in the weights."""
    x, weights = b.operand(0), b.operand(1)
    _image(b, x)
    if len(weights.shape) != 4:
        raise b.refuse(f"weights have shape {list(weights.shape)}; expected four dimensions")
    return [x, weights, *bias(b, 2, weights.shape[channel_axis])]


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
        activation(b, options),
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
        activation(b, options),
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
    inputs = [x, weights, *bias(b, 3, shape[3])]
    return b.activated(
        Op.TRANSPOSE_CONV2D,
        activation(b, options),
        *inputs,
        strides=_strides(b, options),
        pads=_pads(b, options, (shape[1], shape[2]), kernel),
        output_shape=(n, *shape[1:]),
    )


def _pool(b: Builder, options: Any, op: Op, x: Tensor, **attrs: Any) -> Tensor:
    _, h, w, _ = _image(b, x)
    kernel = (int(options.filterHeight), int(options.filterWidth))
    if not 1 <= min(kernel) <= max(kernel) <= _LARGEST_WINDOW:
        raise b.refuse(f"a window of {kernel}; expected sides of 1 to {_LARGEST_WINDOW}")
    pads = _pads(b, options, (h, w), kernel)
    return b.add(op, x, kernel=kernel, strides=_strides(b, options), pads=pads, **attrs)


def _max_pool(b: Builder, options: Any) -> Tensor:
    return b.then(_pool(b, options, Op.MAX_POOL2D, b.operand(0)), activation(b, options))


def _average_pool(b: Builder, options: Any) -> Tensor:
    pooled = _pool(b, options, Op.AVERAGE_POOL2D, b.operand(0), count_include_pad=False)
    return b.then(pooled, activation(b, options))


def _l2_pool(b: Builder, options: Any) -> Tensor:
    square = b.add(Op.MUL, b.operand(0), b.operand(0), activation="none")
    mean = _pool(b, options, Op.AVERAGE_POOL2D, square, count_include_pad=False)
    return b.then(b.add(Op.SQRT, mean), activation(b, options))


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


HANDLERS: dict[str, Handler] = {
    "AVERAGE_POOL_2D": _average_pool,
    "CONV_2D": _conv_2d,
    "DEPTHWISE_CONV_2D": _depthwise_conv_2d,
    "DEPTH_TO_SPACE": _block(Op.DEPTH_TO_SPACE),
    "L2_POOL_2D": _l2_pool,
    "MAX_POOL_2D": _max_pool,
    "RESIZE_BILINEAR": _resize(Op.RESIZE_BILINEAR),
    "RESIZE_NEAREST_NEIGHBOR": _resize(Op.RESIZE_NEAREST),
    "SPACE_TO_DEPTH": _block(Op.SPACE_TO_DEPTH),
    "TRANSPOSE_CONV": _transpose_conv,
}
