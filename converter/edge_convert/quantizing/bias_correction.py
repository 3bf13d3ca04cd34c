"""Bias correction: each bias takes up the mean error that quantization brought to its node's outputs.

Nagel et al., arXiv:1906.04721, section 4.2, measured on calibration data instead of derived, and in
running order: the inputs of a node are those of the network quantized and corrected so far, so that
clipped activations upstream are made up for, too.

What the float network gives is the same for every recipe and target: its means are taken once. Few
samples go through a network at a time, so that what a node reads is still in the processor's cache.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from edge_convert import reference
from edge_convert.emitters.tflite_rules import WEIGHT_AXIS
from edge_convert.graph import Array, Graph, Node
from edge_convert.quantizing.quantization import Quantization, quantize
from edge_convert.quantizing.simulate import (
    Run,
    activation,
    bias_name,
    bias_params,
    constants_of,
    last_uses,
    multiplies_codes,
    on_grid,
    operands,
    runs,
    without_activation,
)
from edge_convert.reference_layers import add_by_channel

# A mean needs no more samples than this; memory needs no more elements than that in one tensor.
_MOST_SAMPLES = 256
_MOST_ELEMENTS = 16 << 20
# Elements of the largest tensor of what runs together: 1.5 MB, measured to be the fastest by a factor of 2.
_TOGETHER = 384 << 10

Means = Mapping[str, NDArray[np.float64]]


class BiasCorrection:
    """Corrects the biases of quantizations of one graph."""

    def __init__(self, graph: Graph, feeds: Mapping[str, Array]) -> None:
        """Set up; nothing runs before it is asked for.

        Args:
            feeds: Calibration samples by input port name; up to 256, evenly picked, are used.
        """
        self._graph = graph
        self._feeds = feeds
        self._readers = graph.consumers()
        self._ends = last_uses(graph)

    def _runs(self) -> list[Run]:
        return few_at_a_time(self._graph, self._feeds, _MOST_SAMPLES)

    @cached_property
    def _wanted(self) -> Means:
        """Means of what each layer gives before its activation in the float network, by channel."""
        totals: dict[str, NDArray[np.float64]] = {}
        counts: dict[str, int] = {}
        for run in self._runs():
            values = dict(run.values)
            for node in self._graph.nodes:
                constants = {n: d for n in node.inputs if (d := self._graph.tensor(n).data) is not None}
                read = operands(node, values, constants)
                if node.op in WEIGHT_AXIS:
                    result = reference.apply(without_activation(node), read, run.samples)
                    sums, count = channel_sums(result)
                    totals[node.name] = totals.get(node.name, 0.0) + sums
                    counts[node.name] = counts.get(node.name, 0) + count
                    values[node.output] = activation(node)(result)
                else:
                    values[node.output] = reference.apply(node, read, run.samples)
                for name in self._ends[node.name]:
                    del values[name]
        return {name: total / counts[name] for name, total in totals.items()}

    def corrected(self, quantization: Quantization) -> Quantization:
        """The same quantization, with codes for the biases.

        A bias that several nodes share is left as it is: they would want different ones.
        """
        coarse = [
            replace(run, values={n: on_grid(quantization, n, a) for n, a in run.values.items()})
            for run in self._runs()
        ]
        codes = dict(quantization.codes)
        for node in self._graph.nodes:
            shared = len(node.inputs) == 3 and len(self._readers[node.inputs[2]]) > 1
            if multiplies_codes(quantization, node) and not shared:
                codes[bias_name(node)] = corrected_step(
                    self._graph, quantization, node, coarse, self._wanted[node.name]
                )
            else:
                constants = constants_of(self._graph, quantization, node)
                for run in coarse:
                    result = reference.apply(node, operands(node, run.values, constants), run.samples)
                    run.values[node.output] = on_grid(quantization, node.output, result)
            for run in coarse:
                for name in self._ends[node.name]:
                    del run.values[name]
        return replace(quantization, codes=codes)


def few_at_a_time(graph: Graph, feeds: Mapping[str, Array], most_samples: int) -> list[Run]:
    """Evenly picked samples, no more than memory bears, in runs whose tensors stay in the cache."""
    largest = max(graph.tensor(node.output).size for node in graph.nodes)
    count = len(next(iter(feeds.values())))
    most = min(count, most_samples, max(8, _MOST_ELEMENTS // largest))
    index = np.linspace(0, count - 1, most).round().astype(np.int64)
    picked = {name: np.asarray(array)[index] for name, array in feeds.items()}
    return runs(graph, picked, max(1, _TOGETHER // largest))


def corrected_step(
    graph: Graph, quantization: Quantization, node: Node, coarse: list[Run], wanted: NDArray[np.float64]
) -> NDArray[np.int32]:
    """Run one node of the quantized network with a bias that gives the wanted means before the activation.

    Args:
        coarse: Values of the quantized network so far; the node's result is added.
        wanted: By channel.

    Returns:
        Codes of the corrected bias, shape (channels,).
    """
    linear, finish = without_activation(node), activation(node)
    constants = constants_of(graph, quantization, node)
    total, count = np.zeros(graph.tensor(node.output).shape[-1]), 0
    for run in coarse:
        result = reference.apply(linear, operands(node, run.values, constants), run.samples)
        run.values[node.output] = result
        sums, elements = channel_sums(result)
        total, count = total + sums, count + elements
    bias = constants.get(bias_name(node), np.zeros(len(total), np.float32)).reshape(-1)
    grid = bias_params(quantization, node)
    codes = quantize(np.asarray(bias + wanted - total / count, np.float32), grid)
    moved = (codes * grid.scale.astype(np.float64) - bias).astype(np.float32)
    for run in coarse:
        add_by_channel(run.values[node.output], moved)
        run.values[node.output] = on_grid(quantization, node.output, finish(run.values[node.output]))
    return codes.astype(np.int32)


def channel_sums(values: Array) -> tuple[NDArray[np.float64], int]:
    """Sums over all but the last axis, and how many elements are in each.

    The lines of a picture are added first, in float32, as long vectors; then their pixels in float64.
    """
    channels = values.shape[-1]
    pixels = values
    if values.ndim > 2:
        pixels = values.reshape(-1, values.shape[-2] * channels).sum(axis=0)
    return pixels.reshape(-1, channels).sum(axis=0, dtype=np.float64), values.size // channels
