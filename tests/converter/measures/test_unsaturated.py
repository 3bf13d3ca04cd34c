"""Noise before what saturates the answers: found by hand, asked of the right tensor, or not asked at all."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from small_nets import Net, picture_classifier, pictures

from edge_contracts.profile import load_profile
from edge_convert import recipe
from edge_convert.graph import Graph, Op
from edge_convert.measures.unsaturated import Unsaturated, layer_costs, looked_at, saturates
from edge_convert.quantizing.quantization import Quantization, QuantParams
from edge_convert.quantizing.quantize import rules_for
from edge_convert.quantizing.quantizer import Quantizer

Array = NDArray[np.float32]


def ending(op: Op, reshaped: bool = False) -> Graph:
    """A dense layer and what comes after it."""
    net = Net({"x": (1, 4)})
    y = net.node(Op.DENSE, ["x", net.constant(np.eye(4, dtype=np.float32))], "dense", activation="none")
    y = net.node(op, [y], "last", **({"beta": 1.0} if op is Op.SOFTMAX else {}))
    return net.graph(net.node(Op.RESHAPE, [y], shape=(1, 4, 1)) if reshaped else y)


def rows(count: int = 32, scale: float = 1.0) -> dict[str, Array]:
    return {"x": np.random.default_rng(0).normal(0, scale, (count, 4)).astype(np.float32)}


def rounded(step: float) -> Quantization:
    """Nothing but the dense layer's result on a grid of its own."""
    return Quantization({"dense:0": QuantParams(np.asarray(step, np.float32), np.asarray(0, np.int32))})


def test_a_last_softmax_or_sigmoid_is_looked_behind_and_nothing_else() -> None:
    assert set(looked_at(ending(Op.SOFTMAX)).values()) == {"dense:0"}
    assert set(looked_at(ending(Op.SIGMOID, reshaped=True)).values()) == {"dense:0"}
    assert set(looked_at(ending(Op.RELU)).values()) == {"last:0"}
    assert saturates(ending(Op.SOFTMAX)) and not saturates(ending(Op.RELU))


def test_the_ratio_is_that_of_what_the_softmax_reads_without_what_all_classes_share() -> None:
    graph, feeds = ending(Op.SOFTMAX), rows()
    x = feeds["x"].astype(np.float64)
    other = np.clip(np.rint(x / 0.125), -128, 127) * 0.125
    x, other = (a - a.mean(axis=1, keepdims=True) for a in (x, other))
    expected = 10 * np.log10((x**2).sum() / ((x - other) ** 2).sum())
    assert Unsaturated(graph, feeds).sqnr_db(graph, rounded(0.125)) == pytest.approx(expected, abs=0.01)


def test_samples_far_from_a_boundary_count() -> None:
    """Their answers are the same to many decibels; what the softmax reads is as noisy as anywhere."""
    graph, feeds = ending(Op.SOFTMAX), rows(scale=100.0)
    found = Unsaturated(graph, feeds).sqnr_db(graph, rounded(8.0))
    assert found is not None
    assert 25 < found < 40


def test_equal_is_infinite_and_what_cannot_be_asked_is_none() -> None:
    graph, feeds = ending(Op.SOFTMAX), rows()
    assert Unsaturated(graph, feeds).sqnr_db(graph, Quantization({})) == math.inf
    plain = ending(Op.RELU)
    assert Unsaturated(plain, feeds).sqnr_db(plain, rounded(0.125)) is None
    assert Unsaturated(graph, rows(15)).sqnr_db(graph, rounded(0.125)) is None


def test_costs_of_layers_are_those_before_the_softmax() -> None:
    graph, feeds = picture_classifier(), {"x": pictures(32)}
    chosen = recipe.load("wi8_ai8_minmax")
    made = Quantizer(graph, feeds).quantize(chosen, rules_for(load_profile("arm-cpu")))
    costs = layer_costs(graph, made, {"x": pictures(8, seed=1)})
    assert [c.sqnr_db for c in costs] == sorted(c.sqnr_db for c in costs if c.sqnr_db is not None)
    softmax = [node.name for node in graph.nodes if node.op is Op.SOFTMAX]
    assert softmax and not {c.node for c in costs} & set(softmax)
