"""Which version of a TensorFlow Lite operator a use of it needs, and since which runtime it is there.

A file must carry the *lowest* version that describes it: runtimes and the Edge TPU compiler refuse
an operator whose version they do not know ("Didn't find op for builtin opcode 'CONV_2D' version 6"),
and quantizers that leave every version at 1 are as wrong as those that write the newest.

Source: tensorflow/compiler/mlir/lite/tools/versioning/op_version.cc (the rule for each operator) and
tensorflow/lite/tools/versioning/runtime_version.cc (the runtime of each version), restricted to what
our writer can write: float32, float16 constants, int8, int32, int64 and bool.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Operand:
    """What a version rule asks of one tensor.

    Args:
        type: TensorFlow Lite's name of the element type: "FLOAT32", "INT8", ...
        per_channel: Quantized with more than one scale.
        scale: Of a tensor quantized as a whole, else 0.
    """

    type: str
    shape: tuple[int, ...]
    per_channel: bool = False
    scale: float = 0.0


Rule = Callable[[Sequence[Operand], Sequence[Operand], Any], int]


def _int8_is_2(inputs: Sequence[Operand], outputs: Sequence[Operand], options: Any) -> int:
    return 2 if inputs[0].type == "INT8" else 1


def _conv_2d(inputs: Sequence[Operand], outputs: Sequence[Operand], options: Any) -> int:
    if inputs[0].shape[3] != inputs[1].shape[3]:
        return 6  # grouped
    return 3 if inputs[0].type == "INT8" else 1


def _depthwise_conv_2d(inputs: Sequence[Operand], outputs: Sequence[Operand], options: Any) -> int:
    if inputs[0].type == "INT8":
        return 3
    return 2 if (options.dilationHFactor, options.dilationWFactor) != (1, 1) else 1


def _fully_connected(inputs: Sequence[Operand], outputs: Sequence[Operand], options: Any) -> int:
    if options.keepNumDims:
        return 5
    return 4 if inputs[0].type == "INT8" else 1


def _transpose_conv(inputs: Sequence[Operand], outputs: Sequence[Operand], options: Any) -> int:
    return 3  # our writer always gives the bias, which is what version 3 brought


def _mul(inputs: Sequence[Operand], outputs: Sequence[Operand], options: Any) -> int:
    if inputs[0].type == "INT64":
        return 5
    scales = (inputs[0].scale, inputs[1].scale, outputs[0].scale)
    if all(scales) and scales[0] * scales[1] / scales[2] >= 1.0:
        return 3
    return 2 if inputs[0].type == "INT8" else 1


def _add(inputs: Sequence[Operand], outputs: Sequence[Operand], options: Any) -> int:
    return 4 if inputs[0].type == "INT64" else _int8_is_2(inputs, outputs, options)


def _broadcasts_beyond_4(inputs: Sequence[Operand]) -> bool:
    return inputs[0].shape != inputs[1].shape and max(len(i.shape) for i in inputs) > 4


def _sub(inputs: Sequence[Operand], outputs: Sequence[Operand], options: Any) -> int:
    if inputs[0].type == "INT64":
        return 4
    return 3 if _broadcasts_beyond_4(inputs) else _int8_is_2(inputs, outputs, options)


def _div(inputs: Sequence[Operand], outputs: Sequence[Operand], options: Any) -> int:
    return 2 if _broadcasts_beyond_4(inputs) else 1


def _minimum_maximum(inputs: Sequence[Operand], outputs: Sequence[Operand], options: Any) -> int:
    return 3 if _broadcasts_beyond_4(inputs) else _int8_is_2(inputs, outputs, options)


def _transpose(inputs: Sequence[Operand], outputs: Sequence[Operand], options: Any) -> int:
    rank = len(inputs[0].shape)
    if rank > 4:
        return {5: 4, 6: 6}.get(rank, 8)
    return {"BOOL": 3, "INT8": 2}.get(inputs[0].type, 1)


def _pad(inputs: Sequence[Operand], outputs: Sequence[Operand], options: Any) -> int:
    return 4 if len(inputs[0].shape) > 4 else _int8_is_2(inputs, outputs, options)


def _slice(inputs: Sequence[Operand], outputs: Sequence[Operand], options: Any) -> int:
    return 5 if len(inputs[0].shape) > 4 else _int8_is_2(inputs, outputs, options)


def _strided_slice(inputs: Sequence[Operand], outputs: Sequence[Operand], options: Any) -> int:
    if len(inputs[0].shape) > 4:
        return 4
    return {"BOOL": 3, "INT8": 2}.get(inputs[0].type, 1)


def _gather(inputs: Sequence[Operand], outputs: Sequence[Operand], options: Any) -> int:
    return {"BOOL": 3, "INT8": 2}.get(inputs[0].type, 1)


def _tile(inputs: Sequence[Operand], outputs: Sequence[Operand], options: Any) -> int:
    return 3 if inputs[0].type == "INT8" else 1


def _broadcast_to(inputs: Sequence[Operand], outputs: Sequence[Operand], options: Any) -> int:
    return 3 if inputs[0].type == "INT8" else 2  # version 1 was withdrawn


def _resize_bilinear(inputs: Sequence[Operand], outputs: Sequence[Operand], options: Any) -> int:
    return 3 if options.halfPixelCenters else _int8_is_2(inputs, outputs, options)


def _resize_nearest(inputs: Sequence[Operand], outputs: Sequence[Operand], options: Any) -> int:
    if options.halfPixelCenters or options.alignCorners:
        return 3
    return _int8_is_2(inputs, outputs, options)


def _dequantize(inputs: Sequence[Operand], outputs: Sequence[Operand], options: Any) -> int:
    if inputs[0].type == "FLOAT16":
        return 3
    if inputs[0].type == "INT8":
        return 5 if inputs[0].per_channel else 2
    return 1


def _abs(inputs: Sequence[Operand], outputs: Sequence[Operand], options: Any) -> int:
    return {"INT32": 5, "INT8": 2}.get(inputs[0].type, 1)


# An operator that is not here is at version 1 in every use that we write.
_RULES: dict[str, Rule] = {
    "ABS": _abs,
    "ADD": _add,
    "ARG_MAX": _int8_is_2,
    "AVERAGE_POOL_2D": _int8_is_2,
    "BATCH_MATMUL": _int8_is_2,
    "BROADCAST_TO": _broadcast_to,
    "CONCATENATION": _int8_is_2,
    "CONV_2D": _conv_2d,
    "DEPTHWISE_CONV_2D": _depthwise_conv_2d,
    "DEPTH_TO_SPACE": _int8_is_2,
    "DEQUANTIZE": _dequantize,
    "DIV": _div,
    "EXP": _int8_is_2,
    "FULLY_CONNECTED": _fully_connected,
    "GATHER": _gather,
    "GELU": _int8_is_2,
    "L2_NORMALIZATION": _int8_is_2,
    "LOGISTIC": _int8_is_2,
    "LOG_SOFTMAX": _int8_is_2,
    "MAXIMUM": _minimum_maximum,
    "MAX_POOL_2D": _int8_is_2,
    "MEAN": _int8_is_2,
    "MINIMUM": _minimum_maximum,
    "MIRROR_PAD": _int8_is_2,
    "MUL": _mul,
    "PAD": _pad,
    "PADV2": _pad,
    "REDUCE_MAX": _int8_is_2,
    "REDUCE_MIN": _int8_is_2,
    "RELU": _int8_is_2,
    "RELU6": _int8_is_2,
    "RESIZE_BILINEAR": _resize_bilinear,
    "RESIZE_NEAREST_NEIGHBOR": _resize_nearest,
    "RSQRT": _int8_is_2,
    "SLICE": _slice,
    "SOFTMAX": _int8_is_2,
    "SPACE_TO_DEPTH": _int8_is_2,
    "STRIDED_SLICE": _strided_slice,
    "SUB": _sub,
    "SUM": _int8_is_2,
    "TANH": _int8_is_2,
    "TILE": _tile,
    "TRANSPOSE": _transpose,
    "TRANSPOSE_CONV": _transpose_conv,
}

# (operator, version) -> the first TensorFlow Lite runtime that has it; absent is older than 1.14.
# The 2.10 to 2.17 lines postdate the copy of runtime_version.cc and follow the release notes' order.
_SINCE: dict[tuple[str, int], str] = {
    ("ABS", 2): "2.4.0",
    ("ABS", 5): "2.13.0",
    ("ADD", 4): "2.6.0",
    ("BATCH_MATMUL", 1): "2.3.0",
    ("BATCH_MATMUL", 2): "2.3.0",
    ("BROADCAST_TO", 2): "2.5.0",
    ("BROADCAST_TO", 3): "2.5.0",
    ("CONV_2D", 6): "2.9.0",
    ("DEPTH_TO_SPACE", 1): "2.1.0",
    ("DEPTH_TO_SPACE", 2): "2.5.0",
    ("DEQUANTIZE", 3): "1.15.0",
    ("DEQUANTIZE", 5): "2.7.0",
    ("DIV", 2): "2.3.0",
    ("EXP", 2): "2.12.0",
    ("FULLY_CONNECTED", 5): "2.0.0",
    ("GATHER", 3): "1.15.0",
    ("GELU", 1): "2.9.0",
    ("GELU", 2): "2.9.0",
    ("HARD_SWISH", 1): "1.15.0",
    ("MAXIMUM", 3): "2.3.0",
    ("MINIMUM", 3): "2.3.0",
    ("MIRROR_PAD", 2): "2.3.0",
    ("MUL", 3): "1.15.0",
    ("MUL", 5): "2.6.0",
    ("PAD", 4): "2.6.0",
    ("PADV2", 4): "2.6.0",
    ("RELU", 2): "2.1.0",
    ("RESIZE_BILINEAR", 3): "2.2.0",
    ("RESIZE_NEAREST_NEIGHBOR", 3): "2.3.0",
    ("RSQRT", 2): "2.5.0",
    ("SELECT_V2", 1): "2.2.0",
    ("SLICE", 5): "2.5.0",
    ("STRIDED_SLICE", 3): "2.1.0",
    ("STRIDED_SLICE", 4): "2.2.0",
    ("SUB", 3): "2.3.0",
    ("SUB", 4): "2.4.0",
    ("SUM", 2): "1.15.0",
    ("TILE", 3): "2.8.0",
    ("TRANSPOSE", 3): "1.15.0",
    ("TRANSPOSE", 4): "2.3.0",
    ("TRANSPOSE", 6): "2.12.0",
    ("TRANSPOSE", 8): "2.17.0",
    ("TRANSPOSE_CONV", 3): "2.3.0",
}
_OLDEST = "1.14.0"


def required(code: str, inputs: Sequence[Operand], outputs: Sequence[Operand], options: Any) -> int:
    """The lowest version of the operator `code` that describes this use.

    Args:
        options: The operator's options of the flatbuffer object API, or None.
    """
    rule = _RULES.get(code)
    return 1 if rule is None else rule(inputs, outputs, options)


def oldest_runtime(used: Sequence[tuple[str, int]]) -> str:
    """The first TensorFlow Lite runtime that has all these (operator, version) pairs: "2.3.0"."""
    versions = [_SINCE.get(pair, _OLDEST) for pair in used] or [_OLDEST]
    return max(versions, key=lambda text: tuple(int(part) for part in text.split(".")))
