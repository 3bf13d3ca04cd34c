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


def _weights(graph: Graph, node: Node) -> tuple[int, ...]:
    return graph.tensor(node.inputs[1]).shape


def _inner(graph: Graph, node: Node) -> int:
    shape = graph.tensor(node.inputs[0]).shape
    return shape[-2] if node.attrs["transpose_a"] else shape[-1]
