"""The noise of a classifier before its last softmax: a steadier figure to choose by than that of its answers.

Far from a boundary a softmax hides all noise, near one it shows it tenfold, so that two or three of thirty
samples make the ratio of the answers. Before the softmax each sample counts. Measured over the candidates of
the speech model, each with its ratio on 30 samples beside that of its answers to 400 others: the ratio of the
answers correlates 0.66 with it, the one before the softmax 0.87 (pictures: 0.88 and 0.91, persons: 0.85 and
0.88).

The quantized network is computed by `simulate.py`, for no file gives its results before the softmax. How good
answers are is still what the gates ask; this only orders candidates.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

from edge_convert import costs
from edge_convert.graph import Array, Graph, Op
from edge_convert.measures.score import LayerCost, costs_by, worst_sqnr_db
from edge_convert.quantizing import simulate
from edge_convert.quantizing.quantization import Quantization

# What a candidate's noise may cost, a second or so; with fewer samples the answers say as much.
_MOST_MACS, _FEWEST_SAMPLES = 10e9, 16

_SATURATING = frozenset({Op.SOFTMAX, Op.SIGMOID})


class Unsaturated:
    """Asks candidates of one network for their noise before what saturates their answers."""

    def __init__(self, graph: Graph, feeds: Mapping[str, Array]) -> None:
        """Set up; nothing runs before it is asked for.

        Args:
            graph: The whole of it, in float.
            feeds: Samples that choose, by input port name; the first ones are used, as many as take a second.
        """
        most = int(_MOST_MACS / max(1, costs.macs(graph)))
        self._graph = graph
        self._feeds = {name: values[:most] for name, values in feeds.items()}
        enough = min(len(values) for values in self._feeds.values()) >= _FEWEST_SAMPLES
        self._applies = enough and saturates(graph)

    def sqnr_db(self, graph: Graph, quantization: Quantization) -> float | None:
        """The lowest ratio of all outputs, decibels; infinite when all are equal.

        Args:
            graph: A form of the network, with the same outputs.

        Returns:
            None where it says no more than the answers do: nothing saturates them, or samples are too few.
        """
        if not self._applies:
            return None
        ratio = worst_sqnr_db(self._exact, _computed(graph, quantization, self._feeds))
        return float("inf") if ratio is None else ratio

    @cached_property
    def _exact(self) -> dict[str, Array]:
        return _computed(self._graph, Quantization({}), self._feeds)


def layer_costs(
    graph: Graph, quantization: Quantization, feeds: Mapping[str, Array]
) -> tuple[LayerCost, ...]:
    """What each layer alone costs before what saturates the answers, where something does; else in them.

    Args:
        feeds: Samples by input port name.
    """
    exact = _computed(graph, Quantization({}), feeds)
    return costs_by(graph, quantization, lambda alone: worst_sqnr_db(exact, _computed(graph, alone, feeds)))


def _computed(graph: Graph, quantization: Quantization, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """By output port name: its values before they saturate."""
    places = looked_at(graph)
    values = simulate.evaluate(graph, quantization, feeds, set(places.values()))
    softmax = {node.inputs[0] for node in graph.nodes if node.op is Op.SOFTMAX}
    # what all classes have in common is nothing to a softmax
    return {
        port: values[name] - values[name].mean(axis=-1, keepdims=True) if name in softmax else values[name]
        for port, name in places.items()
        if name in values
    }


def saturates(graph: Graph) -> bool:
    """Whether any output is saturated."""
    places = looked_at(graph)
    return any(places[port.name] != port.tensor for port in graph.outputs)


def looked_at(graph: Graph) -> dict[str, str]:
    """By output port name: the tensor before what saturates it, or the one that leaves the graph."""
    producers = graph.producers()
    found: dict[str, str] = {}
    for port in graph.outputs:
        name = port.tensor
        while name in producers and producers[name].op is Op.RESHAPE:
            name = producers[name].inputs[0]
        saturated = name in producers and producers[name].op in _SATURATING
        found[port.name] = producers[name].inputs[0] if saturated else port.tensor
    return found
