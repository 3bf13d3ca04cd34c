"""A float graph as ONNX with NCHW pictures: what the quantizers of ONNX models are fed with.

Only the operators of the MLPerf Tiny models; the product writes no ONNX.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edge_convert.graph import Graph, Node, Op

OPSET = 17
IR_VERSION = 8  # of that opset: older readers open it

Array = NDArray[Any]


def onnx_form(graph: Graph) -> bytes:
    """Write the graph with an open batch axis; its ports keep their names and layout.

    Raises:
        SystemExit: An operator that these models do not have.
    """
    writer = _Writer(graph)
    for port in graph.inputs:
        writer.feed(port.tensor)
    for node in graph.nodes:
        if node.op not in _WRITE:
            raise SystemExit(f"{node.name}: {node.op} has no ONNX form here")
        _WRITE[node.op](writer, node)
    ports = [
        [helper.make_tensor_value_info(p.tensor, TensorProto.FLOAT, ["n", *p.shape[1:]]) for p in side]
        for side in (graph.inputs, graph.outputs)
    ]
    made = helper.make_graph(writer.nodes, "model", *ports, initializer=writer.constants)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


class _Writer:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self._names: dict[str, str] = {}

    def feed(self, tensor: str) -> None:
        self._names[tensor] = tensor
        if len(self.graph.tensor(tensor).shape) == 4:
            self._names[tensor] = f"{tensor}/nchw"
            self.nodes.append(
                helper.make_node("Transpose", [tensor], [self._names[tensor]], perm=[0, 3, 1, 2])
            )

    def add(self, op: str, node: Node, constants: Sequence[Array] = (), **attrs: Any) -> None:
        """Write one node with its fused activation: computed operands first, then constants."""
        inputs = [self._names[n] for n in node.inputs if n in self._names]
        for index, data in enumerate(constants):
            name = f"{node.name}/constant{index}"
            self.constants.append(numpy_helper.from_array(np.ascontiguousarray(data), name))
            inputs.append(name)
        plain = node.attrs.get("activation", "none") == "none"
        result = node.output if plain else f"{node.output}/before"
        self.nodes.append(helper.make_node(op, inputs, [result], name=node.name, **attrs))
        if not plain:
            assert node.attrs["activation"] == "relu", node.attrs["activation"]
            self.nodes.append(helper.make_node("Relu", [result], [node.output], name=f"{node.name}/relu"))
        self._names[node.output] = node.output


def _convolution(writer: _Writer, node: Node) -> None:
    weights, *bias = (writer.graph.constant(name) for name in node.inputs[1:])
    depthwise = node.op is Op.DEPTHWISE_CONV2D
    channels = writer.graph.tensor(node.inputs[0]).shape[3]
    top, bottom, left, right = node.attrs["pads"]
    writer.add(
        "Conv",
        node,
        [weights.transpose(3, 0, 1, 2) if depthwise else weights.transpose(0, 3, 1, 2), *bias],
        strides=node.attrs["strides"],
        dilations=node.attrs["dilations"],
        pads=[top, left, bottom, right],
        group=channels if depthwise else node.attrs["groups"],
    )


def _dense(writer: _Writer, node: Node) -> None:
    writer.add("Gemm", node, [writer.graph.constant(name) for name in node.inputs[1:]], transB=1)


def _mean(writer: _Writer, node: Node) -> None:
    assert node.attrs["axes"] == (1, 2) and node.attrs["keepdims"], node.attrs
    writer.add("GlobalAveragePool", node)


def _reshape(writer: _Writer, node: Node) -> None:
    before = writer.graph.tensor(node.inputs[0]).shape
    assert before[1:-1] == (1,) * (len(before) - 2), f"{node.name} would mix axes in another layout"
    writer.add("Flatten", node)


_WRITE: dict[Op, Callable[[_Writer, Node], None]] = {
    Op.CONV2D: _convolution,
    Op.DEPTHWISE_CONV2D: _convolution,
    Op.DENSE: _dense,
    Op.MEAN: _mean,
    Op.RESHAPE: _reshape,
    Op.ADD: lambda writer, node: writer.add("Add", node),
    Op.SOFTMAX: lambda writer, node: writer.add("Softmax", node, axis=-1),
}
