"""The confidence of an answer is the one that the converter calibrated, and never made of nonsense."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest

from edge_agent.doubt.confidence import FEW, ConfidenceRule
from edge_contracts.manifest import Confidence
from edge_convert.measures.metrics import softmax

Scores = Literal["probabilities", "logits"]


def rule(
    scores: Scores, temperature: float, below: float | None = None, floor: float = 1e-4
) -> ConfidenceRule:
    stated = Confidence(
        scores=scores,
        floor=floor,
        temperature=temperature,
        abstain_below=below,
        risk_of="error",
        samples=100,
    )
    return ConfidenceRule("scores", stated)


def test_two_classes_by_hand() -> None:
    # p = (0.8, 0.2), T = 2: sqrt(0.8) / (sqrt(0.8) + sqrt(0.2)) = 2 / (2 + 1)
    assert rule("probabilities", 2.0)({"scores": np.array([[0.8, 0.2]], np.float32)})[0] == pytest.approx(
        2 / 3
    )
    # z = (ln 9, 0), T = 2: softmax(ln 3, 0) = 3 / 4
    assert rule("logits", 2.0)({"scores": np.array([[np.log(9), 0.0]])})[0] == pytest.approx(0.75)


@pytest.mark.parametrize("classes", [2, 12, FEW, FEW + 1, 1001])
@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
def test_it_is_the_largest_softmax_that_the_manifest_describes(classes: int, temperature: float) -> None:
    rng = np.random.default_rng(classes)
    z = rng.normal(0, 4, (20, classes))
    p = softmax(z)
    expected = softmax(np.log(np.maximum(p, 1e-4)) / temperature).max(axis=1)
    np.testing.assert_allclose(rule("probabilities", temperature)({"scores": p}), expected, rtol=1e-9)
    np.testing.assert_allclose(
        rule("logits", temperature)({"scores": z}), softmax(z / temperature).max(axis=1), rtol=1e-9
    )


@pytest.mark.parametrize("classes", [3, 100])
@pytest.mark.parametrize("scores", ["probabilities", "logits"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_are_never_sure(scores: Scores, classes: int, bad: float) -> None:
    # minus infinity in one place is lawful: a class that is ruled out
    for place in (0, 1, classes - 1) if bad != -np.inf else ():
        spoilt = np.full((1, classes), 1 / classes)
        spoilt[0, place] = bad
        assert rule(scores, 1.0)({"scores": spoilt}) == (0.0,)
    everywhere = np.full((1, classes), bad)
    expected = 1 / classes if scores == "probabilities" and bad == -np.inf else 0.0
    assert rule(scores, 1.0)({"scores": everywhere})[0] == pytest.approx(expected)


def test_scores_of_nothing_but_zero_are_not_sure() -> None:
    nothing = {"scores": np.zeros((1, 4))}
    assert rule("probabilities", 1.0, floor=0.0)(nothing) == (0.0,)
    assert rule("probabilities", 1.0, floor=1e-3)(nothing) == (0.25,)


def test_the_threshold_itself_is_sure_and_anything_less_is_not() -> None:
    strict = rule("probabilities", 1.0, below=0.7)
    assert strict.is_sure(0.7)
    assert not strict.is_sure(0.6999)
    assert not strict.is_sure(float("nan"))
    assert rule("probabilities", 1.0).is_sure(0.0)


def test_pictures_of_one_score_each_are_rows_too() -> None:
    deep: dict[str, Any] = {"scores": np.array([[[[0.8, 0.2]]], [[[0.5, 0.5]]]])}
    np.testing.assert_allclose(rule("probabilities", 1.0)(deep), (0.8, 0.5))
