"""Tensors without a samples' axis get one, and the source's own runtime is still given what it knows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx_models import Network, floats, ints, openvino_run, saved

from edge_convert.fixed_inputs import FixedInputs
from edge_convert.reference import run
from edge_convert.samples_axis import with_samples_axis
from edge_convert.source import read_source


def recurrent(folder: Path) -> Path:
    """State [2, 1, 4] that comes in and goes out, a score without any axis."""
    net = Network({"x": ["n", 4], "state": [2, "n", 4], "gain": []})
    state = net.node("Tanh", net.node("Add", "state", net.node("Mul", "x", "gain")))
    total = net.node("ReduceSum", state, net.weight(ints(0, 1, 2)), keepdims=0)
    return saved(net.model(state, total), folder)


def test_the_contract_has_the_samples_axis_and_the_source_gives_its_own_answers(tmp_path: Path) -> None:
    path = recurrent(tmp_path)
    source = read_source(path, FixedInputs({"state": (2, 1, 4)}))
    shapes = {p.name: p.shape for p in (*source.graph.inputs, *source.graph.outputs)}
    assert list(shapes.values()) == [(1, 4), (1, 2, 1, 4), (1,), (1, 2, 1, 4), (1,)]
    feeds = {"x": floats(3, 4), "state": floats(3, 2, 1, 4, seed=1), "gain": floats(3, seed=2)}
    ours, theirs = run(source.graph, feeds), source.open().run(feeds)
    for index in range(3):
        one = {
            "x": feeds["x"][index : index + 1],
            "state": feeds["state"][index],
            "gain": feeds["gain"][index],
        }
        for got, own, want in zip(ours.values(), theirs.values(), openvino_run(path, one), strict=True):
            np.testing.assert_allclose(got[index], want, atol=1e-5)
            np.testing.assert_allclose(own[index], want, atol=1e-5)


def test_a_graph_whose_ports_all_have_one_is_left_alone(tmp_path: Path) -> None:
    net = Network({"x": ["n", 4]})
    graph = read_source(saved(net.model(net.node("Tanh", "x")), tmp_path)).graph
    assert with_samples_axis(graph) == (graph, frozenset())
