"""The samples' axis in front of tensors that have none: recurrent state, a sequence, a single number.

Data files, golden inputs and the agent stack samples along the first axis, which must be 1 for one
sample. A tensor of another first axis (state [2, 1, 128], text [20, 1, 37], a scalar) gets an axis of 1
in front, in the graph and so in the contract; the source's own runtime is given it without.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from edge_convert.engine import Engine, EnginePort
from edge_convert.graph import Array, Graph, Node, Op, Port
from edge_convert.shapes import result


def with_samples_axis(graph: Graph) -> tuple[Graph, frozenset[str]]:
    """Give every port a first axis of 1.

    Args:
        graph: As an importer gives it: ports without a permutation.

    Returns:
        The graph, and the names of the ports that got one.
    """
    framed = frozenset(port.name for port in (*graph.inputs, *graph.outputs) if port.shape[:1] != (1,))
    if not framed:
        return graph, framed
    names = {*graph.tensors, *(node.name for node in graph.nodes)}
    tensors = dict(graph.tensors)
    before: list[Node] = []
    after: list[Node] = []
    inputs, outputs = [], []
    for port in graph.inputs:
        if port.name in framed:
            outer = replace(tensors[port.tensor], name=_unique(f"{port.tensor}:sample", names))
            outer = replace(outer, shape=(1, *port.shape))
            tensors[outer.name] = outer
            name = _unique(f"{port.name}:frame", names)
            node, _ = result(Op.RESHAPE, name, [outer], {"shape": port.shape}, port.tensor)
            before.append(node)
            port = Port(port.name, outer.name, outer.shape)
        inputs.append(port)
    for port in graph.outputs:
        if port.name in framed:
            name, framed_name = _unique(f"{port.name}:frame", names), _unique(f"{port.tensor}:sample", names)
            shape = (1, *port.shape)
            node, outer = result(Op.RESHAPE, name, [tensors[port.tensor]], {"shape": shape}, framed_name)
            tensors[outer.name] = outer
            after.append(node)
            port = Port(port.name, outer.name, shape)
        outputs.append(port)
    nodes = (*before, *graph.nodes, *after)
    return graph.rewritten(nodes, tensors.values(), tuple(inputs), tuple(outputs)), framed


def _unique(wanted: str, names: set[str]) -> str:
    while wanted in names:
        wanted += "'"
    names.add(wanted)
    return wanted


class Framed:
    """An engine whose ports with these names have an axis of 1 in front.

    Args of the constructor:
        names: Any of a port's names.
    """

    def __init__(self, engine: Engine, names: frozenset[str]) -> None:
        """Wrap an opened file."""
        self._engine = engine
        self._framed = {
            port.name for port in (*engine.inputs, *engine.outputs) if names & {port.name, *port.aliases}
        }
        self.runtime = engine.runtime
        self.inputs = tuple(map(self._with_axis, engine.inputs))
        self.outputs = tuple(map(self._with_axis, engine.outputs))

    def infer(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run one sample."""
        answers = self._engine.infer(self._without_axis(feeds))
        return {name: a[None] if name in self._framed else a for name, a in answers.items()}

    def repeat(self, feeds: Mapping[str, Array]) -> Callable[[], None]:
        """Bind one sample and return the bare call, for timing."""
        return self._engine.repeat(self._without_axis(feeds))

    def _without_axis(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        return {name: a[0] if name in self._framed else a for name, a in feeds.items()}

    def _with_axis(self, port: EnginePort) -> EnginePort:
        return replace(port, shape=(1, *port.shape)) if port.name in self._framed else port
