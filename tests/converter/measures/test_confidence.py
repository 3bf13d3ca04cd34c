"""Calibration of confidence: worked by hand, against scipy, and on samples drawn from a known model."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from sklearn.metrics import log_loss

from edge_convert.evidence import Answered
from edge_convert.measures import confidence
from edge_convert.measures.metrics import softmax
from edge_convert.measures.pairs import Pair, pair
from edge_convert.measures.truth import Truth

RANDOM = np.random.RandomState(0)


def drawn(samples: int, classes: int = 5, spread: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels drawn from their own softmax: perfectly calibrated."""
    logits = RANDOM.normal(0, spread, (samples, classes))
    chances = np.cumsum(softmax(logits), axis=1)
    return logits, (RANDOM.rand(samples, 1) > chances).sum(axis=1)


def compared(logits: np.ndarray, artifact: np.ndarray, labels: np.ndarray | None) -> Pair:
    truth = None if labels is None else Truth(classes=labels)
    answers = {"y": softmax(logits).astype(np.float32)}
    return pair("classification", Answered({"x": logits}, answers, truth), {"y": artifact})


def test_a_calibration_error_by_hand() -> None:
    # two bins of 20: sure 0.6, right half of the time; sure 0.9, always right
    sure = np.repeat([0.6, 0.9], 20)
    right = np.concatenate([np.arange(20) % 2 == 0, np.full(20, True)])
    found = confidence.calibration(sure, right)
    assert found.ece == pytest.approx((0.1 + 0.1) / 2)
    assert [(b.samples, round(b.confidence, 6), b.right) for b in found.bins] == [
        (20, 0.6, 0.5),
        (20, 0.9, 1.0),
    ]
    assert found.interval is not None and found.interval[0] <= found.ece <= found.interval[1]


def test_samples_that_are_equally_sure_share_a_bin() -> None:
    # an int8 softmax is often at its last code: what order they come in must not matter
    sure, right = np.full(100, 0.996), np.arange(100) < 99
    found = confidence.calibration(sure, right)
    assert len(found.bins) == 1
    assert found.ece == pytest.approx(0.006)


def test_bins_hold_about_as_many_each() -> None:
    logits, labels = drawn(3000)
    sure = softmax(logits)
    found = confidence.calibration(sure.max(axis=1), sure.argmax(axis=1) == labels)
    assert [b.samples for b in found.bins] == [200] * 15
    assert found.ece < 0.04


def test_the_temperature_is_the_one_that_an_optimizer_finds() -> None:
    logits, labels = drawn(2000)
    one_hot = np.eye(5)[labels]
    found = confidence.fit_temperature(logits * 3, one_hot)
    best = minimize_scalar(
        lambda t: log_loss(labels, softmax(logits * 3 / t), labels=np.arange(5)),
        bounds=(0.1, 10),
        method="bounded",
    )
    assert found == pytest.approx(best.x, rel=1e-3)
    assert found == pytest.approx(3, rel=0.1)
    assert confidence.fit_temperature(logits * 3, softmax(logits)) == pytest.approx(3)


def test_a_temperature_that_runs_away_stops_at_its_end() -> None:
    logits = np.eye(3)
    assert confidence.fit_temperature(logits, np.eye(3)) == confidence.COLDEST
    assert confidence.fit_temperature(logits, np.full((3, 3), 1 / 3)) == confidence.HOTTEST


def test_an_overconfident_artifact_is_measured_and_restored_on_samples_apart() -> None:
    logits, labels = drawn(2000)
    found = confidence.of(compared(logits, softmax(2.5 * logits).astype(np.float32), labels), 0.05)
    assert found is not None
    document = found.document
    assert document["artifact"]["ece"] > 0.15 > document["source"]["ece"]
    assert document["calibrated"]["ece"] < document["artifact"]["ece"] / 3
    assert document["temperature"]["value"] == pytest.approx(2.5, rel=0.1)
    assert document["samples"] + document["temperature"]["samples"] == 2000
    assert found.contract is not None
    assert found.contract.temperature == document["temperature"]["value"]


