"""A graph as a TensorFlow Lite file: float32, float16 weights, or full int8 with float islands.

`emit` is all that others call. The parts: `tflite_ops.py` (operators), `tflite_lowering.py` (tensors
and conversions), `tflite_writer.py` and `tflite_versions.py` (the file), `tflite_rules.py` (what int8
kernels demand, for whoever chooses the parameters).
"""

from __future__ import annotations

from typing import Literal

from edge_convert.emitters.tflite_lowering import Form, Lowering
from edge_convert.emitters.tflite_ops import WRITERS, Step
from edge_convert.emitters.tflite_rules import broken_rules
from edge_convert.emitters.tflite_writer import ModelWriter
from edge_convert.graph import Graph
from edge_convert.quantizing.quantization import Quantization, with_constants

_DESCRIPTION = "edge-convert"


def emit(
    graph: Graph,
    quantization: Quantization | None = None,
    weights: Literal["float32", "float16"] = "float32",
) -> bytes:
    """Write the graph; the same arguments give the same bytes.

    Tensors keep the graph's names, up to a semicolon. Inputs and outputs stand in port order, int8 where the
    quantization has parameters for them, and the signature `serving_default` names the ports.

    Args:
        quantization: A node that it leaves in float, that has no int8 kernel, or that has an operand
            without parameters runs in float, with conversions around it. Biases become int32 with
            the product of input and weight scale.
        weights: "float16" stores float constants in half precision behind a DEQUANTIZE; constants
            beyond its range stay float32.

    Raises:
        AssertionError: The quantization breaks a rule of `tflite_rules.py`.
    """
    if quantization is not None:
        graph = with_constants(graph, quantization)
        broken = broken_rules(graph, quantization)
        assert not broken, "; ".join(broken)
    lowering = Lowering(graph, quantization, ModelWriter(_DESCRIPTION), weights == "float16")
    inputs = [(port.name, lowering.feed(port.tensor)) for port in graph.inputs]
    for node in graph.nodes:
        form = Form.INT8 if lowering.runs_in_int8(node) else Form.FLOAT
        WRITERS[node.op](Step(lowering, node, form))
    outputs = [
        (port.name, lowering.operand(port.tensor, lowering.own_form(port.tensor))) for port in graph.outputs
    ]
    return lowering.writer.finish(inputs, outputs)
