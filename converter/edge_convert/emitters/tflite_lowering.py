"""Tensors of a graph as they are written: float or int8, each conversion made once.

A float32 tensor of the graph has up to two forms in the file. Its own name belongs to the form that
the quantization gives it; the other one is made by a QUANTIZE or DEQUANTIZE the first time that a
node wants it, and shared from then on. What operators to write is `tflite_ops.py`'s matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any

import numpy as np

from edge_convert.emitters.tflite_rules import runs_in_int8
from edge_convert.emitters.tflite_writer import ModelWriter
from edge_convert.graph import Array, Graph, Node, Tensor
from edge_convert.quantizing.quantization import Quantization, QuantParams, quantize

_FLOAT16_MAX = 65504.0


class Form(StrEnum):
    """How the elements of a float tensor stand in the file."""

    FLOAT = "float"
    INT8 = "int8"


class Lowering:
    """The writer, and which of its tensors stands for which tensor of the graph."""

    def __init__(
        self, graph: Graph, quantization: Quantization | None, writer: ModelWriter, float16_weights: bool
    ) -> None:
        """Start with nothing written."""
        self.graph = graph
        self.writer = writer
        self._quantization = quantization
        self._float16_weights = float16_weights
        self._written: dict[tuple[str, Form], int] = {}
        self._biases: dict[tuple[str, bytes], int] = {}

    def runs_in_int8(self, node: Node) -> bool:
        """Whether this node is written with int8 activations."""
        return runs_in_int8(self.graph, node, self._quantization)

    def stays_whole(self, node: Node) -> bool:
        """Whether this node must be written as the one operator it is."""
        return self._quantization is not None and node.name in self._quantization.whole

    def params(self, name: str) -> QuantParams | None:
        """Parameters of a tensor, None when it stays float."""
        return None if self._quantization is None else self._quantization.params.get(name)

    def own_form(self, name: str) -> Form:
        """The form that bears the tensor's own name."""
        return Form.FLOAT if self.params(name) is None else Form.INT8

    def feed(self, name: str) -> int:
        """Declare a graph input."""
        return self._declare(name, self.own_form(name))

    def result(self, name: str, form: Form) -> int:
        """Declare the tensor that an operator is about to write."""
        return self._declare(name, form)

    def operand(self, name: str, form: Form) -> int:
        """The tensor in the wanted form: written already, a constant, or converted now."""
        if self.graph.tensor(name).dtype != "float32":
            form = Form.FLOAT
        if (name, form) not in self._written:
            tensor = self.graph.tensor(name)
            self._written[name, form] = (
                self._constant(tensor, form) if tensor.is_constant else self._convert(name, form)
            )
        return self._written[name, form]

    def bias(self, node: Node, form: Form) -> int:
        """The bias of a convolution or dense node; zeros when it has none.

        In int8 it is int32 with scale (input scale * weight scale), whatever the quantization says
        of it: the kernels assume this product.
        """
        channels = self._output_channels(node)
        name = node.inputs[2] if len(node.inputs) == 3 else f"{node.name}/bias"
        known = len(node.inputs) == 3
        if form is Form.FLOAT:
            return self.operand(name, form) if known else self.values(name, np.zeros(channels, np.float32))
        source, weights = self.params(node.inputs[0]), self.params(node.inputs[1])
        assert source is not None and weights is not None and self._quantization is not None
        scale = np.atleast_1d(weights.scale * source.scale).astype(np.float32)
        axis = None if weights.axis is None else 0
        zeros = np.zeros(scale.shape, np.int32)
        params = QuantParams(scale, zeros, "int32", axis)
        key = (name, scale.tobytes())
        if key not in self._biases:
            if name in self._quantization.codes:  # corrected; there may be some where there was no bias
                codes: Array = self._quantization.codes[name]
            elif not known:
                codes = np.zeros(channels, np.int32)
            else:
                per_tensor = QuantParams(scale[0], zeros[0], "int32")
                codes = quantize(self.graph.constant(name).reshape(-1), params if axis == 0 else per_tensor)
            self._biases[key] = self.writer.tensor(name, codes.shape, "int32", codes, params)
        return self._biases[key]

    def values(self, name: str, data: Array) -> int:
        """A constant as it is: shapes, axes, paddings, zero biases."""
        return self.writer.tensor(name, data.shape, str(data.dtype), data)

    def temporary(self, name: str, shape: Sequence[int], form: Form, params: QuantParams | None) -> int:
        """A tensor that the graph does not know, between two operators of one node."""
        if form is Form.FLOAT:
            return self.writer.tensor(name, shape, "float32")
        return self.writer.tensor(name, shape, "int8", params=params)

    def operator(self, code: str, inputs: Sequence[int], outputs: Sequence[int], options: Any = None) -> None:
        """Write one operator."""
        self.writer.operator(code, inputs, outputs, options)

    def _declare(self, name: str, form: Form) -> int:
        tensor = self.graph.tensor(name)
        if tensor.dtype != "float32":
            index = self.writer.tensor(name, tensor.shape, tensor.dtype)
            form = Form.FLOAT
        elif form is Form.INT8:
            index = self.writer.tensor(name, tensor.shape, "int8", params=self.params(name))
        else:
            index = self.writer.tensor(self._float_name(name), tensor.shape, "float32")
        self._written[name, form] = index
        return index

    def _float_name(self, name: str) -> str:
        return name if self.own_form(name) is Form.FLOAT else f"{name}/float"

    def _convert(self, name: str, form: Form) -> int:
        other = Form.INT8 if form is Form.FLOAT else Form.FLOAT
        source = self._written[name, other]
        target = self._declare(name, form)
        self.operator("DEQUANTIZE" if form is Form.FLOAT else "QUANTIZE", [source], [target])
        return target

    def _constant(self, tensor: Tensor, form: Form) -> int:
        assert tensor.data is not None
        if form is Form.INT8:
            assert self._quantization is not None
            params = self._quantization.params[tensor.name]
            codes = self._quantization.codes.get(tensor.name)
            if codes is None:
                codes = quantize(tensor.data, params)
            return self.writer.tensor(tensor.name, tensor.shape, "int8", codes.astype(np.int8), params)
        if tensor.dtype == "float32":
            return self._float_constant(tensor.name, tensor.data)
        return self.values(tensor.name, tensor.data)

    def _float_constant(self, name: str, data: Array) -> int:
        if not self._float16_weights or np.abs(data).max(initial=0.0) > _FLOAT16_MAX:
            return self.writer.tensor(self._float_name(name), data.shape, "float32", data)
        half = self.writer.tensor(f"{name}/half", data.shape, "float16", data.astype(np.float16))
        single = self.writer.tensor(self._float_name(name), data.shape, "float32")
        self.operator("DEQUANTIZE", [half], [single])
        return single

    def _output_channels(self, node: Node) -> int:
        return self.graph.tensor(node.output).shape[-1]
