"""int8 operators written as several: only where that is right, and with the single operator's answers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from small_nets import Net
from tflite_cases import run

from edge_contracts.profile import load_profile
from edge_convert import recipe
from edge_convert.emitters.tflite import emit
from edge_convert.graph import Array, Graph, Op
from edge_convert.importers.tflite_file import parse
from edge_convert.quantizing.quantization import Quantization
from edge_convert.quantizing.quantization import quantize as to_codes
from edge_convert.quantizing.quantize import choose, rules_for
from edge_convert.quantizing.statistics import collect

ARM = rules_for(load_profile("arm-cpu"))
CORAL = rules_for(load_profile("coral-tpu"))
SHAPE = (1, 6, 5, 8)
SLOW = {"RELU", "RELU6", "PRELU", "HARD_SWISH"}


def one(op: Op, slopes: Array | None = None) -> Graph:
    net = Net({"x": SHAPE})
    return net.graph(net.node(op, ["x"] if slopes is None else ["x", net.constant(slopes)]))


def samples(mean: float, spread: float = 3.0) -> Array:
    return np.random.default_rng(4).normal(mean, spread, (16, *SHAPE[1:])).astype(np.float32)


def chosen(graph: Graph, x: Array, coral: bool = False) -> Quantization:
    rules = CORAL if coral else ARM
    return choose(graph, collect(graph, {"x": x}), recipe.load("wi8_ai8_minmax"), rules)


def codes_of(content: bytes) -> list[str]:
    return [operator.code for operator in parse(content).operators]


SLOPES = np.linspace(0.02, 0.6, 8, dtype=np.float32).reshape(1, 1, 8)
CASES = {
    "relu": one(Op.RELU),
    "relu6": one(Op.RELU6),
    "prelu": one(Op.PRELU, SLOPES),
    "prelu with slopes below 0 and above 1": one(Op.PRELU, 4 * SLOPES - 1),
    "prelu with slopes of 0": one(Op.PRELU, 0 * SLOPES),
    "hard_swish": one(Op.HARD_SWISH),
}


@pytest.mark.parametrize("mean", [-4.0, 0.0, 4.0])
@pytest.mark.parametrize("graph", CASES.values(), ids=CASES.keys())
def test_the_answers_are_the_single_operators_to_within_a_code(graph: Graph, mean: float) -> None:
    x = samples(mean)
    split = chosen(graph, x)
    whole = replace(split, whole=frozenset({graph.nodes[0].name}))
    files = emit(graph, whole), emit(graph, split)
    assert set(codes_of(files[0])) & SLOW and not set(codes_of(files[1])) & SLOW
    for sample in x[:4]:
        given = [to_codes(sample[None], split.params["x"])]
        (expected,), (got,) = (run(content, given) for content in files)
        assert np.abs(got.astype(int) - expected.astype(int)).max() <= 1


def test_in_float_the_single_operator_is_the_fastest() -> None:
    assert [codes_of(emit(graph)) for graph in CASES.values()] == [
        ["RELU"],
        ["RELU6"],
        ["PRELU"],
        ["PRELU"],
        ["PRELU"],
        ["HARD_SWISH"],
    ]


def test_a_result_whose_codes_reach_below_zero_cannot_saturate_there() -> None:
    """Its scale is shared with a tensor that has negative values."""
    net = Net({"x": SHAPE})
    y = net.node(Op.RELU, ["x"])
    graph = net.graph(net.node(Op.CONCAT, [y, "x"], axis=3))
    assert "RELU" in codes_of(emit(graph, chosen(graph, samples(0.0))))


def test_a_result_whose_codes_reach_beyond_the_ceiling_cannot_saturate_there() -> None:
    net = Net({"x": SHAPE})
    y = net.node(Op.RELU6, ["x"])
    z = net.node(Op.RELU, ["x"])
    graph = net.graph(net.node(Op.CONCAT, [y, z], axis=3))
    codes = codes_of(emit(graph, chosen(graph, samples(0.0, 9.0))))
    assert "RELU6" in codes and "RELU" not in codes


def test_the_edge_tpu_keeps_what_it_runs_as_it_is() -> None:
    graph, x = CASES["prelu"], samples(0.0)
    assert codes_of(emit(graph, chosen(graph, x, coral=True))) == ["PRELU"]
    assert "HARD_SWISH" not in codes_of(emit(CASES["hard_swish"], chosen(CASES["hard_swish"], x, coral=True)))
