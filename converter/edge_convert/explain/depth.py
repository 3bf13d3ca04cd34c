"""How noise grows on the way through a quantized network: the ratio at every layer, in running order.

`score.layer_costs` asks what one layer alone does to the outputs; this asks what has come together by
each layer when all of them are quantized.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edge_convert.graph import Array, Graph
from edge_convert.measures.score import LayerCost
from edge_convert.quantizing import simulate
from edge_convert.quantizing.quantization import Quantization


def noise_by_depth(
    graph: Graph, quantization: Quantization, feeds: Mapping[str, Array]
) -> tuple[LayerCost, ...]:
    """Compare every layer's result with the float network's.

    Args:
        feeds: Samples by input port name; one runs at a time, so that no more than one sample's
            activations are held.

    Returns:
        In running order; layers whose results are equal or are no real numbers are not in it.
    """
    wanted = [node for node in graph.nodes if graph.tensor(node.output).dtype == "float32"]
    names = {node.output for node in wanted}
    signal, noise = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0)
    for index in range(len(next(iter(feeds.values())))):
        one = {name: values[index : index + 1] for name, values in feeds.items()}
        exact = simulate.evaluate(graph, Quantization({}, constants=quantization.constants), one, names)
        rounded = simulate.evaluate(graph, quantization, one, names)
        for name in names:
            values = exact[name].astype(np.float64)
            signal[name] += float(np.sum(values**2))
            noise[name] += float(np.sum((values - rounded[name]) ** 2))
    return tuple(
        LayerCost(node.name, node.op.value, node.source, _decibels(signal[node.output], noise[node.output]))
        for node in wanted
        if noise[node.output] > 0
    )


def _decibels(signal: float, noise: float) -> float:
    if signal == 0 or not np.isfinite(noise):
        return float("-inf")
    return float(10 * np.log10(signal / noise))
