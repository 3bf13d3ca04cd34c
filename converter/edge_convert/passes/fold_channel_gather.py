"""Fold a constant choice of channels into the convolution or dense layer that computes them.

A pixel shuffle in PyTorch's channel order ends up as such a GATHER behind its convolution.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edge_convert.graph import Graph, Node, Op, Tensor, constant
from edge_convert.shapes import infer

# The axis of the weights that is the output channel; a depthwise kernel is tied to its input.
_OUT_AXIS = {Op.CONV2D: 0, Op.TRANSPOSE_CONV2D: 0, Op.DENSE: 0}


def apply(graph: Graph) -> Graph:
    """Re-order the rows of a layer that only a GATHER of its last axis reads."""
    producers, readers, outputs = graph.producers(), graph.consumers(), set(graph.output_tensors())
    changed: dict[str, Node] = {}
    gathers: set[str] = set()
    new: list[Tensor] = []
    for node in graph.nodes:
        maker = producers.get(node.inputs[0])
        if node.op is not Op.GATHER or maker is None or maker.op not in _OUT_AXIS:
            continue
        x, indices = graph.tensor(maker.output), graph.tensor(node.inputs[1]).data
        alone = len(readers[maker.output]) == 1 and maker.output not in outputs
        if indices is None or indices.ndim != 1 or node.attrs["axis"] != len(x.shape) - 1 or not alone:
            continue
        fixed = all(graph.tensor(n).is_constant for n in maker.inputs[1:])
        if maker.attrs.get("groups", 1) != 1 or not fixed:
            continue
        parts = [
            constant(f"{node.output}:{i}", np.take(graph.constant(n), indices, axis=0))
            for i, n in enumerate(maker.inputs[1:])
        ]
        attrs = dict(maker.attrs)
        if maker.op is Op.TRANSPOSE_CONV2D:
            attrs["output_shape"] = (*attrs["output_shape"][:3], len(indices))
        shape, dtype = infer(maker.op, [graph.tensor(maker.inputs[0]), *parts], attrs)
        new += [*parts, Tensor(node.output, shape, dtype)]
        changed[maker.name] = replace(
            maker, inputs=(maker.inputs[0], *(t.name for t in parts)), outputs=(node.output,), attrs=attrs
        )
        gathers.add(node.name)
    if not changed:
        return graph
    return graph.rewritten([changed.get(n.name, n) for n in graph.nodes if n.name not in gathers], new)
