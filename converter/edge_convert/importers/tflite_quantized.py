"""Quantized TensorFlow Lite files as the float models that they stand for.

A tensor of codes becomes a float tensor of what they mean, QUANTIZE and DEQUANTIZE between computed tensors
disappear, and a range that begins at 0 is a Relu (Relu6 where it ends at 6) where nothing else keeps the
value from being negative (the kernels saturate there; converters drop the Relu for it).
"""

from __future__ import annotations

from typing import Any

from edge_convert.graph import Node, Op, Tensor
from edge_convert.importers.tflite_builder import Builder, Handler
from edge_convert.importers.tflite_file import TensorRecord

CODES = {"INT8": -128, "UINT8": 0, "INT16": -32768}  # element type -> lowest code
_SIX = 0.01  # a range that ends this near to 6, relatively, is Relu6's
_MOVES = frozenset({Op.RESHAPE, Op.TRANSPOSE, Op.SLICE, Op.MAX_POOL2D, Op.AVERAGE_POOL2D, Op.CONCAT})
_NEVER_NEGATIVE = frozenset({Op.RELU, Op.RELU6, Op.SIGMOID, Op.SOFTMAX, Op.ABS, Op.EXP, Op.SQRT})


def is_codes(record: TensorRecord) -> bool:
    """Whether the tensor holds integers that stand for real numbers."""
    return record.type in CODES and record.quantization is not None


def saturated(b: Builder, x: Tensor, record: TensorRecord) -> Tensor:
    """The value of a tensor of codes, behind a RELU where its range begins at 0."""
    if not is_codes(record) or x.dtype != "float32" or x.data is not None:
        return x
    assert record.quantization is not None
    zeros = record.quantization.zero_point
    if zeros.size != 1 or int(zeros[0]) != CODES[record.type] or _never_negative(b, x):
        return x
    top = 255 * float(record.quantization.scale[0])
    is_six = record.type != "INT16" and abs(top - 6.0) < 6.0 * _SIX
    return b.add(Op.RELU6 if is_six else Op.RELU, x)


def _never_negative(b: Builder, x: Tensor) -> bool:
    """Whether the value cannot be below 0, or nothing computes it; looks through what moves elements."""
    seen = 0
    waiting = [x.name]
    while waiting and seen < 64:
        node: Node | None = b.maker(waiting.pop())
        seen += 1
        if node is None:
            continue
        if node.op in _MOVES:
            waiting += node.inputs
        elif node.op not in _NEVER_NEGATIVE and node.attrs.get("activation") not in ("relu", "relu6"):
            return False
    return not waiting


def _as_it_is(b: Builder, options: Any) -> Tensor:
    return b.operand(0)


HANDLERS: dict[str, Handler] = {"QUANTIZE": _as_it_is, "DEQUANTIZE": _as_it_is}
