"""Concept drift: Fisher's exact test against another implementation, and what is worth an alarm."""

from __future__ import annotations

import pytest

from edge_agent.drift.accuracy import KnownAccuracy, decline, has_declined, known_accuracy
from edge_contracts.manifest import Score

KNOWN = KnownAccuracy(correct=361, samples=400)


@pytest.mark.parametrize(("correct", "labelled"), [(80, 100), (45, 50), (300, 400), (0, 60), (60, 60)])
def test_the_tail_is_fishers(correct: int, labelled: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    table = [[correct, labelled - correct], [KNOWN.correct, KNOWN.samples - KNOWN.correct]]
    expected = stats.fisher_exact(table, alternative="less").pvalue
    assert decline(KNOWN, correct, labelled) == pytest.approx(expected, rel=1e-6)


def test_a_fall_is_seen_when_it_is_beyond_chance_and_matters() -> None:
    assert has_declined(KNOWN, 140, 200)  # 70 % instead of 90 %
    assert not has_declined(KNOWN, 175, 200)  # within chance
    assert not has_declined(KNOWN, 20, 49)  # too few labels
    # a large set sees a fall of two points, which nobody would act upon
    large = KnownAccuracy(90_000, 100_000)
    assert decline(large, 88_000, 100_000) < 1e-6
    assert not has_declined(large, 88_000, 100_000)


def test_accuracy_comes_from_an_evaluation_with_labels_alone() -> None:
    with_labels = Score(samples=200, metric="accuracy", source=0.92, artifact=0.91)
    assert known_accuracy(with_labels) == KnownAccuracy(182, 200)
    assert known_accuracy(Score(samples=200, agreement=0.99)) is None
    assert known_accuracy(Score(samples=200, metric="auc", source=0.9, artifact=0.9)) is None
    assert known_accuracy(None) is None
