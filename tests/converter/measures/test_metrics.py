"""Every metric against scikit-learn's, weighted and not, and what makes it not apply."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as oracle

from edge_convert.measures import metrics
from edge_convert.measures.metrics import Reading
from edge_convert.measures.truth import Truth

RANDOM = np.random.RandomState(0)
N, CLASSES = 300, 6
RIGHT = RANDOM.randint(0, CLASSES, N)
LOGITS = RANDOM.normal(0, 1, (N, CLASSES)) + 1.5 * np.eye(CLASSES)[RIGHT]
SCORES = metrics.softmax(LOGITS)
ONES = np.ones(N)
DRAWN = np.bincount(RANDOM.randint(0, N, N), minlength=N).astype(np.float64)
LABELS = np.arange(CLASSES)


def figure(name: str, answers: Reading, truth: Truth, task: str, weights: np.ndarray) -> float | None:
    (one,) = [m for m in metrics.of_task(task) if m.name == name]
    measure = one.measure(answers, truth)
    return None if measure is None else measure(weights)


def classified(name: str, weights: np.ndarray = ONES) -> float | None:
    return figure(
        name, Reading(scores=SCORES, probabilities=SCORES), Truth(classes=RIGHT), "classification", weights
    )


@pytest.mark.parametrize("weights", [ONES, DRAWN], ids=["plain", "resampled"])
def test_classification_is_scikit_learns(weights: np.ndarray) -> None:
    given = SCORES.argmax(axis=1)
    expected = {
        "accuracy": oracle.accuracy_score(RIGHT, given, sample_weight=weights),
        "top3": oracle.top_k_accuracy_score(RIGHT, SCORES, k=3, labels=LABELS, sample_weight=weights),
        "macro_f1": oracle.f1_score(RIGHT, given, average="macro", sample_weight=weights),
        "roc_auc": oracle.roc_auc_score(
            np.eye(CLASSES)[RIGHT], SCORES, average="macro", sample_weight=weights
        ),
        "log_loss": oracle.log_loss(RIGHT, SCORES, sample_weight=weights, labels=LABELS),
    }
    for name, value in expected.items():
        assert classified(name, weights) == pytest.approx(value, abs=1e-9), name


def test_top5_of_six_classes_says_nothing() -> None:
    assert classified("top5") is None


def test_a_binary_auc_counts_ties_half() -> None:
    right = RANDOM.randint(0, 2, N)
    second = np.round(np.clip(0.5 + 0.2 * (right - 0.5) + RANDOM.normal(0, 0.2, N), 0, 1), 1)
    scores = np.stack([1 - second, second], axis=1)
    found = figure("roc_auc", Reading(scores=scores), Truth(classes=right), "classification", DRAWN)
    assert found == pytest.approx(oracle.roc_auc_score(right, second, sample_weight=DRAWN))
    # one pair in order, one tie, by hand: (1 + 0.5) / 2
    area = metrics.auc(np.array([0.1, 0.5, 0.5]), np.array([False, False, True]))
    assert area(np.ones(3)) == 0.75


def test_an_area_without_both_kinds_is_unknown() -> None:
    area = metrics.auc(np.array([0.1, 0.5]), np.array([False, True]))
    assert area(np.array([1.0, 0.0])) is None


@pytest.mark.parametrize("weights", [ONES, DRAWN], ids=["plain", "resampled"])
def test_regression_is_scikit_learns(weights: np.ndarray) -> None:
    right = RANDOM.normal(0, 3, (N, 2))
    given = right + RANDOM.normal(0, 1, (N, 2))
    answers, truth = Reading(values=given), Truth(values=right)
    expected = {
        "r2": oracle.r2_score(right, given, sample_weight=weights),
        "mae": oracle.mean_absolute_error(right, given, sample_weight=weights),
        "rmse": np.sqrt(oracle.mean_squared_error(right, given, sample_weight=weights)),
    }
    for name, value in expected.items():
        assert figure(name, answers, truth, "regression", weights) == pytest.approx(value), name
    constant = Truth(values=np.ones((N, 1)))
    assert figure("r2", Reading(values=given[:, :1]), constant, "regression", ONES) is None


def test_an_auto_encoder_is_judged_by_its_errors() -> None:
    anomalous = RANDOM.randint(0, 2, N).astype(bool)
    given = RANDOM.normal(0, 1, (N, 4)).astype(np.float32)
    rebuilt = given + (0.1 + 0.1 * anomalous[:, None]) * RANDOM.normal(0, 1, (N, 4)).astype(np.float32)
    answers = metrics.read("reconstruction", {"x": given}, {"y": rebuilt})
    errors = np.square(rebuilt.astype(np.float64) - given).mean(axis=1)
    found = figure("roc_auc", answers, Truth(anomalous=anomalous), "reconstruction", ONES)
    assert found == pytest.approx(oracle.roc_auc_score(anomalous, errors))
    assert 0.6 < (found or 0) < 1


def test_every_metric_needs_its_own_truth() -> None:
    tasks = ["classification", "regression", "detection", "reconstruction"]
    for task in tasks:
        assert metrics.of_task(task)
        for one in metrics.of_task(task):
            assert one.measure(Reading(), Truth()) is None
    assert [metrics.of_task(task)[0].name for task in tasks] == list(metrics.PRIMARY.values())
    assert metrics.primary("other") is None and metrics.of_task("other") == []


def test_logits_and_probabilities_come_to_the_same_and_nothing_is_zero() -> None:
    assert not metrics.is_softmax(LOGITS)
    assert metrics.is_softmax(SCORES)
    np.testing.assert_allclose(metrics.probabilities(LOGITS, False), metrics.probabilities(SCORES, True))
    half_a_code = 1 / 512
    coarse = metrics.probabilities(np.array([[1.0, 0.0]]), True, half_a_code)
    assert coarse[0, 1] == pytest.approx(half_a_code / (1 + half_a_code))
