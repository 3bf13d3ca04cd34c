"""Scores against values worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
from small_nets import picture_net, pictures

from edge_contracts.profile import load_profile
from edge_convert import recipe
from edge_convert.measures import score
from edge_convert.quantizing.quantize import rules_for
from edge_convert.quantizing.quantizer import Quantizer


def test_a_tenth_of_the_amplitude_wrong_is_twenty_decibels() -> None:
    reference = np.array([3.0, -4.0])
    assert score.sqnr_db(reference, reference * 1.1) == pytest.approx(20.0)


def test_equal_answers_have_no_ratio() -> None:
    assert score.sqnr_db(np.ones(3), np.ones(3)) is None


@pytest.mark.parametrize("test", [[np.nan, 1.0], [np.inf, 1.0]])
def test_answers_that_are_not_numbers_are_infinitely_bad(test: list[float]) -> None:
    assert score.sqnr_db(np.ones(2), np.array(test)) == float("-inf")


def test_a_silent_reference_is_infinitely_bad_unless_met() -> None:
    assert score.sqnr_db(np.zeros(2), np.ones(2)) == float("-inf")
    assert score.sqnr_db(np.zeros(2), np.zeros(2)) is None


def test_the_worst_output_counts() -> None:
    one = np.array([1.0])
    assert score.worst_sqnr_db({"a": one, "b": one}, {"a": one * 1.1, "b": one * 2}) == pytest.approx(0.0)
    assert score.worst_sqnr_db({"a": one}, {"a": one}) is None


def test_agreement_and_accuracy_count_top_one() -> None:
    left = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.3, 0.7]])
    right = np.array([[0.6, 0.4], [0.9, 0.1], [0.7, 0.3], [0.1, 0.9]])
    assert score.agreement(left, right) == 0.75
    assert score.accuracy(left, np.array([0, 1, 1, 1])) == 0.75
    assert score.accuracy(left, np.array([[0], [1], [1], [1]])) == 0.75


def test_the_layer_with_a_ruined_weight_costs_most() -> None:
    graph, feeds = picture_net(), {"x": pictures(40)}
    rules = rules_for(load_profile("arm-cpu"))
    quantization = Quantizer(graph, feeds).quantize(recipe.load("wi8_ai8_minmax"), rules)
    fair = score.layer_costs(graph, quantization, feeds)
    assert [c.sqnr_db for c in fair] == sorted(c.sqnr_db or 0.0 for c in fair)
    assert {"x", "first", "branch", "logits"} <= {c.node for c in fair}
    node = next(n for n in graph.nodes if n.name == "pointwise")
    quantization.codes[node.inputs[1]][:] //= 2
    worst = score.layer_costs(graph, quantization, feeds)[0]
    assert (worst.node, worst.op) == ("pointwise", "conv2d") and (worst.sqnr_db or 0.0) < 15.0
