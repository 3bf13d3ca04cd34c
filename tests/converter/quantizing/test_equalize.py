"""Cross-layer equalization: the same float network, with channels that fill their tensors' ranges."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from small_nets import Net, picture_net, pictures

from edge_contracts.profile import load_profile
from edge_convert import candidates, recipe, reference
from edge_convert.graph import Graph, Op, constant
from edge_convert.measures import score
from edge_convert.quantizing import equalize
from edge_convert.quantizing.quantization import Quantization, with_constants
from edge_convert.quantizing.quantize import rules_for
from edge_convert.quantizing.quantizer import Quantizer
from edge_convert.quantizing.statistics import extremes

Array = NDArray[np.float32]
ADD_PADS = ((0, 0), (1, 1), (1, 1), (0, 0))


def shrunk(net: Net, scale: float) -> None:
    """Make half of the channels of the last layer smaller."""
    for name in net.nodes[-1].inputs[1:]:
        values = np.array(net.tensors[name].data)
        values[:4] *= scale
        net.tensors[name] = constant(name, values)


def uneven(scale: float = 0.05, activation: str = "relu") -> Graph:
    """Two convolutions; half of the channels between them are much smaller than the rest."""
    net = Net({"x": (1, 6, 6, 3)})
    y = net.conv("x", 8, 3, "first", activation=activation)
    shrunk(net, scale)
    return net.graph(net.conv(y, 4, 1, "second", activation="none"))


def equalized(graph: Graph, feeds: dict[str, Array]) -> Mapping[str, Array]:
    return equalize.equalized(graph, extremes(graph, feeds)).constants


def samples(graph: Graph, count: int = 32, seed: int = 0) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    return {p.name: rng.normal(0, 1, (count, *p.shape[1:])).astype(np.float32) for p in graph.inputs}


def scaled(graph: Graph, feeds: dict[str, Array]) -> Graph:
    return with_constants(graph, Quantization({}, constants=equalized(graph, feeds)))


def spread(graph: Graph, feeds: dict[str, Array], name: str) -> float:
    values = np.abs(reference.evaluate(graph, feeds, {name})[name])
    largest = values.reshape(-1, values.shape[-1]).max(axis=0)
    return float(largest.max() / largest.min())


def answers(graph: Graph, feeds: dict[str, Array]) -> Array:
    return np.asarray(reference.run(graph, feeds)[graph.outputs[0].name])


def test_the_network_stays_the_same_on_samples_that_were_not_seen() -> None:
    graph = picture_net()
    other = scaled(graph, {"x": pictures(32, seed=1)})
    unseen = {"x": pictures(16, seed=2)}
    np.testing.assert_allclose(answers(other, unseen), answers(graph, unseen), rtol=1e-4, atol=1e-5)
    assert any(graph.tensor(n).data is not other.tensor(n).data for n in graph.tensors)


@pytest.mark.parametrize("activation", ["relu", "relu6", "none"])
def test_extremes_of_the_scaled_network_follow_from_the_plain_ones(activation: str) -> None:
    graph = uneven(scale=0.1, activation=activation)
    feeds = {name: 2 * values for name, values in samples(graph, 200).items()}
    seen = extremes(graph, feeds)
    scaling = equalize.equalized(graph, seen)
    derived = seen.divided(scaling.divisors).tensors
    other = with_constants(graph, Quantization({}, constants=scaling.constants))
    for name, extent in extremes(other, feeds).tensors.items():
        assert derived[name].minimum == pytest.approx(extent.minimum, rel=1e-4, abs=1e-5)
        assert derived[name].maximum == pytest.approx(extent.maximum, rel=1e-4, abs=1e-5)
    first = graph.nodes[0].output
    assert (scaling.divisors[first] < 1).any()
    assert derived[first].maximum == seen.tensors[first].maximum


def test_small_channels_are_scaled_up_four_times_and_no_more() -> None:
    graph = uneven(scale=0.01)
    feeds = samples(graph)
    name = graph.nodes[0].output
    before = spread(graph, feeds, name)
    assert spread(scaled(graph, feeds), feeds, name) == pytest.approx(before / 4, rel=0.05)


def test_room_is_left_above_what_was_seen() -> None:
    graph = uneven(scale=0.2)
    feeds = samples(graph)
    name = graph.nodes[0].output
    values = np.abs(reference.evaluate(scaled(graph, feeds), feeds, {name})[name])
    largest = np.sort(values.reshape(-1, 8).max(axis=0))
    assert largest[0] >= 0.25 * largest[-1]
    assert (largest[:4] <= largest[-1] / 2.0 + 1e-5).all()


def test_a_relu6_gives_the_same_on_all_that_was_seen() -> None:
    graph = uneven(scale=0.1, activation="relu6")
    feeds = {name: 2 * values for name, values in samples(graph).items()}
    other = scaled(graph, feeds)
    assert (reference.evaluate(graph, feeds, {graph.nodes[0].output})[graph.nodes[0].output] == 6).any()
    assert equalized(graph, feeds)
    np.testing.assert_allclose(answers(other, feeds), answers(graph, feeds), rtol=1e-4, atol=1e-5)


def test_what_does_not_scale_along_is_left_alone() -> None:
    def between(kind: str) -> Graph:
        net = Net({"x": (1, 6, 6, 3)})
        y = net.conv("x", 8, 3, "first", activation="relu_n1_to_1" if kind == "fused" else "none")
        shrunk(net, 0.05)
        if kind == "tanh":
            y = net.node(Op.TANH, [y])
        if kind == "constant":
            y = net.node(Op.ADD, [y, net.constant(np.ones(8, np.float32))], activation="none")
        if kind == "pad":
            y = net.node(Op.PAD, [y], paddings=ADD_PADS, value=1.0)
        if kind == "output":
            return net.graph(net.conv(y, 4, 1, "second"), y)
        return net.graph(net.conv(y, 4, 1, "second"))

    for kind in ("tanh", "constant", "pad", "output", "fused"):
        graph = between(kind)
        assert not equalized(graph, samples(graph)), kind
    graph = between("nothing")
    assert equalized(graph, samples(graph))


def test_weights_that_serve_two_layers_are_left_alone() -> None:
    net = Net({"x": (1, 6, 6, 4)})
    shared = net.weight(4, 1, 1, 4)
    attrs: dict[str, Any] = {"strides": (1, 1), "dilations": (1, 1), "pads": (0,) * 4, "groups": 1}
    attrs["activation"] = "relu"
    y = net.node(Op.CONV2D, [net.node(Op.CONV2D, ["x", shared], **attrs), shared], **attrs)
    graph = net.graph(y)
    assert not equalized(graph, samples(graph))


def test_results_of_dense_layers_are_left_alone() -> None:
    net = Net({"x": (1, 8)})
    y = net.node(Op.DENSE, ["x", net.weight(8, 8)], activation="relu")
    graph = net.graph(net.node(Op.DENSE, [y, net.weight(4, 8)], activation="none"))
    assert not equalized(graph, samples(graph))


@pytest.mark.parametrize(("profile", "target"), [("arm-cpu", "tflite"), ("intel-npu", "openvino")])
def test_an_artifact_of_an_equalized_network_is_nearer_to_the_float_one(profile: str, target: str) -> None:
    graph = uneven()
    feeds, unseen = samples(graph, 64), samples(graph, 64, seed=1)
    shared, rules = Quantizer(graph, feeds), rules_for(load_profile(profile))
    found = []
    best = recipe.load("wi8m_ai8_minmax_eq_lsr")
    without = {"equalize": False, "name": "wi8m_ai8_minmax_lsr"}
    for chosen in (recipe.Recipe.model_validate(best.model_dump() | without), best):
        made = candidates.written(graph, target, chosen, shared.quantize(chosen, rules))
        ratio = score.sqnr_db(answers(graph, unseen), made.model.run(unseen)[graph.outputs[0].name])
        assert ratio is not None
        found.append(ratio)
    assert found[0] > 25
    assert found[1] > found[0]
