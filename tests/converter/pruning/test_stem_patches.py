"""The first convolution reading patches: the same answers, and in int8 the same codes."""

from __future__ import annotations

import numpy as np
import pytest
from small_nets import Net, litert_run

from edge_contracts.profile import load_profile
from edge_convert import candidates, recipe, reference
from edge_convert.emitters import tflite
from edge_convert.graph import Array, Graph, Op
from edge_convert.pruning.stem import best, fit_stem
from edge_convert.pruning.stem_fold import foldable
from edge_convert.pruning.stem_patches import Patches, apply, ways
from edge_convert.quantizing.copying import copies
from edge_convert.quantizing.quantize import rules_for
from edge_convert.quantizing.quantizer import Quantizer
from edge_convert.time_model import predicted_us, shapes_of

PLENTY = 10**9


def stem(
    kernel: tuple[int, int],
    strides: tuple[int, int],
    pads: tuple[int, int, int, int],
    shape: tuple[int, int, int] = (21, 12, 1),
) -> Graph:
    net = Net({"x": (1, *shape)}, seed=kernel[0])
    w = net.weight(16, *kernel, shape[2])
    b = net.constant(net.rng.normal(0, 0.2, 16).astype(np.float32))
    attrs = {"dilations": (1, 1), "groups": 1, "activation": "relu"}
    y = net.node(Op.CONV2D, ["x", w, b], "stem", strides=strides, pads=pads, **attrs)
    return net.graph(net.conv(y, 8, name="next"))


def spectra(graph: Graph, count: int = 5) -> Array:
    shape = graph.inputs[0].shape[1:]
    return np.random.default_rng(3).normal(2, 5, (count, *shape)).astype(np.float32)


def answers(graph: Graph, x: Array) -> Array:
    return reference.run(graph, {"x": x})[graph.outputs[0].name]


KEYWORDS = stem((10, 4), (2, 2), (4, 5, 1, 1))


@pytest.mark.parametrize(
    ("kernel", "strides", "pads"),
    [
        ((10, 4), (2, 2), (4, 5, 1, 1)),
        ((3, 3), (1, 1), (1, 1, 1, 1)),
        ((3, 3), (2, 2), (0, 1, 0, 1)),
        ((5, 3), (2, 1), (2, 2, 1, 1)),
        ((5, 5), (3, 3), (2, 2, 1, 1)),
        ((4, 2), (4, 2), (0, 3, 0, 0)),
        ((3, 4), (3, 4), (0, 0, 0, 0)),
        ((2, 3), (2, 1), (0, 0, 0, 0)),
        ((5, 3), (2, 1), (5, 6, 1, 1)),
        ((9, 3), (1, 1), (8, 8, 1, 1)),
    ],
)
@pytest.mark.parametrize("shape", [(21, 12, 1), (21, 12, 2)])
def test_every_way_gives_the_same_answers(
    kernel: tuple[int, int],
    strides: tuple[int, int],
    pads: tuple[int, int, int, int],
    shape: tuple[int, int, int],
) -> None:
    graph = stem(kernel, strides, pads, shape)
    (node,) = foldable(graph)
    x = spectra(graph)
    exact, tried = answers(graph, x), 0
    for way in ways(node, shapes_of(graph)):
        made = apply(graph, node, way)
        np.testing.assert_allclose(answers(made, x), exact, atol=1e-5)
        pick = next(n for n in made.nodes if n.name == "stem/pick")
        assert copies(made, pick)
        added = made.parameters() - graph.parameters()
        own = sum(graph.tensor(name).size for name in node.inputs[1:])
        assert added <= way.parameters - own  # the copying convolution has no bias here
        tried += 1
    assert tried >= 1


def test_one_channel_is_read_in_patches_and_runs_on_litert() -> None:
    fitted = fit_stem(KEYWORDS, "int8", PLENTY)
    names = [n.name for n in fitted.nodes]
    assert names == ["stem/fold", "stem/pick", "stem/lay out", "stem", "next"]
    assert predicted_us(fitted, "int8") < predicted_us(KEYWORDS, "int8")
    x = spectra(KEYWORDS)
    np.testing.assert_allclose(litert_run(tflite.emit(fitted), x), answers(KEYWORDS, x), atol=1e-4)
    assert fit_stem(fitted, "int8", PLENTY) is fitted


def test_rows_of_padding_are_not_copied() -> None:
    """The keyword spotter: both convolutions pad as SAME does, which takes no operator."""
    graph = stem((10, 4), (2, 2), (4, 5, 1, 1), (49, 10, 1))
    (node,) = foldable(graph)
    (whole,) = (way for way in ways(node, shapes_of(graph)) if way.columns == 10)
    assert (whole.pads, whole.around) == ((0, 1, 0, 0), (2, 2))
    assert (whole.picked, whole.kernel) == ((1, 25, 1, 40), (16, 5, 1, 8))


def test_a_picture_of_three_channels_is_not_read_in_patches() -> None:
    graph = stem((3, 3), (1, 1), (1, 1, 1, 1), (32, 32, 3))
    (node,) = foldable(graph)
    way, _ = best(node, shapes_of(graph), "int8", PLENTY)
    assert not isinstance(way, Patches)


def test_patches_that_would_be_too_large_are_left() -> None:
    (node,) = foldable(KEYWORDS)
    smallest = min(way.parameters for way in ways(node, shapes_of(KEYWORDS)))
    own = sum(KEYWORDS.tensor(name).size for name in node.inputs[1:])
    assert fit_stem(KEYWORDS, "int8", KEYWORDS.parameters() + smallest - own - 1) is KEYWORDS
    fitted = fit_stem(KEYWORDS, "int8", KEYWORDS.parameters() + smallest - own)
    assert any(n.name == "stem/pick" for n in fitted.nodes)


def test_what_has_no_rows_and_columns_to_lay_out_has_no_ways() -> None:
    for kernel in ((1, 1), (7, 1)):
        graph = stem(kernel, (1, 1), (0, 0, 0, 0))
        (node,) = foldable(graph)
        assert list(ways(node, shapes_of(graph))) == []


@pytest.mark.parametrize("name", [r.name for r in candidates.recipes_for("int8")])
def test_in_int8_the_patches_are_the_very_codes_of_the_input(name: str) -> None:
    fitted = fit_stem(KEYWORDS, "int8", PLENTY)
    x = spectra(fitted, 24)
    rules = rules_for(load_profile("arm-cpu"))
    found = Quantizer(fitted, {"x": x}).quantize(recipe.load(name), rules)
    pick = next(n for n in fitted.nodes if n.name == "stem/pick")
    read, written = found.params[pick.inputs[0]], found.params[pick.output]
    assert (read.scale, read.zero_point) == (written.scale, written.zero_point)
    assert set(np.unique(found.codes[pick.inputs[1]])) == {0, 127}


def test_a_convolution_that_adds_two_elements_is_no_copy() -> None:
    net = Net({"x": (1, 4, 4, 2)})
    attrs = {"strides": (1, 1), "pads": (0,) * 4, "dilations": (1, 1), "groups": 1, "activation": "none"}
    for weights, expected in (
        ([[1, 0], [0, 1]], True),
        ([[1, 1], [0, 1]], False),
        ([[0.5, 0], [0, 1]], False),
    ):
        w = net.constant(np.asarray(weights, np.float32).reshape(2, 1, 1, 2))
        net.node(Op.CONV2D, ["x", w], f"conv{expected}{len(net.nodes)}", **attrs)
    graph = net.graph(*(n.output for n in net.nodes))
    assert [copies(graph, node) for node in graph.nodes] == [True, False, False]
