"""The folded first convolution: the same answers, fewer idle lanes, within its size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_nets import Net, litert_run, pictures, real_model, real_samples

from edge_convert import reference
from edge_convert.emitters import tflite
from edge_convert.graph import Array, Graph
from edge_convert.pruning.stem import fit_stem
from edge_convert.pruning.stem_fold import apply, foldable, folds
from edge_convert.time_model import predicted_us, shapes_of

PLENTY = 10**9


def stem(
    kernel: int, stride: int, pads: tuple[int, int, int, int], wide: int = 24, channels: int = 8
) -> Graph:
    net = Net({"x": (1, 24, wide, 3)}, seed=kernel + stride)
    y = net.conv("x", channels, kernel, "stem", strides=(stride, stride), pads=pads)
    return net.graph(net.conv(y, 8, name="next"))


def answers(graph: Graph, x: Array) -> Array:
    return reference.run(graph, {"x": x})[graph.outputs[0].name]


@pytest.mark.parametrize(
    ("kernel", "stride", "pads"),
    [
        (3, 2, (0, 1, 0, 1)),
        (3, 2, (1, 1, 1, 1)),
        (3, 1, (1, 1, 1, 1)),
        (5, 1, (2, 2, 2, 2)),
        (5, 3, (1, 1, 1, 1)),
        (4, 4, (0, 0, 0, 0)),
        (7, 2, (3, 3, 3, 3)),
        (1, 1, (0, 0, 0, 0)),
        (6, 6, (0, 0, 0, 0)),
        (2, 6, (0, 0, 0, 0)),
    ],
)
def test_every_fold_gives_the_same_answers(kernel: int, stride: int, pads: tuple[int, int, int, int]) -> None:
    graph = stem(kernel, stride, pads)
    (node,) = foldable(graph)
    x = pictures(6, size=24)
    exact, tried = answers(graph, x), 0
    for fold in folds(node, shapes_of(graph)):
        folded = apply(graph, node, fold)
        np.testing.assert_allclose(answers(folded, x), exact, atol=3e-6)
        weights = folded.constant(next(n for n in folded.nodes if n.name == "stem").inputs[1])
        assert weights.any(axis=(0, 1, 3)).all(), "a column of the kernel is idle"
        tried += 1
    assert tried >= 2


def test_the_fold_that_is_taken_is_faster_and_runs_on_litert() -> None:
    graph = stem(3, 2, (0, 1, 0, 1))
    folded = fit_stem(graph, "int8", PLENTY)
    assert [n.name for n in folded.nodes] == ["stem/fold", "stem", "stem/unfold", "next"]
    assert predicted_us(folded, "int8") < predicted_us(graph, "int8")
    x = pictures(3, size=24)
    np.testing.assert_allclose(litert_run(tflite.emit(folded), x), answers(graph, x), atol=1e-5)
    assert fit_stem(folded, "int8", PLENTY) is folded


def test_a_fold_that_would_be_too_large_is_left() -> None:
    graph = stem(3, 2, (0, 1, 0, 1))
    assert fit_stem(graph, "int8", graph.parameters()) is graph
    room = graph.parameters() + 200
    assert fit_stem(graph, "int8", room).parameters() <= room


def test_where_nothing_is_gained_the_graph_stays() -> None:
    net = Net({"x": (1, 24, 24, 16)})
    graph = net.graph(net.conv("x", 16, 1, "stem"))
    assert fit_stem(graph, "int8", PLENTY) is graph


@pytest.mark.parametrize("attrs", [{"dilations": (1, 2), "pads": (0, 0, 0, 0)}, {"groups": 3}])
def test_what_it_cannot_rewrite_it_does_not_try(attrs: dict[str, Any]) -> None:
    net = Net({"x": (1, 24, 24, 3)})
    if "groups" in attrs:
        node = net.conv("x", 6, 1, "stem")
        net.nodes[0] = net.nodes[0].__class__(
            net.nodes[0].op, "stem", net.nodes[0].inputs, (node,), dict(net.nodes[0].attrs) | attrs
        )
    else:
        net.conv("x", 6, 3, "stem", **attrs)
    graph = net.graph("stem:0")
    assert foldable(graph) == ()


def test_rows_of_columns_that_only_padding_reaches_are_left_out(shared_data: Path) -> None:
    graph = real_model(shared_data, "kws")
    (node,) = foldable(graph)
    whole = [fold for fold in folds(node, shapes_of(graph)) if fold.columns == 10]
    assert [fold.kernel for fold in whole] == [(320, 10, 1, 10)]
    port = graph.inputs[0].name
    x = {port: real_samples(shared_data, "kws", "evaluation", 5)}
    exact, found = reference.run(graph, x), reference.run(apply(graph, node, whole[0]), x)
    name = graph.outputs[0].name
    np.testing.assert_allclose(found[name], exact[name], atol=1e-6)
