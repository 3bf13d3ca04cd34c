"""What each group of channels costs the answers when it alone becomes narrower: measured, not assumed.

The layers that mix the group take over what they can (`block_obs.py`), the rest of the network stays as it
is, and the answers are held against the whole network's on calibration samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_convert import costs, reference
from edge_convert.graph import Array, Graph
from edge_convert.pruning import balance, block_obs
from edge_convert.pruning.block_obs import Cut
from edge_convert.pruning.channels import Channels, Ids
from edge_convert.quantizing.simulate import Run, Values, operands, runs

# Kernels work on this many channels at a time; a width in between costs as much as the next one up.
WIDTH_STEP = 8
# Multiply-accumulates that all trials together may take: about half a minute of numpy on one core.
_MOST_MACS = 60e9
_MOST_SAMPLES = 64
_FEWEST_SAMPLES = 8


@dataclass(frozen=True, eq=False)
class Narrowing:
    """One group with some of its channels gone.

    Args:
        group: Its place among the groups.
        width: Channels left.
        loss: What it does to the answers, see `distance`; grows as the width falls.
    """

    group: int
    width: int
    cut: Cut
    loss: float


def distance(wanted: Mapping[str, Array], found: Mapping[str, Array]) -> float:
    """How far answers are from those wanted, 0 when equal; of several outputs, the mean.

    For rows that are probabilities, the Kullback-Leibler divergence in nats, each class that is wanted
    counting as much as another; else the squared error relative to the variance of what is wanted.
    """
    weights = balance.weights(balance.kinds(wanted))
    return float(np.mean([_distance(array, found[name], weights) for name, array in wanted.items()]))


def _distance(wanted: Array, found: Array, weights: NDArray[np.float64]) -> float:
    p, q = np.asarray(wanted, np.float64), np.asarray(found, np.float64)
    if balance.are_probabilities(p):
        floor = 1e-12
        rows = (p * np.log(np.maximum(p, floor) / np.maximum(q, floor))).sum(axis=-1)
        return max(0.0, float(weights @ rows.reshape(len(rows), -1).mean(axis=1)))  # rounding
    return float(((p - q) ** 2).sum() / max(float(((p - p.mean(axis=0)) ** 2).sum()), 1e-30))


def measure(
    graph: Graph, channels: Channels, groups: Sequence[Ids], feeds: Mapping[str, Array]
) -> list[Narrowing]:
    """Try each group at each width that is a multiple of 8.

    A large graph is tried at fewer widths (multiples of 16, 32, ...) and on fewer samples, so that the work
    has a bound; which, depends on nothing but the graph.

    Args:
        feeds: Calibration samples by input port name.

    Returns:
        By group and falling width. A group that cannot be narrowed is not in it.
    """
    seen = block_obs.covariances(graph, channels, feeds)
    step, samples = _affordable(graph, groups)
    trials = _Trials(graph, {name: array[:samples] for name, array in feeds.items()})
    found: list[Narrowing] = []
    for index, group in enumerate(groups):
        widths = range(step, len(group), step)
        worst = 0.0
        cuts = block_obs.eliminate(graph, channels, group, seen, widths)
        for width in sorted(cuts, reverse=True):
            worst = max(worst, trials.loss(cuts[width]))
            found.append(Narrowing(index, width, cuts[width], worst))
    return found


def _affordable(graph: Graph, groups: Sequence[Ids]) -> tuple[int, int]:
    """Step of the widths, and samples."""
    per_sample = max(1, costs.macs(graph))
    step = WIDTH_STEP
    while True:
        trials = sum(len(range(step, len(group), step)) for group in groups)
        samples = int(_MOST_MACS / per_sample / max(1, trials))
        if samples >= _FEWEST_SAMPLES or trials == 0 or step > max(map(len, groups)):
            return step, max(_FEWEST_SAMPLES, min(_MOST_SAMPLES, samples))
        step *= 2


class _Trials:
    """The whole network's values, from which a changed layer's are worked out onwards."""

    def __init__(self, graph: Graph, feeds: Mapping[str, Array]) -> None:
        self._graph = graph
        self._nodes = {node.name: node for node in graph.nodes}
        self._constants: dict[str, Values] = {
            node.name: {n: d for n in node.inputs if (d := graph.tensor(n).data) is not None}
            for node in graph.nodes
        }
        self._runs: list[Run] = runs(graph, feeds)
        for run in self._runs:
            for node in graph.nodes:
                run.values[node.output] = self._apply(node.name, run.values, run.samples, {})
        self._wanted = self._answers(run.values for run in self._runs)

    def _apply(
        self, name: str, values: Values, samples: int, changed: Mapping[str, tuple[Array, Array]]
    ) -> Array:
        node = self._nodes[name]
        if name in changed:
            return reference.apply(node, [values[node.inputs[0]], *changed[name]], samples)
        return reference.apply(node, operands(node, values, self._constants[name]), samples)

    def loss(self, cut: Cut) -> float:
        """What the answers lose with these weights."""
        results = []
        for run in self._runs:
            values = dict(run.values)
            dirty: set[str] = set()
            for node in self._graph.nodes:
                if node.name in cut.weights or not dirty.isdisjoint(node.inputs):
                    values[node.output] = self._apply(node.name, values, run.samples, cut.weights)
                    dirty.add(node.output)
            results.append(values)
        return distance(self._wanted, self._answers(iter(results)))

    def _answers(self, values: Iterator[Values]) -> Values:
        every = list(values)
        return {
            name: np.concatenate([np.atleast_1d(v[name]) for v in every])
            for name in self._graph.output_tensors()
        }
