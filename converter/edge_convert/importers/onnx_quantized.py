"""Quantized ONNX models as the float models that they stand for.

A value of codes becomes the real number that it means: quantizing a value leaves it as it is, but for the
lower end of its range where that end is 0, which is how quantizers say Relu. Weights are dequantized. The
model's own quantization noise is gone, and the recipes decide anew what becomes an integer.

Three forms: Q/DQ pairs around float operators, operators on codes (QLinearConv ...), and ranges found at
run time (DynamicQuantizeLinear, ConvInteger). In the last one a code is taken to be the value and the
scale to be 1, so that what follows, which multiplies by the scale, is right without being known.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from edge_convert.errors import UnsupportedFeature
from edge_convert.graph import Array, Op, Tensor
from edge_convert.importers import onnx_conv, onnx_matrix
from edge_convert.importers.onnx_builder import Builder, Call, Codes, Handler

# Reading codes without computing: their result has the codes of their input.
MOVES = frozenset(
    {
        "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Slice", "Gather", "Split", "Concat",
        "MaxPool", "Expand", "Tile", "Identity", "DepthToSpace", "SpaceToDepth",
    }
)  # fmt: skip

_NEVER_NEGATIVE = frozenset({Op.RELU, Op.RELU6, Op.SIGMOID, Op.SOFTMAX, Op.ABS, Op.EXP, Op.SQRT})
_SIX = 0.01  # a range that ends this near to 6, relatively, is Relu6's


def _codes(b: Builder, call: Call, scale: int, zero: int | None) -> Codes:
    """What quantization parameters among the inputs say.

    Raises:
        UnsupportedFeature: They are computed from the model's inputs.
    """
    scales = b.elements(call, scale, "the scale").astype(np.float32)
    given = zero is not None and call.has(zero)
    zeros = b.elements(call, zero, "the zero point") if given and zero is not None else np.zeros(1, np.uint8)
    return Codes(scales, zeros.astype(np.int64), str(zeros.dtype))


def _lowest(dtype: str) -> int:
    return {"uint8": 0, "int8": -128, "uint16": 0, "int16": -32768}.get(dtype, -(2**31))


def _highest(dtype: str) -> int:
    return {"uint8": 255, "int8": 127, "uint16": 65535, "int16": 32767}.get(dtype, 2**31 - 1)


def _saturated(b: Builder, x: Tensor, codes: Codes) -> Tensor:
    """The value behind a Relu or Relu6 where the codes' range says one."""
    if codes.zero.size != 1 or int(codes.zero.ravel()[0]) != _lowest(codes.dtype):
        return x
    top = (_highest(codes.dtype) - _lowest(codes.dtype)) * float(codes.scale.ravel()[0])
    if b.is_input(x) or (b.producer_of(x) in _NEVER_NEGATIVE):
        return x
    return b.add(Op.RELU6 if abs(top - 6.0) < 6.0 * _SIX else Op.RELU, x)


def quantize_linear(b: Builder, call: Call) -> Tensor:
    """QuantizeLinear: the value stays what it is; that it is codes now is kept beside it."""
    x, codes = b.operand(call, 0), _codes(b, call, 1, 2)
    if codes.scale.size != 1:
        raise call.refuse("activations quantized per channel are not supported")
    y = _saturated(b, x, codes)
    b.codes[call.outputs[0]] = codes
    return y


def dequantize_linear(b: Builder, call: Call) -> Tensor:
    """DequantizeLinear of codes that were a value: that value, if both say the same of them."""
    codes, wanted = b.codes.get(call.inputs[0]), _codes(b, call, 1, 2)
    if codes is None:
        raise call.refuse("its codes are computed by an operator that is not followed")
    if not np.allclose(codes.scale, wanted.scale, rtol=1e-5) or not (codes.zero == wanted.zero).all():
        raise call.refuse("its scale or zero point is not that with which its input was quantized")
    return b.operand(call, 0)


def dynamic_quantize_linear(b: Builder, call: Call) -> Tensor:
    """DynamicQuantizeLinear: the codes are taken to be the value, the scale to be 1."""
    b.codes[call.outputs[0]] = Codes(np.ones(1, np.float32), np.zeros(1, np.int64), "uint8")
    for name, value in zip(call.outputs[1:], (np.float32(1), np.uint8(0)), strict=False):
        if name:
            b.known[name] = np.asarray(value)
    return b.operand(call, 0)


