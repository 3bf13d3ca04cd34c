"""Move a RESHAPE behind the element-wise operators that follow it.

So an activation comes to stand beside the convolution it belongs to, and the two reshapes that a
1-D convolution is wrapped in meet those of the next one and vanish.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from edge_convert.graph import Array, Graph, Node, Op, Tensor, constant
from edge_convert.passes.reshape_groups import Shape, groups
from edge_convert.shapes import ELEMENTWISE_BINARY, ELEMENTWISE_UNARY


@dataclass(frozen=True)
class _Sunk:
    """How one node runs on what was before the reshape: its inputs, attributes and new constants."""

    inputs: tuple[str, ...]
    attrs: dict[str, object]
    constants: tuple[Tensor, ...] = ()


def apply(graph: Graph) -> Graph:
    """Sink every RESHAPE by one operator where that keeps the answer; `simplify` repeats it."""
    producers = graph.producers()
    readers = graph.consumers()
    outputs = set(graph.output_tensors())
    nodes: list[Node] = []
    new: list[Tensor] = []
    for node in graph.nodes:
        reshapes = [producers.get(name) for name in node.inputs]
        first = next((r for r in reshapes if r is not None and r.op is Op.RESHAPE), None)
        sunk = None
        # a reshape that others read too stays, and only the activation is worth moving ahead of it
        if first is not None and len(readers[first.output]) == 1 and first.output not in outputs:
            sunk = _sunk(graph, node, producers, graph.tensor(first.inputs[0]).shape)
        if sunk is None or first is None:
            nodes.append(node)
            continue
        out = graph.tensor(node.output)
        inner = replace(out, name=f"{out.name}:flat", shape=graph.tensor(first.inputs[0]).shape)
        new += [inner, *sunk.constants]
        nodes.append(replace(node, inputs=sunk.inputs, outputs=(inner.name,), attrs=sunk.attrs))
        name = f"{out.name}:shape"
        nodes.append(Node(Op.RESHAPE, name, (inner.name,), (out.name,), {"shape": out.shape}, node.source))
    return graph.rewritten(nodes, new) if new else graph


def _sunk(graph: Graph, node: Node, producers: dict[str, Node], before: Shape) -> _Sunk | None:
    attrs = dict(node.attrs)
    if node.op in ELEMENTWISE_UNARY:
        return _Sunk((producers[node.inputs[0]].inputs[0],), attrs)
    if node.op not in ELEMENTWISE_BINARY:
        return None
    out = graph.tensor(node.output)
    inputs: list[str] = []
    constants: list[Tensor] = []
    for name in node.inputs:
        tensor, maker = graph.tensor(name), producers.get(name)
        if maker is not None and maker.op is Op.RESHAPE:
            if tensor.shape != out.shape or graph.tensor(maker.inputs[0]).shape != before:
                return None
            inputs.append(maker.inputs[0])
        elif tensor.data is not None:
            data = unshaped(tensor.data, before, out.shape)
            if data is None:
                return None
            moved = constant(f"{node.output}:{name}", data) if data.shape != tensor.shape else tensor
            constants.append(moved)
            inputs.append(moved.name)
        else:
            return None
    return _Sunk(tuple(inputs), attrs, tuple(constants))


def unshaped(data: Array, before: Shape, after: Shape) -> Array | None:
    """An operand that broadcasts against `after`, so that it broadcasts against `before` alike.

    Returns:
        None when the reshape mixes an axis along which it varies with one along which it does not.
    """
    if data.size == 1:
        return data.reshape(())
    if data.ndim > len(after):
        return None
    full = data.reshape((1,) * (len(after) - data.ndim) + data.shape)
    shape: dict[int, int] = {}
    for left, right in groups(before, after):
        sizes = [full.shape[a] for a in right]
        if all(s == 1 for s in sizes):
            shape.update(dict.fromkeys(left, 1))
        elif sizes == [after[a] for a in right]:
            shape.update({axis: before[axis] for axis in left})
        else:
            return None
    return full.reshape([shape[i] for i in range(len(before))])
