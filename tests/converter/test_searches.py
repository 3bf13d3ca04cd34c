"""Forms of a graph: what is without loss takes the graph's place, what only seems so stands behind it."""

from __future__ import annotations

import numpy as np
import pytest
from small_nets import Net, pictures

from edge_contracts.profile import builtin_names, load_profile
from edge_convert import reference
from edge_convert.data import Split
from edge_convert.errors import DataInvalid
from edge_convert.evidence import Answered, Evidence
from edge_convert.graph import Array, Graph
from edge_convert.pruning.prune import LadderOptions
from edge_convert.pruning.shrink import with_weights
from edge_convert.searches import _may_fold, _may_widen, forms_of
from edge_convert.terminal import silent


def net_with_a_channel_for_bright_pictures() -> Graph:
    net = Net({"x": (1, 12, 12, 3)})
    y = net.conv(net.conv("x", 16, 3, "first"), 8, 3, "last")
    graph = net.graph(y)
    first = next(n for n in graph.nodes if n.name == "first")
    weights, bias = graph.constant(first.inputs[1]).copy(), graph.constant(first.inputs[2]).copy()
    weights[5], bias[5] = 1.0, -1000.0  # says something when 27 values add up to more than 1000
    return with_weights(graph, {"first": (weights, bias)})


def evidence(graph: Graph, ranges: Array, selection: Array) -> Evidence:
    x = np.concatenate([ranges, selection])
    feeds = {"x": x}
    whole = Answered(feeds, reference.run(graph, feeds))
    places = np.arange(len(x))
    split = Split(places[: len(ranges)], places[len(ranges) :], places[:0])
    return Evidence("other", 0, whole, split, whole)


def names(graph: Graph, seen: Evidence, amount: str) -> list[str]:
    return [form.name for form in forms_of(graph, seen, amount, LadderOptions(fold=False), silent)]


def test_thin_layers_are_widened_where_that_was_measured_and_not_on_arm() -> None:
    found = {name: (_may_fold(p), _may_widen(p)) for name in builtin_names() for p in [load_profile(name)]}
    assert found["x86-cpu"] == (True, True)
    assert found["arm-cpu"] == found["raspberry-pi-4"] == (True, False)
    assert found["intel-npu"] == found["coral-usb"] == (False, False)


def test_a_form_without_loss_takes_the_place_of_the_graph() -> None:
    graph = net_with_a_channel_for_bright_pictures()
    dim = evidence(graph, pictures(16), pictures(8, seed=1))
    assert names(graph, dim, "auto")[:2] == ["lossless", "step-1"]


def test_a_form_that_loses_on_other_samples_stands_behind_the_graph() -> None:
    graph = net_with_a_channel_for_bright_pictures()
    bright = evidence(graph, pictures(16), pictures(8, seed=1) + 100)
    assert names(graph, bright, "auto")[:2] == ["none", "lossless"]


def test_a_form_by_its_name_comes_alone() -> None:
    graph = net_with_a_channel_for_bright_pictures()
    dim = evidence(graph, pictures(16), pictures(8, seed=1))
    assert names(graph, dim, "none") == ["none"]
    assert names(graph, dim, "lossless") == ["lossless"]
    assert names(graph, dim, "step-1") == ["step-1"]
    with pytest.raises(DataInvalid, match=r"--prune step-50: this model has no such step"):
        names(graph, dim, "step-50")
