"""Remove nodes that give their input back."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edge_convert.graph import Graph, Node, Op
from edge_convert.passes.redirection import redirected
from edge_convert.shapes import REDUCTIONS

# Applying the operator again to what it gave changes nothing; also relu of what is never negative.
_NEVER_NEGATIVE = frozenset({Op.RELU, Op.RELU6, Op.SIGMOID, Op.SOFTMAX, Op.EXP, Op.ABS, Op.SQRT})


def apply(graph: Graph) -> Graph:
    """Leave identities out; the only node between an input and an output of the model stays."""
    producers = graph.producers()
    inputs, outputs = {p.tensor for p in graph.inputs}, set(graph.output_tensors())
    instead: dict[str, str] = {}
    kept: list[Node] = []
    for node in graph.nodes:
        source = _given_back(graph, node, producers)
        at_rim = source is not None and (source in inputs or graph.tensor(source).is_constant)
        if source is None or (at_rim and node.output in outputs):
            kept.append(node)
        else:
            instead[node.output] = source
    return redirected(graph, kept, instead) if instead else graph


def _given_back(graph: Graph, node: Node, producers: dict[str, Node]) -> str | None:
    """Name of the input that is the node's result, if there is one."""
    x, out = graph.tensor(node.inputs[0]), graph.tensor(node.output)
    if node.op in _NEUTRAL:
        return _neutral_operand(graph, node, _NEUTRAL[node.op])
    if node.op is Op.RELU and (maker := producers.get(node.inputs[0])) is not None:
        never_negative = maker.op in _NEVER_NEGATIVE or maker.attrs.get("activation") in ("relu", "relu6")
        return node.inputs[0] if never_negative else None
    if node.op in _SAME_WHEN and x.shape == out.shape and x.dtype == out.dtype and _SAME_WHEN[node.op](node):
        return node.inputs[0]
    return None


def _neutral_operand(graph: Graph, node: Node, neutral: tuple[float, bool]) -> str | None:
    """The other operand of x * 1, x + 0 and the like; `neutral` is (element, whether on either side)."""
    element, either = neutral
    if node.attrs.get("activation", "none") != "none":
        return None
    sides = [(node.inputs[0], node.inputs[1])]
    if either:
        sides.append((node.inputs[1], node.inputs[0]))
    shape = graph.tensor(node.output).shape
    for x, other in sides:
        data = graph.tensor(other).data
        if data is not None and np.all(data == element) and graph.tensor(x).shape == shape:
            return x
    return None


_NEUTRAL = {
    Op.ADD: (0.0, True),
    Op.SUB: (0.0, False),
    Op.MUL: (1.0, True),
    Op.DIV: (1.0, False),
    Op.POW: (1.0, False),
}


def _always(node: Node) -> bool:
    return True


# These are identities when shape and dtype stay and the condition holds.
_SAME_WHEN: dict[Op, Callable[[Node], bool]] = {
    Op.RESHAPE: _always,
    Op.CAST: _always,
    Op.PAD: _always,
    Op.MIRROR_PAD: _always,
    Op.TILE: _always,
    Op.BROADCAST_TO: _always,
    Op.RESIZE_BILINEAR: _always,
    Op.RESIZE_NEAREST: _always,
    Op.TRANSPOSE: lambda node: tuple(node.attrs["perm"]) == tuple(range(len(node.attrs["perm"]))),
    Op.CONCAT: lambda node: len(node.inputs) == 1,
    Op.SLICE: lambda node: min(node.attrs["strides"]) > 0,
    Op.MAX_POOL2D: lambda node: tuple(node.attrs["kernel"]) == (1, 1),
    Op.AVERAGE_POOL2D: lambda node: tuple(node.attrs["kernel"]) == (1, 1),
    **dict.fromkeys(REDUCTIONS, _always),
}
