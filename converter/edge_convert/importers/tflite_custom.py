"""Custom operators of TensorFlow Lite files that are the built-in ones under another name.

Their options are no flatbuffer table but the bytes of the C structure that their kernel reads.
"""

from __future__ import annotations

import struct

from edge_convert.emitters.tflite_padding import same_pads
from edge_convert.graph import Op, Tensor
from edge_convert.importers.tflite_builder import Builder, Handler

_LARGEST_STRIDE = 4096
_SAME, _VALID = 1, 2  # TfLitePadding of lite/core/c/builtin_op_data.h


def _transpose_conv_bias(b: Builder, options: bytes) -> Tensor:
    """Convolution2DTransposeBias: TRANSPOSE_CONV with its bias, the result's size left unsaid.

    Source: mediapipe/util/tflite/operations/transpose_conv_bias.cc; options are TfLiteTransposeConvParams.
    """
    if len(options) < 12:
        raise b.refuse(f"{len(options)} bytes of options; expected padding and two strides")
    padding, stride_w, stride_h = struct.unpack("<3i", options[:12])
    if padding not in (_SAME, _VALID) or not all(1 <= s <= _LARGEST_STRIDE for s in (stride_w, stride_h)):
        raise b.refuse(f"padding {padding} and strides {(stride_h, stride_w)}")
    x, weights, bias = b.operand(0), b.operand(1), b.operand(2)
    fits = len(x.shape) == len(weights.shape) == 4 and bias.shape == weights.shape[:1]
    if not fits or weights.shape[3] != x.shape[3]:
        raise b.refuse(f"weights of shape {list(weights.shape)} for an input of shape {list(x.shape)}")
    n, h, w, _ = x.shape
    out, kernel_h, kernel_w, _ = weights.shape
    if padding == _SAME:
        height, width = h * stride_h, w * stride_w
    else:
        height, width = (h - 1) * stride_h + kernel_h, (w - 1) * stride_w + kernel_w
    pads = same_pads((height, width), (kernel_h, kernel_w), (stride_h, stride_w))
    return b.add(
        Op.TRANSPOSE_CONV2D,
        x,
        weights,
        bias,
        strides=(stride_h, stride_w),
        pads=pads if padding == _SAME else (0, 0, 0, 0),
        output_shape=(n, height, width, out),
        activation="none",
    )


# by the custom operator's name; options are its raw bytes
HANDLERS: dict[str, Handler] = {"Convolution2DTransposeBias": _transpose_conv_bias}
