"""The least squares behind pruning: what they look at."""

from __future__ import annotations

import math

import numpy as np
import pytest
from small_nets import Net

from edge_convert import reference
from edge_convert.pruning import least_squares
from edge_convert.pruning.channels import trace
from edge_convert.pruning.least_squares import reconstruct, step_over
from edge_convert.pruning.shrink import kept_positions, with_weights


@pytest.mark.parametrize("shape", [(1, 25, 5, 8), (1, 7, 7, 8), (1, 24, 24, 8), (1, 1, 15, 8), (1, 8)])
@pytest.mark.parametrize("times", [1, 2, 3, 5, 7, 15, 24])
def test_results_are_picked_from_every_row_and_column(shape: tuple[int, ...], times: int) -> None:
    grid = math.prod(shape[1:-1])
    results = 40 * grid
    step = step_over(shape, results, max(1, results // times))
    assert step >= times
    assert set(np.arange(0, step * grid, step) % grid) == set(range(grid))


def test_a_map_as_wide_as_the_step_is_fitted_all_over(monkeypatch: pytest.MonkeyPatch) -> None:
    net = Net({"x": (1, 5, 5, 4)})
    graph = net.graph(net.conv("x", 8, 3, "only"))
    (node,) = graph.nodes
    weights, bias = (graph.constant(name) for name in node.inputs[1:])
    spoilt = with_weights(graph, {"only": (weights * 0.5, bias)})
    x = np.random.default_rng(1).normal(0, 1, (200, 5, 5, 4)).astype(np.float32)
    channels = trace(graph)
    whole = kept_positions(channels, np.zeros(len(channels.locked), bool))
    monkeypatch.setattr(least_squares, "MOST_ROWS", 200 * 25 // 5)  # every fifth result
    fitted = reconstruct(graph, spoilt, whole, {"x": x})
    wanted, found = (reference.run(g, {"x": x})["only:0"] for g in (graph, fitted))
    assert np.abs(wanted - found).max() < 0.02 * np.abs(wanted).max()
