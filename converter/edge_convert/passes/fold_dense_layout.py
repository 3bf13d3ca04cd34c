"""Fold a transpose before a flatten into the DENSE that reads it, and one after an un-flatten into
the DENSE that feeds it.

A channels-first model flattens [c, h, w]; the graph holds [h, w, c]. The order of a dense layer's
weights takes the difference up.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edge_convert.graph import Array, Graph, Node, Op, Tensor, constant


def apply(graph: Graph) -> Graph:
    """Re-order weights of every DENSE beside a TRANSPOSE and a RESHAPE."""
    return _after(_before(graph))


def moved_order(shape: tuple[int, ...], perm: tuple[int, ...]) -> Array:
    """For each element of a flattened transposed sample, its place in the flattened sample.

    Args:
        shape: Before the transpose, batch axis first.
    """
    places = np.arange(int(np.prod(shape[1:]))).reshape(shape[1:])
    return np.transpose(places, [p - 1 for p in perm[1:]]).ravel()


def _before(graph: Graph) -> Graph:
    """DENSE(RESHAPE(TRANSPOSE(x))) to DENSE(RESHAPE(x)) with re-ordered columns."""
    producers = graph.producers()
    nodes: list[Node] = []
    new: list[Tensor] = []
    for node in graph.nodes:
        flat = producers.get(node.inputs[0])
        moved = producers.get(flat.inputs[0]) if flat is not None else None
        weights = graph.tensor(node.inputs[1]).data if node.op is Op.DENSE else None
        if flat is None or moved is None or weights is None:
            nodes.append(node)
            continue
        x = graph.tensor(moved.inputs[0])
        shape = tuple(flat.attrs.get("shape", ()))
        if (
            flat.op is not Op.RESHAPE
            or moved.op is not Op.TRANSPOSE
            or moved.attrs["perm"][0] != 0
            or shape != (x.shape[0], weights.shape[1])
        ):
            nodes.append(node)
            continue
        ordered = np.empty_like(weights)
        ordered[:, moved_order(x.shape, tuple(moved.attrs["perm"]))] = weights
        name = f"{node.output}:weights"
        new += [constant(name, ordered), Tensor(f"{node.output}:in", shape, x.dtype)]
        nodes.append(replace(flat, name=f"{node.name}:in", inputs=(x.name,), outputs=(new[-1].name,)))
        nodes.append(replace(node, inputs=(new[-1].name, name, *node.inputs[2:])))
    return graph.rewritten(nodes, new) if new else graph


def _after(graph: Graph) -> Graph:
    """TRANSPOSE(RESHAPE(DENSE(x))) to RESHAPE(DENSE(x)) with re-ordered rows."""
    readers = graph.consumers()
    producers = graph.producers()
    outputs = set(graph.output_tensors())
    changed: dict[str, Node] = {}
    new: list[Tensor] = []
    for node in graph.nodes:
        shaped = producers.get(node.inputs[0])
        dense = producers.get(shaped.inputs[0]) if shaped is not None else None
        if node.op is not Op.TRANSPOSE or shaped is None or dense is None:
            continue
        weights = graph.tensor(dense.inputs[1]).data if dense.op is Op.DENSE else None
        alone = all(len(readers[n.output]) == 1 and n.output not in outputs for n in (shaped, dense))
        before = graph.tensor(shaped.output).shape
        flat = graph.tensor(dense.output).shape
        if shaped.op is not Op.RESHAPE or weights is None or not alone or node.attrs["perm"][0] != 0:
            continue
        if flat != (before[0], int(np.prod(before[1:]))):
            continue
        order = moved_order(before, tuple(node.attrs["perm"]))
        parts = [constant(f"{node.output}:weights", weights[order])]
        if len(dense.inputs) > 2:
            parts.append(constant(f"{node.output}:bias", graph.constant(dense.inputs[2])[order]))
        new += parts
        changed[dense.name] = replace(dense, inputs=(dense.inputs[0], *(t.name for t in parts)))
        shape = graph.tensor(node.output).shape
        changed[node.name] = replace(node, op=Op.RESHAPE, inputs=(dense.output,), attrs={"shape": shape})
    return graph.rewritten([changed.get(n.name, n) for n in graph.nodes], new) if changed else graph
