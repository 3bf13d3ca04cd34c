"""How near a model's answers are to another's, and which of its layers cost most.

Plain functions of arrays; what is enough is for `gates.py` to say.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from edge_convert.graph import Array, Graph, Node
from edge_convert.quantizing import simulate
from edge_convert.quantizing.quantization import Quantization

# A layer's cost is a ranking, not a measurement: few samples are enough.
_COST_SAMPLES = 32


def sqnr_db(reference: Array, test: Array) -> float | None:
    """Signal-to-quantization-noise ratio: 10 log10(sum reference**2 / sum (reference - test)**2).

    Returns:
        Decibels; None when the two are equal, -inf when the test is not finite or the reference is
        zero throughout.
    """
    exact = np.asarray(reference, np.float64)
    error = exact - np.asarray(test, np.float64)
    noise = float(np.sum(error**2))
    if noise == 0.0:
        return None
    signal = float(np.sum(exact**2))
    if not np.isfinite(noise) or signal == 0.0:
        return float("-inf")
    return float(10.0 * np.log10(signal / noise))


def worst_sqnr_db(reference: Mapping[str, Array], test: Mapping[str, Array]) -> float | None:
    """The lowest ratio of all outputs; None when all are equal."""
    ratios = [sqnr_db(array, test[name]) for name, array in reference.items()]
    return min((ratio for ratio in ratios if ratio is not None), default=None)


def agreement(reference: Array, test: Array) -> float:
    """Share of the samples to which both give the same top-1 class (the last axis), 0 to 1."""
    return float(np.mean(np.argmax(reference, axis=-1) == np.argmax(test, axis=-1)))


def accuracy(outputs: Array, labels: Array) -> float:
    """Share of the samples whose top-1 class is the label, 0 to 1.

    Args:
        outputs: Shape (n, ..., classes).
        labels: Class numbers, shape (n, ...).
    """
    classes = np.argmax(outputs, axis=-1)
    return float(np.mean(classes == np.asarray(labels).reshape(classes.shape)))


@dataclass(frozen=True)
class LayerCost:
    """What quantizing one layer alone does to the outputs.

    Args:
        node: Its name; the name of the port for an input of the graph.
        op: Its operator; "input" for an input of the graph.
        source: What the source file called it.
        sqnr_db: Worst output's ratio with only this layer quantized; None when nothing changes.
    """

    node: str
    op: str
    source: str
    sqnr_db: float | None


def layer_costs(
    graph: Graph, quantization: Quantization, feeds: Mapping[str, Array]
) -> tuple[LayerCost, ...]:
    """Quantize each layer by itself (its weights and its result) and compare the outputs.

    Args:
        feeds: Samples by input port name; the first 32 are used.

    Returns:
        The costliest layer first; layers that stay in float are not in it.
    """
    few = {name: array[:_COST_SAMPLES] for name, array in feeds.items()}
    wanted = set(graph.output_tensors())
    exact = simulate.evaluate(graph, Quantization({}), few, wanted)
    return costs_by(
        graph, quantization, lambda alone: worst_sqnr_db(exact, simulate.evaluate(graph, alone, few, wanted))
    )


def costs_by(
    graph: Graph, quantization: Quantization, ratio_db: Callable[[Quantization], float | None]
) -> tuple[LayerCost, ...]:
    """Quantize each layer by itself (its weights and its result) and ask for the noise.

    Args:
        ratio_db: Signal to noise of the graph so quantized, None when nothing changes.

    Returns:
        The costliest layer first; layers that stay in float are not in it.
    """

    def cost(names: set[str], node: str, op: str, source: str) -> LayerCost:
        alone = replace(
            quantization,
            params={name: params for name, params in quantization.params.items() if name in names},
            codes={name: codes for name, codes in quantization.codes.items() if name in names},
        )
        return LayerCost(node, op, source, ratio_db(alone))

    costs = [cost({port.tensor}, port.name, "input", "") for port in graph.inputs]
    costs += [cost(_own(graph, node), node.name, node.op.value, node.source) for node in graph.nodes]
    changed = [c for c in costs if c.sqnr_db is not None]
    return tuple(sorted(changed, key=lambda c: (c.sqnr_db, c.node)))


def _own(graph: Graph, node: Node) -> set[str]:
    """The tensors that are this node's: its constants and its result."""
    return {node.output, *(name for name in node.inputs if graph.tensor(name).is_constant)}
