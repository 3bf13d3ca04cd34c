"""Tensors of a graph as OpenVINO values: NHWC as the graph has them, or NCHW as OpenVINO's image operators
want them, each conversion made once.

A chain of image operators stays in NCHW from end to end; a Transpose stands only where something needs
the graph's own order (a reshape, a dense layer, the rim). What operators to write is `openvino_ops.py`'s
matter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any

import numpy as np
import openvino.opset13 as ops

from edge_convert.graph import Array, Graph, Node
from edge_convert.quantizing.quantization import Quantization, QuantParams, dequantize, quantize
from edge_convert.quantizing.simulate import bias_name, bias_params, multiplies_codes

Value = Any  # openvino.Output: the runtime has no type information

TO_NCHW = (0, 3, 1, 2)
TO_NHWC = (0, 2, 3, 1)
_LEVELS = 256


class Form(StrEnum):
    """In what order the axes of a tensor with four of them stand."""

    GRAPH = "graph"
    NCHW = "nchw"


class Lowering:
    """Which OpenVINO value stands for which tensor of the graph."""

    def __init__(self, graph: Graph, quantization: Quantization | None) -> None:
        """Start with nothing written."""
        self.graph = graph
        self._quantization = quantization or Quantization({})
        self._values: dict[tuple[str, Form], Value] = {}
        self._own: dict[str, Form] = {}

    def own_form(self, name: str) -> Form:
        """The form in which the tensor was computed; the graph's for constants."""
        return self._own.get(name, Form.GRAPH)

    def feed(self, name: str) -> Value:
        """Declare a graph input, and give the Parameter."""
        tensor = self.graph.tensor(name)
        parameter = ops.parameter(list(tensor.shape), np.dtype(tensor.dtype), name=name)
        self.result(name, Form.GRAPH, parameter.output(0))
        return parameter

    def result(self, name: str, form: Form, value: Value) -> None:
        """Take the value that an operator computed; it is rounded to its grid if it has one."""
        if len(self.graph.tensor(name).shape) != 4:
            form = Form.GRAPH
        params = self._quantization.params.get(name)
        if params is not None and self.graph.tensor(name).dtype == "float32":
            value = rounded(value, params, f"{name}/rounded")
        self._values[name, form] = value
        self._own[name] = form

    def operand(self, name: str, form: Form, rank: int = 4) -> Value:
        """The tensor in the wanted form: there already, a constant, or transposed now.

        Args:
            rank: Number of axes that a constant is spread to in NCHW form.
        """
        tensor = self.graph.tensor(name)
        if tensor.data is not None:
            return self._constant(name, tensor.data, form, rank)
        if len(tensor.shape) != 4:
            form = Form.GRAPH
        if (name, form) not in self._values:
            perm, other = (TO_NCHW, Form.GRAPH) if form is Form.NCHW else (TO_NHWC, Form.NCHW)
            source = self._values[name, other]
            self._values[name, form] = moved(source, perm, f"{name}/{form.value}")
        return self._values[name, form]

    def weights(self, node: Node, arrange: Callable[[Array], Array]) -> Value:
        """The second input of a convolution or dense node, int8 behind a scale where it is quantized.

        Args:
            arrange: From the graph's order of axes to the operator's; it must also take an array whose
                axes are 1 except the channels'.
        """
        name, data = node.inputs[1], self.graph.tensor(node.inputs[1]).data
        if data is None or not multiplies_codes(self._quantization, node):
            assert data is not None
            return number(arrange(data), name)
        params = self._quantization.params[name]
        codes = self._quantization.codes.get(name)
        integers = arrange(quantize(data, params) if codes is None else codes).astype(np.int8)
        spread = [1] * data.ndim
        if params.axis is None:
            scale = params.scale.reshape([1] * integers.ndim)
        else:
            spread[params.axis] = -1
            scale = arrange(params.scale.reshape(spread))
        real = ops.convert(number(integers, name), "f32", name=f"{node.name}/weights")
        return ops.multiply(real, number(scale, f"{node.name}/scale"), name=f"{node.name}/scaled").output(0)

    def bias(self, node: Node, shape: Sequence[int]) -> Value | None:
        """The bias in the given shape, corrected if the quantization says so; None if there is none."""
        name = bias_name(node)
        codes = self._quantization.codes.get(name) if multiplies_codes(self._quantization, node) else None
        if codes is not None:
            data = dequantize(codes, bias_params(self._quantization, node))
        elif len(node.inputs) == 3:
            data = self.graph.constant(node.inputs[2])
        else:
            return None
        return number(data.reshape(shape), name)

    def _constant(self, name: str, data: Array, form: Form, rank: int) -> Value:
        if (name, form) not in self._values or form is Form.NCHW:
            if form is Form.NCHW and data.size > 1:
                data = data.reshape([1] * (rank - data.ndim) + list(data.shape)).transpose(TO_NCHW)
            value = number(data, name)
            params = self._quantization.params.get(name)
            if params is not None and data.dtype == np.float32:
                value = rounded(value, params, f"{name}/rounded")
            self._values[name, form] = value
        return self._values[name, form]


def number(data: Array, name: str) -> Value:
    """A constant."""
    return ops.constant(np.asarray(data, order="C"), name=name).output(0)


def rounded(value: Value, params: QuantParams, name: str) -> Value:
    """A FakeQuantize with the grid of these per-tensor int8 parameters."""
    scale, zero = float(params.scale), int(params.zero_point)
    low, high = ((code - zero) * scale for code in (-128, 127))
    ends = [
        number(np.asarray(end, np.float32), f"{name}/{which}")
        for which, end in (("low", low), ("high", high))
    ]
    return ops.fake_quantize(value, *ends, *ends, _LEVELS, name=name).output(0)


def moved(value: Value, perm: Sequence[int], name: str) -> Value:
    """The value with its axes in another order; a reshape when only axes of size 1 change place."""
    if list(perm) == sorted(perm):
        return value
    shape = [int(d) for d in value.get_shape()]
    target = [shape[p] for p in perm]
    long = [p for p in perm if shape[p] > 1]
    if long == sorted(long):
        return ops.reshape(
            value, number(np.array(target, np.int64), f"{name}/shape"), False, name=name
        ).output(0)
    return ops.transpose(value, number(np.array(perm, np.int64), f"{name}/perm"), name=name).output(0)
