"""Convolutions that only move elements: each result is an element of what is read, or zero.

`stem_patches.py` makes them. With one set of parameters on both sides and the codes that its ones have, a
kernel multiplies by 127, divides by 127, and writes the very codes that it read.
"""

from __future__ import annotations

from edge_convert.graph import Graph, Node, Op


def copies(graph: Graph, node: Node) -> bool:
    """Whether a node is such a convolution."""
    if node.op is not Op.CONV2D or len(node.inputs) != 2 or node.attrs["activation"] != "none":
        return False
    weights = graph.tensor(node.inputs[1]).data
    if weights is None:
        return False
    rows = weights.reshape(len(weights), -1)
    return bool(((rows == 0) | (rows == 1)).all() and (rows.sum(axis=1) <= 1).all() and rows.any())