def _dequantized(weights: Array, codes: Codes, axis: int) -> Array:
    parts = []
    for part in (codes.zero.astype(np.float32), codes.scale):
        shape = [1] * weights.ndim
        if part.size > 1:
            shape[axis] = part.size
        parts.append(part.reshape(shape))
    result: Array = (weights.astype(np.float32) - parts[0]) * parts[1]
    return result


def _float_call(b: Builder, call: Call, operator: str, *constants: Array | None) -> Call:
    """The float operator on the same value and attributes, with constants after it."""
    names = [call.inputs[0]]
    for position, data in enumerate(constants):
        name = "" if data is None else f"{call.name}:float{position}"
        if data is not None:
            b.known[name] = data
        names.append(name)
    return replace(call, operator=operator, inputs=tuple(names))


def qlinear_conv(b: Builder, call: Call) -> Tensor:
    """QLinearConv(x, scale, zero, w, scale, zero, y's scale, zero, bias)."""
    source, weights, result = (_codes(b, call, i, i + 1) for i in (1, 4, 6))
    if not _same(b.codes.get(call.inputs[0]), source):
        raise call.refuse("its input is not quantized with the scale that it states")
    kernel = _dequantized(b.elements(call, 3, "the kernel"), weights, 0)
    bias: Array | None = None
    if call.has(8):
        scale = source.scale.ravel()[0] * weights.scale.ravel()
        bias = (b.elements(call, 8, "the bias") * scale).astype(np.float32)
    y = onnx_conv.conv(b, _float_call(b, call, "Conv", kernel, bias))
    b.codes[call.outputs[0]] = result
    return _saturated(b, y, result)


def qlinear_matmul(b: Builder, call: Call) -> Tensor:
    """QLinearMatMul(a, scale, zero, b, scale, zero, y's scale, zero) with constant b."""
    source, weights, result = (_codes(b, call, i, i + 1) for i in (1, 4, 6))
    if not _same(b.codes.get(call.inputs[0]), source):
        raise call.refuse("its input is not quantized with the scale that it states")
    matrix = _dequantized(b.elements(call, 3, "the second matrix"), weights, -1)
    y = onnx_matrix.matmul(b, _float_call(b, call, "MatMul", matrix))
    b.codes[call.outputs[0]] = result
    return _saturated(b, y, result)


def _same(codes: Codes | None, stated: Codes) -> bool:
    return codes is not None and np.allclose(codes.scale, stated.scale, rtol=1e-5)


def _integer(operator: str, handler: Any, axis: int) -> Handler:
    """ConvInteger and MatMulInteger(x, w, x's zero, w's zero): sums of products of codes."""

    def handle(b: Builder, call: Call) -> Tensor:
        codes = b.codes.get(call.inputs[0])
        if codes is None or codes.zero.any():
            raise call.refuse("its input is not the result of a DynamicQuantizeLinear")
        zero = b.elements(call, 3, "the zero point") if call.has(3) else np.zeros(1)
        ones = Codes(np.ones(1, np.float32), zero.astype(np.int64), "uint8")
        weights = _dequantized(b.elements(call, 1, "the weights"), ones, axis)
        made: Tensor = handler(b, _float_call(b, call, operator, weights))
        return made

    return handle


def check_codes(b: Builder, call: Call) -> None:
    """Refuse an operator that would compute with codes, and hand codes on through one that moves them.

    Raises:
        UnsupportedFeature: The operator reads integer codes and is not among those that may.
    """
    read = [b.codes[name] for name in call.inputs if name in b.codes]
    if not read or call.operator in HANDLERS:
        return
    if call.operator not in MOVES:
        raise UnsupportedFeature(
            f"{call.source} reads integer codes; convert the float model that it was made from"
        )
    if call.operator == "Concat" and (
        len(read) < len(call.inputs) or any(not _same(codes, read[0]) for codes in read)
    ):
        raise UnsupportedFeature(f"{call.source} joins codes of different scales")
    b.codes |= dict.fromkeys((name for name in call.outputs if name), read[0])


HANDLERS: dict[str, Handler] = {
    "QuantizeLinear": quantize_linear,
    "DequantizeLinear": dequantize_linear,
    "DynamicQuantizeLinear": dynamic_quantize_linear,
    "QLinearConv": qlinear_conv,
    "QLinearMatMul": qlinear_matmul,
    "ConvInteger": _integer("Conv", onnx_conv.conv, 0),
    "MatMulInteger": _integer("MatMul", onnx_matrix.matmul, -1),
}
