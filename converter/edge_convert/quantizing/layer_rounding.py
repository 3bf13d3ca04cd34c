"""The quantized network rounded layer by layer, in running order, beside the float network.

Each layer's weights are chosen (`rounding.py`) on what it really reads, the results of the layers quantized
before it, and its bias then takes up what is left in the means (`bias_correction.py`). Work and memory stay
bounded for large networks: fewer samples, fewer results of each layer, and layers of very many inputs keep
their nearest codes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from edge_convert import costs, reference
from edge_convert.graph import Array, Graph, Node
from edge_convert.quantizing.bias_correction import channel_sums, corrected_step, few_at_a_time
from edge_convert.quantizing.quantization import Quantization
from edge_convert.quantizing.rounding import can_round, rounded_weights, rows_of
from edge_convert.quantizing.simulate import (
    Run,
    activation,
    bias_name,
    constants_of,
    last_uses,
    multiplies_codes,
    on_grid,
    operands,
    without_activation,
)

# Samples: more of them only cost time; and multiply-accumulates of both networks together: about a minute.
_MOST_SAMPLES, _FEWEST_SAMPLES = 192, 16
_MOST_MACS = 100e9


class LayerRounding:
    """Rounds the weights of quantizations of one graph."""

    def __init__(self, graph: Graph, feeds: Mapping[str, Array]) -> None:
        """Set up; nothing runs before it is asked for.

        Args:
            feeds: Calibration samples by input port name; up to 192, evenly picked, are used.
        """
        self._graph, self._feeds = graph, feeds
        self._readers = graph.consumers()
        self._ends = last_uses(graph)

    def _runs(self) -> list[Run]:
        affordable = int(_MOST_MACS / max(1, 2 * costs.macs(self._graph)))
        return few_at_a_time(self._graph, self._feeds, min(_MOST_SAMPLES, max(_FEWEST_SAMPLES, affordable)))

    def rounded(self, quantization: Quantization) -> Quantization:
        """The same quantization, with other codes for weights and with codes for the biases."""
        fine = self._runs()
        coarse = [
            replace(run, values={n: on_grid(quantization, n, a) for n, a in run.values.items()})
            for run in fine
        ]
        codes = dict(quantization.codes)
        now = replace(quantization, codes=codes)
        for node in self._graph.nodes:
            wanted = self._before_activation(node, fine)
            shared = len(node.inputs) == 3 and len(self._readers[node.inputs[2]]) > 1
            if multiplies_codes(now, node) and not shared:
                if can_round(self._graph, now, node):
                    codes[node.inputs[1]] = self._weights(now, node, coarse, wanted)
                sums = [channel_sums(array) for array in wanted]
                means = sum(s for s, _ in sums) / sum(n for _, n in sums)
                codes[bias_name(node)] = corrected_step(self._graph, now, node, coarse, np.asarray(means))
            else:
                constants = constants_of(self._graph, now, node)
                for run in coarse:
                    result = reference.apply(node, operands(node, run.values, constants), run.samples)
                    run.values[node.output] = on_grid(now, node.output, result)
            for here, there, result in zip(fine, coarse, wanted, strict=True):
                here.values[node.output] = activation(node)(result)
                for name in self._ends[node.name]:
                    del here.values[name], there.values[name]
        return now

    def _before_activation(self, node: Node, fine: list[Run]) -> list[Array]:
        """What the float network gives, run by run."""
        constants = {n: d for n in node.inputs if (d := self._graph.tensor(n).data) is not None}
        linear = without_activation(node)
        return [reference.apply(linear, operands(node, run.values, constants), run.samples) for run in fine]

    def _weights(self, now: Quantization, node: Node, coarse: list[Run], wanted: list[Array]) -> Array:
        weights = self._graph.constant(node.inputs[1])
        rows = rows_of(node, weights, [run.values[node.inputs[0]] for run in coarse], wanted)
        params = now.params[node.inputs[1]]
        nearest = now.codes[node.inputs[1]].astype(np.int8)
        return rounded_weights(node, weights, nearest, params.scale, rows)
