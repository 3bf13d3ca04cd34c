"""The order of elimination: the block-OBS error is the least squares error, worked out another way."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from small_nets import Net, pictures

from edge_convert import reference
from edge_convert.graph import Array, Graph, Op
from edge_convert.pruning.block_obs import covariances, eliminate
from edge_convert.pruning.channels import groups, trace
from edge_convert.pruning.least_squares import MOST_INPUTS, unfolded
from edge_convert.pruning.shrink import with_weights


def two_layers(kernel: int = 1) -> Graph:
    net = Net({"x": (1, 12, 12, 6)}, seed=5)
    return net.graph(net.conv(net.conv("x", 6, 3, "first"), 4, kernel, "second", activation="none"))


def noise(count: int) -> Array:
    """Inputs of which no channel tells the others, so that the damping hardly matters."""
    return np.random.default_rng(3).normal(0, 1, (count, 12, 12, 6)).astype(np.float32)


def least_squares_error(graph: Graph, x: Array, kept: list[int], kernel: int) -> float:
    """What ordinary least squares with a constant leaves of the second layer's results, relative."""
    read = reference.evaluate(graph, {"x": x}, keep={"first:0"})["first:0"]
    second = next(n for n in graph.nodes if n.name == "second")
    weights = graph.constant(second.inputs[1])
    rows = unfolded(second, weights, read, 1).astype(np.float64)
    wanted = rows @ weights.reshape(len(weights), -1).T
    columns = np.isin(np.tile(np.arange(6), kernel * kernel), kept)
    design = np.column_stack([rows[:, columns], np.ones(len(rows))])
    residue = wanted - design @ np.linalg.lstsq(design, wanted, rcond=None)[0]
    return float((residue**2).sum() / ((wanted - wanted.mean(axis=0)) ** 2).sum())


def test_the_error_is_that_of_ordinary_least_squares() -> None:
    for kernel in (1, 3):
        graph, x = two_layers(kernel), noise(40)
        channels = trace(graph)
        (group,) = groups(channels)
        cuts = eliminate(graph, channels, group, covariances(graph, channels, {"x": x}), (5, 4, 3))
        for width, cut in cuts.items():
            kept = [i for i, c in enumerate(channels.ids["first:0"]) if c not in cut.removed]
            assert len(kept) == width
            np.testing.assert_allclose(cut.error, least_squares_error(graph, x, kept, kernel), rtol=0.05)


def test_the_first_to_go_is_the_one_that_costs_least() -> None:
    graph, x = two_layers(), noise(40)
    channels = trace(graph)
    (group,) = groups(channels)
    cut = eliminate(graph, channels, group, covariances(graph, channels, {"x": x}), (5,))[5]
    errors = {gone: least_squares_error(graph, x, [i for i in range(6) if i != gone], 1) for gone in range(6)}
    assert [int(c) for c in cut.removed] == [channels.ids["first:0"][min(errors, key=lambda g: errors[g])]]


def test_greedy_is_near_the_best_of_all_subsets() -> None:
    graph, x = two_layers(), noise(40)
    channels = trace(graph)
    (group,) = groups(channels)
    cut = eliminate(graph, channels, group, covariances(graph, channels, {"x": x}), (3,))[3]
    best = min(least_squares_error(graph, x, list(k), 1) for k in itertools.combinations(range(6), 3))
    assert best * 0.95 <= cut.error <= 3 * best


def test_the_new_weights_do_what_the_error_says() -> None:
    graph, x = two_layers(3), noise(40)
    channels = trace(graph)
    (group,) = groups(channels)
    cut = eliminate(graph, channels, group, covariances(graph, channels, {"x": x}), (4,))[4]
    weights, _ = cut.weights["second"]
    gone = np.isin(channels.ids["first:0"], cut.removed)
    assert not weights[..., gone].any() and weights[..., ~gone].all()
    wanted = reference.run(graph, {"x": x})["second:0"]
    found = reference.run(with_weights(graph, dict(cut.weights)), {"x": x})["second:0"]
    inner = (slice(None), slice(1, -1), slice(1, -1))  # the border reads zeros, where no bias helps
    error = ((found - wanted)[inner] ** 2).sum() / ((wanted - wanted.mean(axis=(0, 1, 2)))[inner] ** 2).sum()
    assert 0.5 * cut.error < error < 1.5 * cut.error


def test_channels_that_an_addition_ties_are_one_group_and_a_concat_leaves_them_apart() -> None:
    net = Net({"x": (1, 12, 12, 3)})
    a, b, c = (net.conv("x", 8, name=name, activation="none") for name in "abc")
    y = net.node(Op.ADD, [a, b], "sum", activation="relu")
    y = net.node(Op.CONCAT, [y, c], "joined", axis=3)
    graph = net.graph(net.conv(y, 4, name="last"))
    channels = trace(graph)
    tied, alone = groups(channels)
    assert set(tied) == set(channels.ids["a:0"]) == set(channels.ids["b:0"])
    assert set(alone) == set(channels.ids["c:0"])
    seen = covariances(graph, channels, {"x": pictures(20)})
    cut = eliminate(graph, channels, alone, seen, (4,))[4]
    assert len(cut.removed) == 4 and set(cut.removed) <= set(alone)


def test_a_flattened_picture_takes_all_places_of_a_channel_as_one_block() -> None:
    net = Net({"x": (1, 12, 12, 3)})
    attrs: dict[str, Any] = {"strides": (4, 4)}
    y = net.node(Op.RESHAPE, [net.conv("x", 8, name="a", **attrs)], "flat", shape=(1, 72))
    graph = net.graph(net.node(Op.DENSE, [y, net.weight(5, 72)], "logits", activation="none"))
    channels = trace(graph)
    (group,) = groups(channels)
    seen = covariances(graph, channels, {"x": pictures(150)})
    weights, _ = eliminate(graph, channels, group, seen, (4,))[4].weights["logits"]
    idle = ~weights.reshape(5, 9, 8).any(axis=(0, 1))
    assert idle.sum() == 4


def test_a_layer_too_wide_for_its_equations_keeps_its_group_whole() -> None:
    graph, x = two_layers(3), noise(10)
    channels = trace(graph)
    (group,) = groups(channels)
    seen = covariances(graph, channels, {"x": x})
    assert eliminate(graph, channels, group, {k: v for k, v in seen.items() if k != "second"}, (4,)) == {}
    assert MOST_INPUTS >= 1000
