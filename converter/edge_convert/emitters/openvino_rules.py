"""Which operators OpenVINO's int8 kernels take: data for whoever chooses the parameters.

OpenVINO quantizes what a node reads; the plugin's low-precision passes move the rounding to where it is
cheapest. So only operators that compute in int8 are named here. Those that merely move or compare
values (reshape, pooling by maximum, concatenation ...) take whatever precision comes to them.
"""

from __future__ import annotations

from edge_convert.graph import Graph, Node, Op

INT8_OPERATORS: frozenset[Op] = frozenset({Op.CONV2D, Op.DEPTHWISE_CONV2D, Op.DENSE, Op.MATMUL})


def has_int8_form(graph: Graph, node: Node) -> bool:
    """Whether this very node can multiply int8 by int8."""
    if node.op not in INT8_OPERATORS:
        return False
    if node.op is Op.MATMUL:
        return True
    return all(graph.tensor(name).is_constant for name in node.inputs[1:])
