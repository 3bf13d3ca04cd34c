"""Mixed precision: which layers of an int8 network to keep in float for the most signal per lost speed.

A tensor stays free of its int8 grid only when both the layer that makes it and those that read it are in
float: one layer alone still reads codes and hands codes on. So the unit here is a layer with its readers,
and what it costs is the time that it and the conversions at its borders are predicted to take longer than
in int8 (`time_model.py`: a first layer of one channel costs nothing, one of the same size that mixes 64
channels much, most of all on an ARM processor with the int8 dot product). Nothing else than float32 is
offered: measured in LiteRT, int8 weights under float activations ran three times slower than float in
depthwise layers, and int16 activations fifty times slower.

Which step is worth its time is for the search to measure; here are the candidates, the smallest set first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from edge_convert import costs as macs
from edge_convert import time_model
from edge_convert.graph import Graph
from edge_convert.measures.score import LayerCost
from edge_convert.quantizing.quantization import Quantization
from edge_convert.quantizing.quantize import Rules
from edge_convert.quantizing.quantizer import Quantizer
from edge_convert.recipe import Recipe
from edge_convert.time_model import Cpu

# Sets offered, and the largest share of the network's multiply-accumulates in one.
_MOST_STEPS = 6
_MOST_SHARE = 0.5
# Below this share of the network's time in int8 no difference counts: the noisier unit comes first.
_FREE_SHARE = 0.02


def ladder(
    graph: Graph,
    quantizer: Quantizer,
    recipe: Recipe,
    rules: Rules,
    costs: Sequence[LayerCost],
    cpu: Cpu = "x86-64",
) -> Iterator[tuple[frozenset[str], Quantization]]:
    """Sets of nodes to keep in float, each with the quantization of the rest.

    None for a target that wants everything in int8, such as the Edge TPU.

    Args:
        quantizer: Of this graph.
        costs: What each layer costs alone (`score.layer_costs`), of the quantization by this recipe.
        cpu: Whose time is given.

    Yields:
        Larger and larger sets, at most six.
    """
    for names in sets(graph, rules, costs, cpu):
        yield names, quantizer.quantize(recipe, rules, names)


def sets(graph: Graph, rules: Rules, costs: Sequence[LayerCost], cpu: Cpu = "x86-64") -> list[frozenset[str]]:
    """The sets of nodes alone: nested, the one of most noise removed for its work first."""
    if rules.whole or rules.integer_io:
        return []
    by_name = {node.name: node for node in graph.nodes}
    readers = graph.consumers()
    price = _prices(graph, cpu)
    units: list[tuple[float, str, frozenset[str]]] = []
    for cost in costs:
        node = by_name.get(cost.node)
        if node is None or cost.sqnr_db is None:
            continue  # an input of the graph: its codes are what the runtime is fed with
        unit = frozenset(n.name for n in (node, *readers[node.output]) if rules.has_int8_form(graph, n))
        if unit:
            noise = 10.0 ** (-cost.sqnr_db / 10.0)
            units.append((-noise / price(unit), cost.node, unit))
    most = _MOST_SHARE * macs.macs(graph)
    found: list[frozenset[str]] = []
    chosen: frozenset[str] = frozenset()
    for _, _, unit in sorted(units):
        larger = chosen | unit
        if larger == chosen or sum(macs.macs_of(graph, by_name[name]) for name in larger) > most:
            continue
        chosen = larger
        found.append(chosen)
        if len(found) == _MOST_STEPS:
            break
    return found


def _prices(graph: Graph, cpu: Cpu) -> Callable[[frozenset[str]], float]:
    """What it costs to keep nodes in float, predicted microseconds."""
    int8, float32 = time_model.by_node(graph, "int8", cpu), time_model.by_node(graph, "float32", cpu)
    least = _FREE_SHARE * sum(int8.values())

    def price(kept: frozenset[str]) -> float:
        longer = sum(float32[name] - int8[name] for name in sorted(kept))
        return max(longer + time_model.conversions_us(borders(graph, kept), cpu), least)

    return price


def borders(graph: Graph, kept: frozenset[str]) -> list[int]:
    """Elements of each tensor that is converted because these nodes are in float."""
    nodes = [node for node in graph.nodes if node.name in kept]
    made = {node.output for node in nodes}
    read = {name for node in nodes for name in node.inputs if not graph.tensor(name).is_constant}
    return [graph.tensor(name).size for name in sorted(read ^ made)]
