"""Bias correction: each bias takes up the mean error that quantization brought to its node's outputs.

Nagel et al., arXiv:1906.04721, section 4.2, measured on calibration data instead of derived, and in
running order: the inputs of a node are those of the network quantized and corrected so far, so that
clipped activations upstream are made up for, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edge_convert import reference
from edge_convert.graph import Array, Graph, Node
from edge_convert.quantization import Quantization, quantize
from edge_convert.simulate import (
    Values,
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

# A mean needs no more samples than this; memory needs no more elements than that in one tensor.
_MOST_SAMPLES = 256
_MOST_ELEMENTS = 16 << 20


@dataclass(frozen=True)
class _Pair:
    """The same samples in the float network and in the quantized one."""

    samples: int
    exact: Values
    coarse: Values


def corrected(graph: Graph, quantization: Quantization, feeds: Mapping[str, Array]) -> Quantization:
    """The same quantization, with codes for the biases.

    A bias that several nodes share is left as it is: they would want different ones.

    Args:
        feeds: Calibration samples by input port name; up to 256, evenly picked, are used.
    """
    pairs = [
        _Pair(run.samples, run.values, {n: on_grid(quantization, n, a) for n, a in run.values.items()})
        for run in runs(graph, _picked(graph, feeds))
    ]
    readers = graph.consumers()
    ends = last_uses(graph)
    codes = dict(quantization.codes)
    for node in graph.nodes:
        shared = len(node.inputs) == 3 and len(readers[node.inputs[2]]) > 1
        if multiplies_codes(quantization, node) and not shared:
            codes[bias_name(node)] = _step(graph, quantization, node, pairs)
        else:
            constants = constants_of(graph, quantization, node)
            exact_constants = {n: d for n in node.inputs if (d := graph.tensor(n).data) is not None}
            for pair in pairs:
                exact = operands(node, pair.exact, exact_constants)
                coarse = operands(node, pair.coarse, constants)
                pair.exact[node.output] = reference.apply(node, exact, pair.samples)
                result = reference.apply(node, coarse, pair.samples)
                pair.coarse[node.output] = on_grid(quantization, node.output, result)
        for pair in pairs:
            for name in ends[node.name]:
                del pair.exact[name], pair.coarse[name]
    return replace(quantization, codes=codes)


def _step(graph: Graph, quantization: Quantization, node: Node, pairs: list[_Pair]) -> NDArray[np.int32]:
    """Run one node in both networks and make the means of their results equal, channel by channel.

    Returns:
        Codes of the corrected bias, shape (channels,).
    """
    linear, finish = without_activation(node), activation(node)
    constants = constants_of(graph, quantization, node)
    exact_constants = {n: d for n in node.inputs if (d := graph.tensor(n).data) is not None}
    results: list[tuple[Array, Array]] = []
    for pair in pairs:
        exact, coarse = operands(node, pair.exact, exact_constants), operands(node, pair.coarse, constants)
        results.append(
            (reference.apply(linear, exact, pair.samples), reference.apply(linear, coarse, pair.samples))
        )
    channels = graph.tensor(node.output).shape[-1]
    errors = [(wanted.astype(np.float64) - got).reshape(-1, channels) for wanted, got in results]
    error = np.concatenate(errors).mean(axis=0)
    bias = constants.get(bias_name(node), np.zeros(channels, np.float32)).reshape(-1)
    grid = bias_params(quantization, node)
    codes = quantize(np.asarray(bias + error, np.float32), grid)
    moved = (codes * grid.scale.astype(np.float64) - bias).astype(np.float32)
    for pair, (wanted, got) in zip(pairs, results, strict=True):
        pair.exact[node.output] = finish(wanted)
        pair.coarse[node.output] = on_grid(quantization, node.output, finish(got + moved))
    return codes.astype(np.int32)


def _picked(graph: Graph, feeds: Mapping[str, Array]) -> dict[str, Array]:
    count = len(next(iter(feeds.values())))
    largest = max(graph.tensor(node.output).size for node in graph.nodes)
    most = min(count, _MOST_SAMPLES, max(8, _MOST_ELEMENTS // largest))
    index = np.linspace(0, count - 1, most).round().astype(np.int64)
    return {name: np.asarray(array)[index] for name, array in feeds.items()}
