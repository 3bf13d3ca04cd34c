"""Write down which inputs and outputs are pictures, and whether they are channels-first or -last.

A port of rank 4 is a picture if an operator on pictures is reached from it through operators that
leave the axes alone. What the tensor contract later says about layout is what stands here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from edge_convert.graph import Graph, Node, Op, Port
from edge_convert.shapes import ELEMENTWISE_BINARY, ELEMENTWISE_UNARY

_ON_PICTURES = frozenset(
    {
        Op.CONV2D, Op.DEPTHWISE_CONV2D, Op.TRANSPOSE_CONV2D, Op.AVERAGE_POOL2D, Op.MAX_POOL2D,
        Op.RESIZE_BILINEAR, Op.RESIZE_NEAREST, Op.SPACE_TO_DEPTH, Op.DEPTH_TO_SPACE,
    }
)  # fmt: skip
_KEEP_AXES = (
    ELEMENTWISE_UNARY
    | ELEMENTWISE_BINARY
    | {
        Op.PAD,
        Op.MIRROR_PAD,
        Op.CONCAT,
        Op.SLICE,
        Op.PRELU,
        Op.SELECT,
        Op.SOFTMAX,
        Op.LOG_SOFTMAX,
        Op.L2_NORMALIZE,
    }
)


def apply(graph: Graph) -> Graph:
    """Set `layout` of every port that has none."""
    readers, producers = graph.consumers(), graph.producers()
    inputs = tuple(
        _labelled(p, "NCHW" if p.perm == (0, 2, 3, 1) else "NHWC", _feeds_picture(graph, p.tensor, readers))
        for p in graph.inputs
    )
    outputs = tuple(
        _labelled(p, "NCHW" if p.perm == (0, 3, 1, 2) else "NHWC", _is_picture(graph, p.tensor, producers))
        for p in graph.outputs
    )
    return graph.rewritten(graph.nodes, inputs=inputs, outputs=outputs)


def _labelled(port: Port, layout: str, picture: bool) -> Port:
    return replace(port, layout=layout if picture and len(port.shape) == 4 else port.layout)


def _feeds_picture(graph: Graph, tensor: str, readers: Mapping[str, list[Node]]) -> bool:
    seen, waiting = {tensor}, [tensor]
    while waiting:
        for node in readers[waiting.pop()]:
            if node.op in _ON_PICTURES:
                return True
            if node.op in _KEEP_AXES and node.output not in seen:
                seen.add(node.output)
                waiting.append(node.output)
    return False


def _is_picture(graph: Graph, tensor: str, producers: Mapping[str, Node]) -> bool:
    seen, waiting = {tensor}, [tensor]
    while waiting:
        node = producers.get(waiting.pop())
        if node is None:
            continue
        if node.op in _ON_PICTURES:
            return True
        if node.op in _KEEP_AXES:
            fresh = [n for n in node.inputs if n not in seen]
            seen.update(fresh)
            waiting += fresh
    return False