def test_without_labels_the_temperature_brings_the_sources_confidence_back() -> None:
    logits, _ = drawn(500)
    found = confidence.of(compared(logits, softmax(2.5 * logits).astype(np.float32), None), 0.05)
    assert found is not None and found.contract is not None
    # a float32 softmax times 2.5 loses its smallest entries to the floor
    assert found.contract.temperature == pytest.approx(2.5, rel=0.05)
    assert found.contract.risk_of == "disagreement"
    assert found.document["source"] is found.document["calibrated"] is None
    assert found.document["temperature"]["divergence"] < found.document["divergence"] / 20


def test_a_threshold_keeps_the_surest_and_states_what_was_shown() -> None:
    sure = np.linspace(1, 0, 1000)
    right = np.ones(1000, bool)
    right[500:] = RANDOM.rand(500) > 0.4
    found = confidence.abstain(sure, right, 0.05)
    assert found is not None
    # the first 500 are all right; bounds let in what 5 % of errors allow, less for being sure of it
    assert 0.5 < found.coverage < 0.58
    assert found.below == pytest.approx(1 - found.coverage, abs=2e-3)
    assert (~right[sure >= found.below]).mean() < found.risk <= 0.05


def test_everything_is_answered_where_that_is_shown_to_be_safe() -> None:
    found = confidence.abstain(np.linspace(1, 0, 300), np.ones(300, bool), 0.05)
    assert found is not None and found.coverage == 1.0
    # ln(1 - 0.05 / 3) / ln: 80 samples without an error show 5 %, 79 do not
    assert confidence.abstain(np.linspace(1, 0, 80), np.ones(80, bool), 0.05) is not None
    assert confidence.abstain(np.linspace(1, 0, 79), np.ones(79, bool), 0.05) is None


def test_a_model_that_guesses_gets_no_threshold() -> None:
    assert confidence.abstain(RANDOM.rand(500), RANDOM.rand(500) > 0.5, 0.05) is None
    assert confidence.abstain(np.zeros(0), np.zeros(0, bool), 0.05) is None


def test_the_promise_is_kept_about_as_often_as_it_says() -> None:
    """Thresholds found on 200 samples, judged on 20,000: the risk is above the target in 5 % at most."""
    broken = 0
    for _ in range(150):
        sure = RANDOM.rand(200)
        right = RANDOM.rand(200) < 0.75 + 0.25 * sure
        found = confidence.abstain(sure, right, 0.1)
        if found is not None:  # uniform above the threshold: the mean error is known
            broken += 0.25 * (1 - (1 + found.below) / 2) > 0.1
    assert broken <= 150 * 0.1


def test_samples_that_are_equally_sure_are_answered_together() -> None:
    sure, right = np.repeat([0.9, 0.5], 150), np.repeat([True, False], 150)
    found = confidence.abstain(sure, right, 0.05)
    assert found is not None
    assert (found.below, found.coverage) == (0.9, 0.5)


def test_too_few_samples_give_figures_and_a_warning_but_no_promise() -> None:
    logits, labels = drawn(60)
    found = confidence.of(compared(logits, softmax(logits).astype(np.float32), labels), 0.05)
    assert found is not None and found.contract is None
    assert found.document["artifact"]["ece"] >= 0
    assert found.warnings == (
        "60 samples are too few for a temperature or an abstain threshold; 80 or more are needed",
    )


def test_what_cannot_be_shown_is_warned_of() -> None:
    logits, labels = drawn(200, spread=0.1)
    found = confidence.of(compared(logits, softmax(logits).astype(np.float32), labels), 0.05)
    assert found is not None and found.contract is not None
    assert found.contract.abstain_below is None
    assert any("no abstain threshold: 100 samples cannot show" in warning for warning in found.warnings)


def test_only_classifiers_have_a_confidence() -> None:
    x = np.ones((9, 2), np.float32)
    assert confidence.of(pair("other", Answered({"x": x}, {"y": x}), {"y": x}), 0.05) is None
