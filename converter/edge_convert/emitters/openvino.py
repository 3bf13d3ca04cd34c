"""A graph as an OpenVINO model (IR: an .xml and a .bin): float32, float16 weights, or int8.

`emit` is all that others call. The parts: `openvino_ops.py` (operators), `openvino_lowering.py` (tensors
and the order of their axes), `openvino_rules.py` (what is quantized, for whoever chooses the parameters).

Inputs and outputs are float32 in the graph's own layout and bear the names of the ports' tensors.
OpenVINO's own conversion tools send usage data; none of them is called.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any, Literal

import openvino
import openvino.opset13 as ops

from edge_convert.emitters.openvino_lowering import Form, Lowering
from edge_convert.emitters.openvino_ops import write
from edge_convert.graph import Graph
from edge_convert.quantizing.quantization import Quantization, with_constants

# Who wrote the file is for the provenance to say; here it would change the digest with every release.
_VERSION_LINE = re.compile(rb'[ \t]*<info name="OpenVINO Runtime"[^>]*/>\n')


def emit(
    graph: Graph,
    quantization: Quantization | None = None,
    weights: Literal["float32", "float16"] = "float32",
) -> tuple[bytes, bytes]:
    """Write the graph; the same arguments give the same bytes.

    Args:
        quantization: Activations that it names pass a FakeQuantize of 256 levels where they are computed,
            weights are int8 behind their scales: OpenVINO's plugins make int8 kernels of that.
        weights: "float16" stores float constants in half precision; constants beyond its range stay
            float32.

    Returns:
        Contents of the .xml and of the .bin.
    """
    model = build(graph, quantization)
    with tempfile.TemporaryDirectory(prefix="edge-convert-") as folder:
        path = Path(folder) / "model.xml"
        openvino.save_model(model, str(path), compress_to_fp16=weights == "float16")
        return _VERSION_LINE.sub(b"", path.read_bytes()), path.with_suffix(".bin").read_bytes()


def build(graph: Graph, quantization: Quantization | None = None) -> Any:
    """The graph as an `openvino.Model` in memory."""
    if quantization is not None:
        graph = with_constants(graph, quantization)
    lowering = Lowering(graph, quantization)
    parameters = []
    for port in graph.inputs:
        parameter = lowering.feed(port.tensor)
        parameter.output(0).get_tensor().add_names({port.tensor})
        parameters.append(parameter)
    for node in graph.nodes:
        write(lowering, node)
    results = []
    for name in dict.fromkeys(graph.output_tensors()):
        value = lowering.operand(name, Form.GRAPH)
        value.get_tensor().add_names({name})
        results.append(ops.result(value, name=f"{name}/result"))
    return openvino.Model(results, parameters, graph.name)
