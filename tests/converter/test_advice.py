"""Advice: it names the figure that was missed, and only what would move it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge_contracts.manifest import Score
from edge_contracts.profile import load_profile
from edge_convert import gates
from edge_convert.advice import ADVICE, advice
from edge_convert.gates import Finding, Verdict
from edge_convert.measures.score import LayerCost
from edge_convert.results import Trial, TrialState

ARM, CORAL = load_profile("arm-cpu"), load_profile("coral-usb")
SELECTION = Score(samples=50, agreement=0.9, sqnr_db=12.0)


def failed(name: str, *findings: Finding) -> Trial:
    return Trial("wi8", "int8", 1000, SELECTION, TrialState.FAILED, findings=findings, name=name)


def missed(gate: str, found: float, limit: float) -> Finding:
    return Finding(gate, Verdict.FAIL, "", found, limit)


def test_the_nearest_candidate_is_spoken_of_and_its_figure_would_pass_the_limit_named() -> None:
    far, near = failed("far", missed("accuracy", 9.0, 1.0)), failed("near", missed("accuracy", 1.234, 1.0))
    (line,) = advice([far, near], ARM, (), 200, ended_early=False)
    assert line.startswith("near came nearest")
    assert "--max-drop 1.24" in line
    drop = Score(samples=1000, metric="accuracy", source=0.9, artifact=0.9 - 0.01234)
    assert gates.accuracy_drop(drop, 1.24).verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("finding", "says"),
    [
        (missed("agreement", 0.8766, 0.9), "--min-agreement 0.876"),
        (missed("signal", 12.39, 15.0), "--min-sqnr 12.3"),
        (missed("accuracy", 60.0, 1.0), "no limit makes it useful"),
        (missed("signal", -300.0, 15.0), "nothing in common"),
        (missed("size", 9e7, 67108864.0), "allows 67108864"),
        (missed("latency", 1.5, 1.1), "--latency-gate off"),
        (missed("worst slice", 12.0, 5.0), "worst slice loses 12.0 points"),
    ],
)
def test_every_gate_has_its_own_word(finding: Finding, says: str) -> None:
    (line,) = advice([failed("a", finding)], ARM, (), 200, ended_early=False)
    assert says in line


def test_a_profile_with_int8_alone_names_the_layers_that_cost_most() -> None:
    layers = (LayerCost("n1", "conv2d", "Conv 'stem'", 3.21), LayerCost("n2", "dense", "", 9.0))
    lines = advice([failed("a", missed("agreement", 0.5, 0.9))], CORAL, layers, 200, ended_early=False)
    assert "Conv 'stem' (3.2 dB), n2 (9.0 dB)" in lines[1]
    assert "float16 or float32" in lines[1]


def test_few_samples_and_a_search_cut_short_are_said() -> None:
    lines = advice([failed("a", missed("agreement", 0.5, 0.9))], ARM, (), 20, ended_early=True)
    assert any("--time-budget" in line for line in lines)
    assert any(line.startswith("20 calibration samples are few") for line in lines)


def test_nothing_is_said_where_nothing_failed() -> None:
    passed = replace(failed("a"), state=TrialState.CHOSEN)
    assert advice([passed], ARM, (), 20, ended_early=True) == ()


def test_every_gate_that_can_fail_a_candidate_has_advice_or_a_reason_of_its_own() -> None:
    # what a candidate is put before: see outcome.py; "smaller" says all there is to say itself
    assert set(ADVICE) == {"accuracy", "agreement", "signal", "worst slice", "size", "latency"}
