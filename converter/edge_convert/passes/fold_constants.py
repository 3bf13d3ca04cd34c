"""Evaluate nodes whose inputs are all constant."""

from __future__ import annotations

import numpy as np

from edge_convert import reference
from edge_convert.graph import Graph, Node, constant

# A constant that a node would blow up stays a node: the artifact would hold every copy.
MAX_GROWTH = 4
ALWAYS_FOLD = 1 << 16  # elements


def apply(graph: Graph) -> Graph:
    """Replace constant sub-graphs by their elements; results that are not finite stay nodes."""
    values = {name: t for name, t in graph.tensors.items() if t.is_constant}
    kept: list[Node] = []
    for node in graph.nodes:
        out = graph.tensor(node.output)
        inputs = [values[n].data for n in node.inputs if n in values]
        arrays = [a for a in inputs if a is not None]
        small = out.size <= max(ALWAYS_FOLD, MAX_GROWTH * sum(a.size for a in arrays))
        if len(arrays) < len(node.inputs) or not small:
            kept.append(node)
            continue
        result = reference.apply(node, arrays).astype(out.dtype)
        if result.dtype == np.float32 and not np.isfinite(result).all():
            kept.append(node)
            continue
        values[node.output] = constant(node.output, result)
    folded = [t for name, t in values.items() if t is not graph.tensors.get(name)]
    return graph.rewritten(kept, folded)
