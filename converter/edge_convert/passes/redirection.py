"""Leaving nodes out: their readers, and the graph's outputs, read another tensor instead."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from edge_convert.graph import Graph, Node, Tensor


def redirected(
    graph: Graph, nodes: Iterable[Node], instead: Mapping[str, str], new_tensors: Iterable[Tensor] = ()
) -> Graph:
    """The graph with these nodes, every read of a key of `instead` being one of its value.

    Chains are followed: a to b and b to c makes a read of a one of c.
    """

    def final(name: str) -> str:
        while name in instead:
            name = instead[name]
        return name

    renamed = [replace(node, inputs=tuple(final(n) for n in node.inputs)) for node in nodes]
    outputs = tuple(replace(port, tensor=final(port.tensor)) for port in graph.outputs)
    return graph.rewritten(renamed, new_tensors, outputs=outputs)
