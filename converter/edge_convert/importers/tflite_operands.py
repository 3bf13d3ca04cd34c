"""Operands and options that several operators of TensorFlow Lite files read alike."""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edge_convert.graph import Tensor
from edge_convert.importers.tflite_builder import Builder

# SIGN_BIT is not among them: no converter writes it and the graph cannot say it
_ACTIVATIONS = {
    schema.ActivationFunctionType.NONE: "none",
    schema.ActivationFunctionType.RELU: "relu",
    schema.ActivationFunctionType.RELU6: "relu6",
    schema.ActivationFunctionType.RELU_N1_TO_1: "relu_n1_to_1",
    schema.ActivationFunctionType.TANH: "tanh",
}


def activation(b: Builder, options: Any) -> str:
    """Its name as `graph.ACTIVATIONS` has it, or "tanh"."""
    number = options.fusedActivationFunction
    if number not in _ACTIVATIONS:
        raise b.refuse(f"fused activation {number}")
    return _ACTIVATIONS[number]


def bias(b: Builder, position: int, channels: int) -> list[Tensor]:
    """The bias when there is one, else nothing."""
    if not b.has(position):
        return []
    bias = b.operand(position)
    if bias.shape != (channels,):
        raise b.refuse(f"bias has shape {list(bias.shape)}; expected [{channels}]")
    return [bias]


def broadcasts(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Whether one shape spreads to the other."""
    try:
        return np.broadcast_shapes(shape, wanted) == wanted
    except ValueError:
        return False
