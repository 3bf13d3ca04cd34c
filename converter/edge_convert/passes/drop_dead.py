"""Drop nodes whose result nothing reads."""

from __future__ import annotations

from edge_convert.graph import Graph, Node


def apply(graph: Graph) -> Graph:
    """Keep what an output depends on; inputs of the model stay even if nothing reads them."""
    needed = set(graph.output_tensors())
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if node.output in needed:
            kept.append(node)
            needed.update(node.inputs)
    return graph.rewritten(kept[::-1])
