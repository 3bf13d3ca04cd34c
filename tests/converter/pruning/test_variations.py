"""Varied samples: other than those they come of, in range, in the source's layout, the same every time."""

from __future__ import annotations

import numpy as np
from small_nets import Net, pictures

from edge_convert import reference
from edge_convert.graph import Graph, Port
from edge_convert.pruning.channels import trace
from edge_convert.pruning.least_squares import reconstruct
from edge_convert.pruning.shrink import kept_positions, with_weights
from edge_convert.pruning.variations import filled_up, varied


def keywords(port: Port | None = None) -> Graph:
    net = Net({"x": (1, 12, 6, 1)})
    graph = net.graph(net.conv(net.conv("x", 16, 3, "first"), 8, 3, "last"))
    return graph if port is None else Graph("net", (port,), graph.outputs, graph.nodes, graph.tensors)


def sounds(count: int) -> np.ndarray:
    return np.random.default_rng(2).normal(3, 2, (count, 12, 6, 1)).astype(np.float32)


def test_varied_samples_stay_in_range_and_differ() -> None:
    x = pictures(32)
    random = np.random.default_rng(0)
    for _ in range(5):
        found = varied({"x": x}, random)["x"]
        assert found.shape == x.shape and found.dtype == np.float32
        assert x.min() - 1e-6 <= found.min() and found.max() <= x.max() + 1e-6
        assert np.abs(found - x).max(axis=(1, 2, 3)).min() > 0


def test_labels_of_another_kind_are_not_touched() -> None:
    ids = np.arange(20, dtype=np.int64).reshape(10, 2)
    sound = np.random.default_rng(1).normal(size=(10, 49, 10, 1)).astype(np.float32)
    found = varied({"ids": ids, "sound": sound}, np.random.default_rng(0))
    np.testing.assert_array_equal(found["ids"], ids)
    assert not np.array_equal(found["sound"], sound)


def test_few_samples_are_filled_up_and_stand_first() -> None:
    x = sounds(10)
    found = filled_up(keywords(), {"x": x}, 45)["x"]
    assert found.shape == (40, 12, 6, 1) and found.dtype == np.float32
    np.testing.assert_array_equal(found[:10], x)
    for copy in np.split(found[10:], 3):
        assert np.abs(copy - x).max(axis=(1, 2, 3)).min() > 0
    np.testing.assert_array_equal(filled_up(keywords(), {"x": x}, 45)["x"], found)


def test_many_samples_stay_as_they_are() -> None:
    x = sounds(30)
    np.testing.assert_array_equal(filled_up(keywords(), {"x": x}, 59)["x"], x)


def test_samples_of_a_source_with_channels_first_are_varied_along_its_rows() -> None:
    x = sounds(10)
    port = Port("x", "x", (1, 1, 12, 6), (0, 2, 3, 1))
    found = filled_up(keywords(port), {"x": x.transpose(0, 3, 1, 2)}, 40)["x"]
    assert found.shape == (40, 1, 12, 6)
    np.testing.assert_array_equal(found.transpose(0, 2, 3, 1), filled_up(keywords(), {"x": x}, 40)["x"])


def test_a_layer_fitted_to_few_samples_does_better_on_others_when_they_are_filled_up() -> None:
    graph = keywords()
    channels = trace(graph)
    whole = kept_positions(channels, np.zeros(len(channels.locked), bool))
    weights, bias = (graph.constant(name) for name in graph.nodes[1].inputs[1:])
    noise = np.random.default_rng(4).normal(0, weights.std(), weights.shape).astype(np.float32)
    spoilt = with_weights(graph, {"last": (weights + noise, bias)})
    few, others = sounds(42)[:2], sounds(42)[2:]
    wanted = reference.run(graph, {"x": others})["last:0"]

    def error(feeds: dict[str, np.ndarray]) -> float:
        fitted = reconstruct(graph, spoilt, whole, feeds)
        return float(np.square(reference.run(fitted, {"x": others})["last:0"] - wanted).mean())

    assert error(filled_up(graph, {"x": few}, 40)) < 0.8 * error({"x": few})
