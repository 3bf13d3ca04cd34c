"""Distillation helps, never harms by its own check, ends where it says, and says why it does not begin."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from small_nets import Net, picture_net, pictures

from edge_convert import reference
from edge_convert.errors import DistillationRefused
from edge_convert.graph import Graph, Op
from edge_convert.pruning.distill import DistillOptions, distill
from edge_convert.pruning.sensitivity import distance
from edge_convert.pruning.shrink import with_weights

needs_torch = pytest.mark.skipif(
    "not __import__('importlib').util.find_spec('torch')", reason="extra [torch]"
)


CHECK = {"x": pictures(48, seed=4)}


def classifier() -> Graph:
    net = Net({"x": (1, 12, 12, 3)}, seed=1)
    y = net.conv(net.conv("x", 8, 3, "first", strides=(2, 2), pads=(0, 1, 0, 1)), 8, 3, "second")
    y = net.node(Op.MEAN, [y], "mean", axes=(1, 2), keepdims=True)
    y = net.node(Op.RESHAPE, [y], "flat", shape=(1, 8))
    y = net.node(Op.DENSE, [y, net.weight(4, 8, gain=4.0)], "logits", activation="none")
    return net.graph(net.node(Op.SOFTMAX, [y], "classes", beta=1.0))


def disturbed(graph: Graph) -> Graph:
    node = next(n for n in graph.nodes if n.name == "second")
    weights = graph.constant(node.inputs[1])
    noise = np.random.default_rng(2).normal(0, 0.4 * weights.std(), weights.shape)
    return with_weights(graph, {"second": (weights + noise, graph.constant(node.inputs[2]))})


@needs_torch
def test_a_disturbed_network_is_brought_back_near_its_teacher() -> None:
    teacher = classifier()
    student, unseen = disturbed(teacher), {"x": pictures(64, seed=9)}
    taught = distill(teacher, student, {"x": pictures(256)}, CHECK, DistillOptions(150))
    wanted = reference.run(teacher, unseen)
    before, after = (distance(wanted, reference.run(g, unseen)) for g in (student, taught.graph))
    assert after < 0.5 * before
    assert taught.steps == 150 and taught.best > 0 and taught.after < taught.before
    assert "distilled for 150 steps, kept step" in taught.summary


@needs_torch
def test_one_that_cannot_get_better_stays_as_it_was() -> None:
    teacher = classifier()
    taught = distill(teacher, teacher, {"x": pictures(64)}, CHECK, DistillOptions(50))
    assert taught.graph is teacher and (taught.best, taught.after) == (0, taught.before)


@needs_torch
def test_the_same_samples_give_the_same_bits_on_any_number_of_threads() -> None:
    import torch

    teacher = classifier()
    student, feeds = disturbed(teacher), {"x": pictures(96)}
    results = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        taught = distill(teacher, student, feeds, CHECK, DistillOptions(50))
        assert torch.get_num_threads() == threads
        results.append(reference.run(taught.graph, feeds)["classes:0"])
    torch.set_num_threads(1)
    np.testing.assert_array_equal(results[0], results[1])


@needs_torch
def test_the_clock_only_stops_it_early_and_that_is_said() -> None:
    teacher = classifier()
    ticks = iter(range(1000))
    taught = distill(
        teacher,
        disturbed(teacher),
        {"x": pictures(64)},
        CHECK,
        DistillOptions(400, seconds=9.5),
        clock=lambda: next(ticks),
    )
    assert taught.steps == 10 and taught.stopped and "stopped by the clock" in taught.summary


@needs_torch
def test_a_graph_without_gradients_is_refused_by_its_node() -> None:
    net = Net({"x": (1, 12, 12, 3)})
    graph = net.graph(net.node(Op.FLOOR, [net.conv("x", 8, 3, "first")], "steps"))
    with pytest.raises(DistillationRefused, match=r"floor \('steps'\)"):
        distill(graph, graph, {"x": pictures(64)}, CHECK, DistillOptions(1))


@needs_torch
@pytest.mark.parametrize(
    ("learn", "check", "message"),
    [
        (11, 8, "11 samples to learn from; expected at least 12"),
        (12, 3, "3 samples to check; expected at least 4"),
    ],
)
def test_too_few_samples_are_refused(learn: int, check: int, message: str) -> None:
    graph = classifier()
    with pytest.raises(DistillationRefused, match=message):
        distill(graph, graph, {"x": pictures(learn)}, {"x": pictures(check)}, DistillOptions(1))


def test_without_the_extra_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "edge_convert.pruning.torch_graph", raising=False)
    monkeypatch.delattr("edge_convert.pruning.torch_graph", raising=False)
    with pytest.raises(DistillationRefused, match=r"pip install 'edgefleet\[torch\]'"):
        distill(picture_net(), picture_net(), {"x": pictures(32)}, CHECK, DistillOptions(1))
