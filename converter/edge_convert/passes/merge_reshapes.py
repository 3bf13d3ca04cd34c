"""A RESHAPE of a RESHAPE is one RESHAPE."""

from __future__ import annotations

from dataclasses import replace

from edge_convert.graph import Graph, Node, Op


def apply(graph: Graph) -> Graph:
    """Let each RESHAPE read what the first of its chain read."""
    producers = graph.producers()
    nodes: list[Node] = []
    for node in graph.nodes:
        source = node.inputs[0]
        while node.op is Op.RESHAPE and source in producers and producers[source].op is Op.RESHAPE:
            source = producers[source].inputs[0]
        nodes.append(node if source == node.inputs[0] else replace(node, inputs=(source,)))
    return graph.rewritten(nodes)
