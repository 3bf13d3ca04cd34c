"""Recognise x * relu6(x + 3) / 6 and say HARD_SWISH.

The factors may stand in any order, the sixth at either product, and relu6 may be fused into the
addition.
"""

from __future__ import annotations

import math

from edge_convert.graph import Graph, Node, Op

_TOLERANCE = 1e-4  # exporters write 1/6 as 0.16666667 or 0.1667


def apply(graph: Graph) -> Graph:
    """Replace the last node of each match; the rest dies if nothing else reads it."""
    producers = graph.producers()
    nodes = [_matched(graph, node, producers) or node for node in graph.nodes]
    return graph.rewritten(nodes)


def _matched(graph: Graph, node: Node, producers: dict[str, Node]) -> Node | None:
    if node.op not in (Op.MUL, Op.DIV) or node.attrs["activation"] != "none":
        return None
    factors, scale = _product(graph, node, producers, depth=2)
    if len(factors) != 2 or not math.isclose(scale, 1 / 6, rel_tol=_TOLERANCE):
        return None
    shape = graph.tensor(node.output).shape
    for x, gate in (factors, factors[::-1]):
        if _gate_source(graph, gate, producers) == x and graph.tensor(x).shape == shape:
            return Node(Op.HARD_SWISH, node.name, (x,), node.outputs, {}, node.source)
    return None


def _scalar(graph: Graph, name: str) -> float | None:
    data = graph.tensor(name).data
    return float(data.item()) if data is not None and data.size == 1 else None


def _product(graph: Graph, node: Node, producers: dict[str, Node], depth: int) -> tuple[list[str], float]:
    """Tensors that are multiplied to give this node, and the product of the constants among them."""
    factors: list[str] = []
    scale = 1.0
    for index, name in enumerate(node.inputs):
        number = _scalar(graph, name)
        maker = producers.get(name)
        if number is not None and number != 0.0 and (node.op is Op.MUL or index == 1):
            scale *= number if node.op is Op.MUL else 1.0 / number
        elif node.op is Op.DIV and index == 1:
            return [], 0.0
        elif (
            depth > 0 and maker is not None and maker.op in (Op.MUL, Op.DIV)
            and maker.attrs["activation"] == "none"
        ):  # fmt: skip
            inner, factor = _product(graph, maker, producers, depth - 1)
            factors += inner
            scale *= factor
        else:
            factors.append(name)
    return factors, scale


def _gate_source(graph: Graph, gate: str, producers: dict[str, Node]) -> str | None:
    """x when the tensor is relu6(x + 3)."""
    node = producers.get(gate)
    if node is not None and node.op is Op.RELU6:
        node = producers.get(node.inputs[0])
        fused = "none"
    else:
        fused = "relu6"
    if node is None or node.op is not Op.ADD or node.attrs["activation"] != fused:
        return None
    for x, other in (node.inputs, node.inputs[::-1]):
        number = _scalar(graph, other)
        if number is not None and math.isclose(number, 3.0, rel_tol=_TOLERANCE):
            return x
    return None
