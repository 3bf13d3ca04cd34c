"""Sensitivities and the choice of widths: the cheapest loss for the time it saves goes first."""

from __future__ import annotations

import numpy as np
import pytest
from small_nets import Net, pictures

from edge_convert import costs, reference
from edge_convert.graph import Graph, Op
from edge_convert.pruning import dead_channels, sensitivity
from edge_convert.pruning.allocation import allocate
from edge_convert.pruning.block_obs import Cut
from edge_convert.pruning.channels import groups, trace
from edge_convert.pruning.sensitivity import Narrowing, distance, measure
from edge_convert.pruning.shrink import with_weights
from edge_convert.time_model import predicted_us


def wide_net() -> Graph:
    net = Net({"x": (1, 12, 12, 3)}, seed=2)
    y = net.conv(net.conv("x", 32, 3, "first"), 24, 3, "second")
    y = net.node(Op.MEAN, [net.conv(y, 16, name="third")], "mean", axes=(1, 2), keepdims=True)
    y = net.node(Op.RESHAPE, [y], "flat", shape=(1, 16))
    y = net.node(Op.DENSE, [y, net.weight(4, 16, gain=3.0)], "logits", activation="none")
    return net.graph(net.node(Op.SOFTMAX, [y], "classes", beta=1.0))


def test_distance_is_the_divergence_of_probabilities_by_hand() -> None:
    wanted, found = {"y": np.array([[0.5, 0.5]])}, {"y": np.array([[0.25, 0.75]])}
    by_hand = 0.5 * np.log(0.5 / 0.25) + 0.5 * np.log(0.5 / 0.75)
    assert distance(wanted, found) == pytest.approx(by_hand)
    assert distance(wanted, wanted) == 0.0


def test_distance_of_anything_else_is_the_squared_error_by_the_variance() -> None:
    wanted, found = {"y": np.array([[0.0], [2.0]])}, {"y": np.array([[1.0], [2.0]])}
    assert distance(wanted, found) == pytest.approx(1 / 2)


def test_a_narrowing_loses_what_the_network_with_its_weights_loses() -> None:
    graph, feeds = wide_net(), {"x": pictures(24)}
    channels = trace(graph)
    found = measure(graph, channels, groups(channels), feeds)
    assert [(n.group, n.width) for n in found] == [(0, 24), (0, 16), (0, 8), (1, 16), (1, 8), (2, 8)]
    by_group = [[n.loss for n in found if n.group == g] for g in range(3)]
    assert all(losses == sorted(losses) and losses[0] > 0 for losses in by_group)
    first = found[0]
    answers = reference.run(with_weights(graph, dict(first.cut.weights)), feeds)
    assert first.loss == pytest.approx(distance(reference.run(graph, feeds), answers), rel=1e-5)


def test_a_large_graph_is_tried_at_fewer_widths(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = wide_net()
    monkeypatch.setattr(sensitivity, "_MOST_MACS", 1.0)
    channels = trace(graph)
    assert measure(graph, channels, groups(channels), {"x": pictures(8)}) == []
    monkeypatch.setattr(sensitivity, "_MOST_MACS", 8.0 * costs.macs(graph) * 3)
    found = measure(graph, channels, groups(channels), {"x": pictures(8)})
    assert [(n.group, n.width) for n in found] == [(0, 16), (1, 16)]


def made_up(losses: dict[tuple[int, int], float]) -> list[Narrowing]:
    """Narrowings with these losses by (group, width); they remove a group's first channels."""
    graph = wide_net()
    sets = groups(trace(graph))
    return [
        Narrowing(g, width, Cut(sets[g][: len(sets[g]) - width], {}, 0.0), loss)
        for (g, width), loss in losses.items()
    ]


def test_the_cheapest_loss_per_microsecond_goes_first_and_time_falls() -> None:
    graph = wide_net()
    channels = trace(graph)
    offers = made_up({(0, 16): 0.5, (1, 8): 0.001, (2, 8): 0.5})
    path = list(allocate(graph, channels, groups(channels), offers, "int8"))
    assert [(n.group, n.width) for n in path[0].chosen] == [(1, 8)]
    times = [step.predicted_us for step in path]
    assert times == sorted(times, reverse=True) and times[0] < predicted_us(graph, "int8")
    assert [step.loss for step in path] == sorted(step.loss for step in path)


def test_the_time_of_a_choice_is_that_of_the_graph_cut_so() -> None:
    graph = wide_net()
    channels = trace(graph)
    (step,) = list(allocate(graph, channels, groups(channels), made_up({(0, 16): 0.1}), "int8"))
    gone = np.zeros(len(channels.locked), bool)
    gone[step.removed] = True
    means = {name: np.zeros(graph.tensor(name).shape[-1]) for _, name in channels.mixers}
    small = dead_channels.cut(graph, channels, gone, means)
    assert step.predicted_us == pytest.approx(predicted_us(small, "int8"))


def test_what_saves_no_time_is_not_taken() -> None:
    net = Net({"x": (1, 12, 12, 3)})
    graph = net.graph(net.conv(net.conv("x", 16, 1, "first"), 8, 1, "last"))
    channels = trace(graph)
    (group,) = groups(channels)
    offer = Narrowing(0, 15, Cut(group[:1], {}, 0.0), 0.0)  # 15 channels fill the same tiles
    assert list(allocate(graph, channels, (group,), [offer], "int8")) == []
