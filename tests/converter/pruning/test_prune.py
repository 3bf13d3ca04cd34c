"""Pruning: dead channels go without a trace, weak ones are made up for, and the rest stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_nets import Net, litert_run, picture_net, pictures, real_model, real_samples

from edge_convert import reference
from edge_convert.emitters import tflite
from edge_convert.graph import Array, Graph, Op
from edge_convert.measures import score
from edge_convert.pruning import dead_channels
from edge_convert.pruning.channels import trace
from edge_convert.pruning.least_squares import reconstruct
from edge_convert.pruning.prune import LadderOptions, ladder, prune
from edge_convert.pruning.shrink import kept_positions, with_weights


def silenced(graph: Graph, node_name: str, channels: list[int], value: float) -> Graph:
    """The graph with some channels of a layer always giving one value."""
    node = next(n for n in graph.nodes if n.name == node_name)
    weights, bias = graph.constant(node.inputs[1]).copy(), graph.constant(node.inputs[2]).copy()
    weights[channels] = 0
    bias[channels] = value
    return with_weights(graph, {node_name: (weights, bias)})


def widths(graph: Graph) -> dict[str, int]:
    return {node.name: graph.tensor(node.output).shape[-1] for node in graph.nodes}


def answers(graph: Graph, x: Array) -> Array:
    return reference.run(graph, {"x": x})[graph.outputs[0].name]


def test_none_gives_the_graph_back() -> None:
    graph = picture_net()
    pruned = prune(graph, {"x": pictures(8)}, None)
    assert pruned.graph is graph and pruned.removed == ()


def test_channels_that_say_nothing_go_through_depthwise_and_leave_the_answers_as_they_were() -> None:
    # "first" gives 0 in three channels, and a depthwise layer without bias keeps 0
    net = Net({"x": (1, 12, 12, 3)})
    y = net.conv("x", 16, 3, "first")
    attrs: dict[str, Any] = {
        "strides": (1, 1),
        "dilations": (1, 1),
        "pads": (1, 1, 1, 1),
        "activation": "relu",
    }
    y = net.node(Op.DEPTHWISE_CONV2D, [y, net.weight(1, 3, 3, 16)], "spatial", **attrs)
    y = net.conv(y, 8, 3, "last")
    graph = silenced(net.graph(y), "first", [2, 7, 11], -1.0)
    pruned = prune(graph, {"x": pictures(24)}, 0.0)
    assert (pruned.dead, pruned.weak) == (3, 0)
    assert widths(pruned.graph) == {"first": 13, "spatial": 13, "last": 8}
    assert [(r.layer, r.before, r.after) for r in pruned.removed] == [("first", 16, 13), ("spatial", 16, 13)]
    unseen = pictures(40, seed=9)
    np.testing.assert_allclose(answers(pruned.graph, unseen), answers(graph, unseen), atol=1e-5)
    np.testing.assert_allclose(
        litert_run(tflite.emit(pruned.graph), unseen[:4]), answers(graph, unseen[:4]), atol=1e-4
    )


def test_a_constant_other_than_zero_is_folded_into_the_bias() -> None:
    net = Net({"x": (1, 12, 12, 3)})
    y = net.conv(net.conv("x", 8, name="first", activation="none"), 8, name="last")
    graph = silenced(net.graph(y), "first", [1, 5], 0.75)
    pruned = prune(graph, {"x": pictures(10)}, 0.0)
    assert pruned.dead == 2 and widths(pruned.graph)["first"] == 6
    unseen = pictures(10, seed=3)
    np.testing.assert_allclose(answers(pruned.graph, unseen), answers(graph, unseen), atol=1e-5)


def test_a_constant_other_than_zero_stays_where_the_reader_pads() -> None:
    net = Net({"x": (1, 12, 12, 3)})
    y = net.conv(net.conv("x", 8, name="first", activation="none"), 8, 3, name="last")
    graph = silenced(net.graph(y), "first", [1, 5], 0.75)
    assert prune(graph, {"x": pictures(10)}, 0.0).dead == 0


def test_a_channel_alive_on_one_side_of_an_addition_stays() -> None:
    graph = silenced(picture_net(), "branch", [4], 0.0)
    assert prune(graph, {"x": pictures(20)}, 0.0).dead == 0


def test_channels_are_followed_through_concat_and_flatten() -> None:
    net = Net({"x": (1, 12, 12, 3)})
    attrs: dict[str, Any] = {"strides": (4, 4), "activation": "none"}
    a, b = net.conv("x", 8, name="a", **attrs), net.conv("x", 8, name="b", **attrs)
    y = net.node(Op.CONCAT, [a, b], "joined", axis=3)
    y = net.node(Op.RESHAPE, [y], "flat", shape=(1, 3 * 3 * 16))
    y = net.node(Op.DENSE, [y, net.weight(5, 144)], "logits", activation="none")
    graph = silenced(silenced(net.graph(y), "a", [0], -1.0), "b", [3, 4], 0.5)
    pruned = prune(graph, {"x": pictures(12)}, 0.0)
    assert pruned.dead == 3
    assert widths(pruned.graph) == {"a": 7, "b": 6, "joined": 13, "flat": 117, "logits": 5}
    unseen = pictures(12, seed=5)
    np.testing.assert_allclose(answers(pruned.graph, unseen), answers(graph, unseen), atol=1e-5)


def test_a_layer_that_is_dead_throughout_keeps_one_channel() -> None:
    net = Net({"x": (1, 12, 12, 3)})
    graph = net.graph(net.conv(net.conv("x", 4, name="first"), 6, name="last"))
    graph = silenced(graph, "first", [0, 1, 2, 3], -1.0)
    pruned = prune(graph, {"x": pictures(6)}, 0.0)
    assert widths(pruned.graph) == {"first": 1, "last": 6}


@pytest.mark.parametrize("op", [Op.SOFTMAX, Op.L2_NORMALIZE])
def test_channels_that_an_operator_compares_are_locked(op: Op) -> None:
    net = Net({"x": (1, 12, 12, 3)})
    attrs: dict[str, Any] = {"beta": 1.0} if op is Op.SOFTMAX else {}
    y = net.conv(net.node(op, [net.conv("x", 8, name="first")], **attrs), 8, name="last")
    graph = net.graph(y)
    channels = trace(graph)
    assert channels.locked[channels.ids["first:0"]].all()


def test_inputs_and_outputs_are_locked() -> None:
    channels = trace(picture_net())
    assert channels.locked[channels.ids["x"]].all() and channels.locked[channels.ids["logits:0"]].all()


def test_weak_channels_go_by_eights_and_least_squares_makes_up_for_them() -> None:
    net = Net({"x": (1, 12, 12, 3)}, seed=2)
    y = net.conv(net.conv("x", 32, 3, "first"), 24, 3, "second")
    graph = net.graph(net.conv(y, 8, name="last", activation="none"))
    x, unseen = pictures(48), pictures(48, seed=8)
    pruned = prune(graph, {"x": x}, 0.3)
    assert pruned.weak > 0 and all(r.after % 8 == 0 for r in pruned.removed)
    assert pruned.parameters_after < pruned.parameters_before == graph.parameters()

    channels = trace(graph)
    before, after = widths(graph), widths(pruned.graph)
    assert {n for n in before if before[n] != after[n]} == {r.layer for r in pruned.removed}
    seen = dead_channels.spreads(graph, {"x": x}, {name for _, name in channels.mixers})
    gone = np.zeros(len(channels.locked), bool)
    gone[channels.ids["first:0"][:8]] = True
    means = {name: spread.mean for name, spread in seen.items()}
    cut = dead_channels.cut(graph, channels, gone, means)
    fitted = reconstruct(graph, cut, kept_positions(channels, gone), {"x": x})
    exact = answers(graph, unseen)
    bare, better = (score.sqnr_db(exact, answers(g, unseen)) or 99.0 for g in (cut, fitted))
    assert better > bare + 3.0


def test_fitting_a_whole_network_to_itself_changes_nothing() -> None:
    graph = picture_net()
    channels = trace(graph)
    whole = kept_positions(channels, np.zeros(len(channels.locked), bool))
    fitted = reconstruct(graph, graph, whole, {"x": pictures(16)})
    x = pictures(16, seed=1)
    np.testing.assert_allclose(answers(fitted, x), answers(graph, x), atol=1e-4)


def test_auto_takes_nothing_that_costs_the_answers() -> None:
    graph, feeds = picture_net(), {"x": pictures(64)}
    pruned = prune(graph, feeds, "auto")
    unseen = pictures(64, seed=7)
    if pruned.weak == 0:
        np.testing.assert_allclose(answers(pruned.graph, unseen), answers(graph, unseen), atol=1e-5)
    else:
        assert (score.sqnr_db(answers(graph, unseen), answers(pruned.graph, unseen)) or 99.0) > 15.0


def wide_net() -> Graph:
    net = Net({"x": (1, 12, 12, 3)}, seed=2)
    y = net.conv(net.conv("x", 32, 3, "first"), 24, 3, "second")
    return net.graph(net.conv(y, 16, 3, "third"))


def test_the_ladder_begins_without_loss_and_gets_faster_step_by_step() -> None:
    graph, feeds = silenced(wide_net(), "second", [3, 4], 0.0), {"x": pictures(32)}
    forms = list(ladder(graph, feeds, LadderOptions(shares=(0.9, 0.6, 0.01))))
    first = forms[0]
    assert first.lossless and first.dead == 2 and first.moves[0] == "2 dead channels removed"
    np.testing.assert_allclose(answers(first.graph, feeds["x"]), answers(graph, feeds["x"]), atol=1e-5)
    assert len(forms) == 3  # nothing comes down to a hundredth
    times = [form.predicted_us_after for form in forms]
    assert times[1] <= 0.9 * times[0] and times[2] <= 0.6 * times[0]
    assert all(form.weak and not form.lossless for form in forms[1:])
    assert "least squares" in forms[1].summary and "times as fast" in forms[1].summary


def test_thin_depthwise_layers_are_widened_only_when_asked_for() -> None:
    net = Net({"x": (1, 48, 48, 3)})
    y = net.depthwise(net.conv("x", 8, 3, "stem", strides=(2, 2), pads=(0, 1, 0, 1)), "thin")
    graph, feeds = net.graph(net.conv(y, 512, 3, "last", strides=(8, 8))), {"x": pictures(16, size=48)}
    plain, widened = (next(ladder(graph, feeds, LadderOptions(thin=thin))) for thin in (False, True))
    assert {n.name: n.op for n in plain.graph.nodes}["thin"] is Op.DEPTHWISE_CONV2D
    assert {n.name: n.op for n in widened.graph.nodes}["thin"] is Op.CONV2D and widened.lossless
    assert "thin depthwise layers written as convolutions" in widened.summary


def test_the_ladder_works_out_no_step_that_nobody_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("not asked for")

    monkeypatch.setattr("edge_convert.pruning.sensitivity.measure", refuse)
    forms = ladder(wide_net(), {"x": pictures(16)})
    assert next(forms).lossless
    with pytest.raises(AssertionError, match="not asked for"):
        next(forms)


def test_two_ladders_are_equal_to_the_last_bit() -> None:
    a, b = (list(ladder(wide_net(), {"x": pictures(24)}, LadderOptions(shares=(0.7,)))) for _ in range(2))
    assert [f.summary for f in a] == [f.summary for f in b]
    assert [tflite.emit(f.graph) for f in a] == [tflite.emit(f.graph) for f in b]


def test_a_share_is_that_of_the_removable_channels() -> None:
    pruned = prune(wide_net(), {"x": pictures(24)}, 0.5)
    assert pruned.weak >= 28 and pruned.amount == pruned.weak / 56  # 32 and 24; the output's are locked


@pytest.mark.parametrize("amount", [-0.1, 1.0, 2.0])
def test_a_share_outside_zero_to_one_is_refused(amount: float) -> None:
    with pytest.raises(ValueError, match="expected 0 to below 1"):
        prune(picture_net(), {"x": pictures(4)}, amount)


def test_the_person_detector_loses_six_sevenths_of_its_parameters_and_no_answer(shared_data: Path) -> None:
    graph = real_model(shared_data, "vww")
    port = graph.inputs[0].name
    pruned = prune(graph, {port: real_samples(shared_data, "vww", "calibration", 64)}, 0.0)
    assert pruned.parameters_before / pruned.parameters_after > 6.5
    assert len(tflite.emit(pruned.graph)) < 150_000
    unseen = real_samples(shared_data, "vww", "evaluation", 60)
    exact = reference.run(graph, {port: unseen})[graph.outputs[0].name]
    found = reference.run(pruned.graph, {port: unseen})[graph.outputs[0].name]
    assert score.agreement(exact, found) == 1.0 and (score.sqnr_db(exact, found) or 99.0) > 80.0


def test_the_keyword_net_has_no_dead_channel(shared_data: Path) -> None:
    graph = real_model(shared_data, "kws")
    x = real_samples(shared_data, "kws", "calibration", 60)
    assert prune(graph, {graph.inputs[0].name: x}, 0.0).dead == 0
