"""A moved stride: the grid behind stays, a quarter of the work between is left, no other path is touched."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_nets import Net, pictures, real_model

from edge_convert import costs, reference
from edge_convert.graph import Graph, Op
from edge_convert.measures import score
from edge_convert.pruning import prune, stride_hoist
from edge_convert.pruning.channels import trace
from edge_convert.pruning.least_squares import reconstruct
from edge_convert.pruning.shrink import kept_positions
from edge_convert.pruning.stride_hoist import best, hoists
from edge_convert.time_model import predicted_us


def residual_net(stage: int = 2) -> Graph:
    """A stage with a shortcut, then a strided layer and its strided shortcut."""
    net = Net({"x": (1, 12, 12, 3)}, seed=3)
    y = net.conv("x", 16, 3, "first")
    z = net.conv(net.conv(y, 16, 3, "inner"), 16, 3, "outer", activation="none")
    y = net.node(Op.ADD, [y, z], "sum", activation="relu")
    strides = {"strides": (stage, stage)}
    a = net.conv(y, 24, 3, "down", activation="none", pads=(0, 1, 0, 1), **strides)
    b = net.conv(y, 24, 1, "beside", activation="none", **strides)
    y = net.node(Op.ADD, [a, b], "joined", activation="relu")
    return net.graph(net.conv(y, 8, 1, "last", activation="none"))


def shapes(graph: Graph) -> dict[str, tuple[int, ...]]:
    return {node.name: graph.tensor(node.output).shape[1:3] for node in graph.nodes}


def test_the_stride_moves_to_the_layer_through_which_all_goes() -> None:
    graph = residual_net()
    (hoist,) = hoists(graph, "int8")
    assert hoist.first == "first" and set(hoist.freed) == {"down", "beside"}
    after = shapes(hoist.graph)
    assert all(after[name] == (6, 6) for name in ("first", "inner", "outer", "sum"))
    assert all(after[name] == shapes(graph)[name] for name in ("down", "beside", "joined", "last"))
    assert costs.macs(hoist.graph) < 0.5 * costs.macs(graph)
    assert hoist.predicted_us == predicted_us(hoist.graph, "int8")


def test_the_first_layer_gives_what_it_gave_at_the_pixels_that_are_left() -> None:
    graph, x = residual_net(), {"x": pictures(3)}
    (hoist,) = hoists(graph, "int8")
    grid = hoist.grids["first:0"]
    before = reference.evaluate(graph, x, keep={"first:0"})["first:0"]
    after = reference.evaluate(hoist.graph, x, keep={"first:0"})["first:0"]
    np.testing.assert_allclose(after, before[:, grid.top :: 2, grid.left :: 2], atol=1e-5)
    assert (grid.top, grid.left) == (1, 1)  # where the middle of "down"'s kernel stood


def test_least_squares_makes_up_for_much_of_it() -> None:
    graph, x, unseen = residual_net(), {"x": pictures(64)}, {"x": pictures(32, seed=5)}
    (hoist,) = hoists(graph, "int8")
    channels = trace(graph)
    whole = kept_positions(channels, np.zeros(len(channels.locked), bool))
    taught = reconstruct(graph, hoist.graph, whole, x, hoist.grids)
    exact = reference.run(graph, unseen)
    bare, better = (
        score.worst_sqnr_db(exact, reference.run(g, unseen)) or 99.0 for g in (hoist.graph, taught)
    )
    assert better > bare + 2.0


def test_no_stride_moves_past_a_reader_that_does_not_take_it() -> None:
    net = Net({"x": (1, 12, 12, 3)})
    y = net.conv("x", 16, 3, "first")
    a = net.conv(y, 8, 3, "down", strides=(2, 2), pads=(0, 1, 0, 1))
    b = net.conv(y, 8, 3, "whole")
    assert list(hoists(net.graph(a, b), "int8")) == []


def test_a_stride_of_three_and_an_output_between_stay() -> None:
    assert list(hoists(residual_net(stage=3), "int8")) == []
    net = Net({"x": (1, 12, 12, 3)})
    y = net.conv("x", 16, 3, "first")
    graph = net.graph(y, net.conv(y, 8, 3, "down", strides=(2, 2), pads=(0, 1, 0, 1)))
    assert list(hoists(graph, "int8")) == [] and best(graph, "int8") is None


def test_a_pointwise_first_layer_takes_the_pixels_that_it_can_stand_on() -> None:
    net = Net({"x": (1, 12, 12, 3)})
    y = net.conv("x", 16, 1, "first")
    graph = net.graph(net.conv(y, 8, 3, "down", strides=(2, 2), pads=(0, 1, 0, 1)))
    (hoist,) = hoists(graph, "int8")
    assert hoist.grids["first:0"].top == 0
    x = {"x": pictures(2)}
    before = reference.evaluate(graph, x, keep={"first:0"})["first:0"]
    after = reference.evaluate(hoist.graph, x, keep={"first:0"})["first:0"]
    np.testing.assert_allclose(after, before[:, ::2, ::2], atol=1e-5)


def test_the_ladder_moves_a_stride_only_when_it_may() -> None:
    graph, feeds = residual_net(), {"x": pictures(32)}
    without = list(prune.ladder(graph, feeds, prune.LadderOptions(shares=(0.9,))))
    with_it = list(prune.ladder(graph, feeds, prune.LadderOptions(shares=(0.9, 0.4), hoist=True)))
    assert not any("stride moved" in form.summary for form in without)
    assert "stride moved from" in with_it[2].summary and not with_it[2].lossless
    times = [form.predicted_us_after for form in with_it]
    assert times == sorted(times, reverse=True)


@pytest.mark.parametrize(
    ("key", "first", "freed"),
    [
        ("ic", "conv_2d_0", {"conv_2d_4", "conv_2d_6"}),
        ("vww", "depthwise_conv_2d_1", {"depthwise_conv_2d_3"}),
    ],
)
def test_the_picture_models_have_the_hoist_of_the_trial(
    shared_data: Path, key: str, first: str, freed: set[str]
) -> None:
    hoist = best(real_model(shared_data, key), "int8")
    assert hoist is not None and hoist.first == first and set(hoist.freed) == freed


def test_the_keyword_model_has_none(shared_data: Path) -> None:
    assert stride_hoist.best(real_model(shared_data, "kws"), "int8") is None
