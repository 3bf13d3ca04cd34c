"""What one operator of a TensorFlow Lite file costs, counted from its tensors' shapes."""

from __future__ import annotations

import math
from collections.abc import Callable

from edge_convert.importers.tflite_file import ModelFile, OperatorRecord, TensorRecord

# Multiply-accumulates per element of the counted tensor, from the weights' shape; the counted tensor is
# the output, and for the transposed convolution the data (input 2).
_PER_ELEMENT: dict[str, tuple[int, Callable[[tuple[int, ...]], int]]] = {
    "CONV_2D": (1, lambda weights: math.prod(weights[1:])),
    "DEPTHWISE_CONV_2D": (1, lambda weights: math.prod(weights[1:3])),
    "TRANSPOSE_CONV": (1, lambda weights: math.prod(weights[:3])),
    "FULLY_CONNECTED": (1, lambda weights: weights[-1]),
}


def macs_of(file: ModelFile, operator: OperatorRecord) -> int:
    """Multiply-accumulates of one inference; what only moves or compares numbers counts as none."""
    inputs = [file.tensors[i] for i in operator.inputs if i >= 0]
    outputs = [file.tensors[i] for i in operator.outputs if i >= 0]
    if operator.code == "BATCH_MATMUL" and len(inputs) == 2 and outputs and inputs[0].shape:
        inner = inputs[0].shape[-2 if getattr(operator.options, "adjX", False) else -1]
        return _size(outputs[0]) * inner
    known = _PER_ELEMENT.get(operator.code)
    if known is None or len(inputs) <= known[0] or not outputs or not inputs[known[0]].shape:
        return 0
    counted = inputs[2] if operator.code == "TRANSPOSE_CONV" and len(inputs) > 2 else outputs[0]
    return _size(counted) * known[1](inputs[known[0]].shape)


def parameter_bytes_of(file: ModelFile, operator: OperatorRecord) -> int:
    """Stored bytes of the operator's constants."""
    return sum(len(raw) for i in operator.inputs if i >= 0 and (raw := file.tensors[i].raw) is not None)


def _size(tensor: TensorRecord) -> int:
    return math.prod(max(d, 1) for d in tensor.shape)
