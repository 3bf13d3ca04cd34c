"""Put an activation that follows a node into the node, where it has a place for one."""

from __future__ import annotations

from dataclasses import replace

from edge_convert.graph import SIGNATURES, Graph, Node, Op

_WORDS = {Op.RELU: "relu", Op.RELU6: "relu6", Op.RELU_N1_TO_1: "relu_n1_to_1"}


def apply(graph: Graph) -> Graph:
    """Fuse where the activation is the only reader; the fused node gives the activation's tensor."""
    producers, readers, outputs = graph.producers(), graph.consumers(), set(graph.output_tensors())
    fused: dict[str, Node] = {}
    gone: set[str] = set()
    for node in graph.nodes:
        if node.op not in _WORDS:
            continue
        maker = producers.get(node.inputs[0])
        if maker is None or "activation" not in SIGNATURES[maker.op].attrs:
            continue
        if maker.attrs["activation"] != "none" or len(readers[maker.output]) > 1 or maker.output in outputs:
            continue
        attrs = {**maker.attrs, "activation": _WORDS[node.op]}
        fused[maker.name] = replace(maker, outputs=node.outputs, attrs=attrs)
        gone.add(node.name)
    if not fused:
        return graph
    return graph.rewritten(fused.get(n.name, n) for n in graph.nodes if n.name not in gone)
