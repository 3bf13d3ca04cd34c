"""What a graph costs to run, counted from shapes: multiply-accumulates by node."""

from __future__ import annotations

import math
from collections.abc import Callable

from edge_convert.graph import Graph, Node, Op

# Multiply-accumulates per element of the output (or of the input, for the transposed convolution);
# everything else moves or compares numbers and counts as none.
_PER_ELEMENT: dict[Op, Callable[[Graph, Node], int]] = {
    Op.CONV2D: lambda graph, node: math.prod(_weights(graph, node)[1:]),
    Op.DEPTHWISE_CONV2D: lambda graph, node: math.prod(_weights(graph, node)[1:3]),
    Op.TRANSPOSE_CONV2D: lambda graph, node: math.prod(_weights(graph, node)[:3]),
    Op.DENSE: lambda graph, node: _weights(graph, node)[1],
    Op.MATMUL: lambda graph, node: _inner(graph, node),
}


def macs_of(graph: Graph, node: Node) -> int:
    """Multiply-accumulates of one inference of one node."""
    count = _PER_ELEMENT.get(node.op)
    if count is None:
        return 0
    counted = node.inputs[0] if node.op is Op.TRANSPOSE_CONV2D else node.output
    return graph.tensor(counted).size * count(graph, node)


def macs(graph: Graph) -> int:
    """Multiply-accumulates of one inference."""
    return sum(macs_of(graph, node) for node in graph.nodes)


def peak_activation_bytes(graph: Graph, bytes_per_element: int) -> int:
    """Largest sum of tensors alive at once when nodes run in order, without any sharing of memory."""
    last_use = {name: i for i, node in enumerate(graph.nodes) for name in node.inputs}
    last_use |= {name: len(graph.nodes) for name in graph.output_tensors()}
    alive = {port.tensor: graph.tensor(port.tensor).size for port in graph.inputs}
    peak = sum(alive.values())
    for index, node in enumerate(graph.nodes):
        alive[node.output] = graph.tensor(node.output).size
        peak = max(peak, sum(alive.values()))
        alive = {name: size for name, size in alive.items() if last_use.get(name, -1) > index}
    return peak * bytes_per_element


def _weights(graph: Graph, node: Node) -> tuple[int, ...]:
    return graph.tensor(node.inputs[1]).shape


def _inner(graph: Graph, node: Node) -> int:
    shape = graph.tensor(node.inputs[0]).shape
    return shape[-2] if node.attrs["transpose_a"] else shape[-1]
