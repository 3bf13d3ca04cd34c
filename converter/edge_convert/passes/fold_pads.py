"""Fold a PAD of zeros into the padding of the convolution or pool that reads it, where exact.

Convolutions pad with zeros themselves. An average pool may count padding, if it had none of its
own that does not count. A max pool ignores padding, which is the same as zeros only for input
that is never negative.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from edge_convert.graph import Graph, Node, Op

_NEVER_NEGATIVE = frozenset({Op.RELU, Op.RELU6, Op.SIGMOID, Op.SOFTMAX, Op.EXP, Op.ABS})
_LOWEST = -3e38  # a padding value this low never wins in a max pool


def apply(graph: Graph) -> Graph:
    """Let the operators read what was padded; the PAD goes when its last reader has."""
    producers = graph.producers()
    nodes: list[Node] = []
    for node in graph.nodes:
        pad = producers.get(node.inputs[0])
        attrs = _with_padding(graph, node, pad, producers) if pad is not None and pad.op is Op.PAD else None
        if pad is None or attrs is None:
            nodes.append(node)
        else:
            nodes.append(replace(node, inputs=(pad.inputs[0], *node.inputs[1:]), attrs=attrs))
    return graph.rewritten(nodes)


def _with_padding(graph: Graph, node: Node, pad: Node, producers: dict[str, Node]) -> dict[str, Any] | None:
    """The node's attributes with the padding in them, or None when that would change the answer."""
    paddings = pad.attrs["paddings"]
    if len(paddings) != 4 or any(paddings[0]) or any(paddings[3]):
        return None
    extra = (*paddings[1], *paddings[2])
    if "pads" not in node.attrs:
        return None
    old = node.attrs["pads"]
    merged = {**node.attrs, "pads": tuple(a + b for a, b in zip(old, extra, strict=True))}
    if node.op in (Op.CONV2D, Op.DEPTHWISE_CONV2D):
        return merged if pad.attrs["value"] == 0.0 else None
    if node.op is Op.AVERAGE_POOL2D and pad.attrs["value"] == 0.0:
        if any(old) and not node.attrs["count_include_pad"]:
            return None
        return {**merged, "count_include_pad": True}
    if node.op is Op.MAX_POOL2D:
        kernel = node.attrs["kernel"]
        covered = all(p < kernel[i // 2] for i, p in enumerate(merged["pads"]))
        harmless = pad.attrs["value"] <= _LOWEST or (
            pad.attrs["value"] == 0.0 and _never_negative(producers.get(pad.inputs[0]))
        )
        return merged if covered and harmless else None
    return None


def _never_negative(maker: Node | None) -> bool:
    if maker is None:
        return False
    return maker.op in _NEVER_NEGATIVE or maker.attrs.get("activation") in ("relu", "relu6")
