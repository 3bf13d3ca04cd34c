"""Thin depthwise layers as convolutions: the same answers in float and in int8, only where it is faster."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from small_nets import Net, litert_run, pictures

from edge_contracts.profile import load_profile
from edge_convert import recipe, reference
from edge_convert.emitters import tflite
from edge_convert.graph import Array, Graph, Op
from edge_convert.pruning.thin_depthwise import as_convolution, thin, widen_thin
from edge_convert.quantizing.quantize import rules_for
from edge_convert.quantizing.quantizer import Quantizer
from edge_convert.time_model import predicted_us

PLENTY = 10**9


def net(channels: int = 8, stride: int = 1, size: int = 48, bias: bool = True) -> Graph:
    made = Net({"x": (1, size, size, 3)}, seed=channels + stride)
    y = made.conv("x", channels, 3, "stem")
    w = made.constant(made.rng.normal(0, 0.4, (1, 3, 3, channels)).astype(np.float32))
    inputs = [y, w, made.constant(made.rng.normal(0, 0.2, channels).astype(np.float32))][: 2 + bias]
    attrs: dict[str, Any] = {
        "strides": (stride, stride),
        "dilations": (1, 1),
        "pads": (1, 1, 1, 1) if stride == 1 else (0, 1, 0, 1),
        "activation": "relu6",
    }
    y = made.node(Op.DEPTHWISE_CONV2D, inputs, "thin", **attrs)
    return made.graph(made.conv(y, 8, name="next", activation="none"))


def answers(graph: Graph, x: Array) -> Array:
    return reference.run(graph, {"x": x})[graph.outputs[0].name]


@pytest.mark.parametrize(("stride", "bias"), [(1, True), (2, True), (1, False)])
def test_it_gives_the_same_answers(stride: int, bias: bool) -> None:
    graph, x = net(stride=stride, bias=bias), pictures(2, size=48)
    (node,) = thin(graph)
    wider = as_convolution(graph, node)
    assert [n.op for n in wider.nodes] == [Op.CONV2D] * 3
    np.testing.assert_allclose(answers(wider, x), answers(graph, x), atol=1e-5)
    folded = widen_thin(graph, "int8", PLENTY)
    np.testing.assert_allclose(answers(folded, x), answers(graph, x), atol=1e-5)


def test_in_int8_it_runs_on_litert_and_says_the_same_to_a_code() -> None:
    graph, x = net(), pictures(6, size=48)
    rules, minmax = rules_for(load_profile("x86-cpu")), recipe.load("wi8_ai8_minmax")
    said = []
    for form in (graph, widen_thin(graph, "int8", PLENTY)):
        quantization = Quantizer(form, {"x": x}).quantize(minmax, rules)
        said.append(litert_run(tflite.emit(form, quantization), x[:2]))
    step = (said[0].max() - said[0].min()) / 255
    assert np.abs(said[0] - said[1]).max() <= 1.01 * step


def test_it_is_done_where_it_is_faster_and_nowhere_else() -> None:
    graph = net()
    assert predicted_us(widen_thin(graph, "int8", PLENTY), "int8") < 0.95 * predicted_us(graph, "int8")
    assert widen_thin(graph, "float32", PLENTY) is graph
    assert widen_thin(net(channels=32), "int8", PLENTY) is not None
    wide = net(channels=32)
    assert thin(wide) == () and widen_thin(wide, "int8", PLENTY) is wide


def test_it_keeps_within_its_size() -> None:
    graph = net()
    assert widen_thin(graph, "int8", graph.parameters() + 500) is graph
    room = graph.parameters() + 504  # 8 x 9 x 8 weights for 72
    assert widen_thin(graph, "int8", room).parameters() <= room
