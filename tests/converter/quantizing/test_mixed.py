"""Mixed precision: a few layers with their readers in float, the most signal for their work first."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from small_nets import Net, picture_net, pictures

from edge_contracts.profile import load_profile
from edge_convert import candidates, recipe, reference
from edge_convert.graph import Op
from edge_convert.measures import score
from edge_convert.measures.score import LayerCost
from edge_convert.quantizing import mixed
from edge_convert.quantizing.quantize import Rules, rules_for
from edge_convert.quantizing.quantizer import Quantizer

ARM = rules_for(load_profile("arm-cpu"))
NPU = rules_for(load_profile("intel-npu"))
CORAL = rules_for(load_profile("coral-tpu"))
CHOSEN = recipe.load("wi8m_ai8_minmax_eq_lsr")


def chain() -> Net:
    """Four equal convolutions named a to d."""
    net, y = Net({"x": (1, 6, 6, 4)}), "x"
    for name in "abcd":
        y = net.conv(y, 4, 3, name)
    return net


def costs(**sqnr_db: float) -> list[LayerCost]:
    return [LayerCost(name, "conv2d", "", ratio) for name, ratio in sqnr_db.items()]


def test_a_layer_is_kept_with_its_reader_and_the_noisiest_comes_first() -> None:
    graph = chain().graph("d:0")
    found = mixed.sets(graph, ARM, costs(a=60.0, b=20.0, c=50.0, d=55.0))
    assert found[0] == {"b", "c"}


def test_sets_grow_and_never_hold_more_than_half_of_the_work() -> None:
    graph = picture_net()
    quantizer, feeds = Quantizer(graph, {"x": pictures(32)}), {"x": pictures(16, seed=2)}
    made = score.layer_costs(graph, quantizer.quantize(CHOSEN, ARM), feeds)
    found = mixed.sets(graph, ARM, made)
    assert 1 <= len(found) <= 6
    assert all(small < large for small, large in itertools.pairwise(found))


def test_a_layer_that_is_most_of_the_work_is_never_kept() -> None:
    net = Net({"x": (1, 6, 6, 4)})
    y = net.conv(net.conv("x", 32, 3, "large"), 32, 3, "larger")
    graph = net.graph(net.conv(y, 2, 1, "small"))
    assert mixed.sets(graph, ARM, costs(large=5.0)) == []
    assert mixed.sets(graph, ARM, costs(small=50.0)) == [{"small"}]


def test_an_edge_tpu_gets_everything_in_int8() -> None:
    assert mixed.sets(chain().graph("d:0"), CORAL, costs(b=10.0)) == []
    assert mixed.sets(chain().graph("d:0"), ARM, costs(b=10.0)) == [{"b", "c"}]


@pytest.mark.parametrize(("rules", "target"), [(ARM, "tflite"), (NPU, "openvino")])
def test_each_step_runs_and_the_last_is_nearer_to_float(rules: Rules, target: str) -> None:
    graph = picture_net()
    quantizer, unseen = Quantizer(graph, {"x": pictures(48)}), {"x": pictures(32, seed=2)}
    exact = reference.run(graph, unseen)[graph.outputs[0].name]
    plain = quantizer.quantize(CHOSEN, rules)
    made = score.layer_costs(graph, plain, unseen)
    ratios = [
        score.sqnr_db(
            exact, candidates.written(graph, target, CHOSEN, q, kept).model.run(unseen)[graph.outputs[0].name]
        )
        for kept, q in [(frozenset[str](), plain), *mixed.ladder(graph, quantizer, CHOSEN, rules, made)]
    ]
    assert len(ratios) > 1
    assert ratios[-1] is None or (ratios[0] is not None and ratios[-1] > ratios[0] + 1.0)


def test_a_kept_node_is_float_and_its_reader_still_gets_codes() -> None:
    graph = chain().graph("d:0")
    feeds = {"x": np.random.default_rng(0).normal(0, 1, (16, 6, 6, 4)).astype(np.float32)}
    found = Quantizer(graph, feeds).quantize(CHOSEN, ARM, frozenset({"b"}))
    assert "b" in found.float_nodes and "c" not in found.float_nodes
    assert "b:0" in found.params
    kinds = {node.name: node.op for node in graph.nodes}
    assert kinds["b"] is Op.CONV2D and graph.nodes[1].inputs[1] not in found.codes


def test_a_candidate_says_what_was_kept() -> None:
    graph = chain().graph("d:0")
    feeds = {"x": np.random.default_rng(0).normal(0, 1, (16, 6, 6, 4)).astype(np.float32)}
    kept = frozenset({"b"})
    made = candidates.written(
        graph, "tflite", CHOSEN, Quantizer(graph, feeds).quantize(CHOSEN, ARM, kept), kept
    )
    assert made.kept_float == kept
