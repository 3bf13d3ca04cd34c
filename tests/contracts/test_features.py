"""Monitored numbers: worked by hand on small arrays."""

from __future__ import annotations

import numpy as np

from edge_contracts.features import MAX_CLASSES, features, make_baseline

X = np.array([[1.0, 3.0], [2.0, 2.0]], np.float32)
SCORES = np.array([[0.1, 0.9], [0.7, 0.3]], np.float32)


def test_a_classifier_is_watched_by_confidence_and_class() -> None:
    found = features({"x": X}, {"y": SCORES}, "classification")
    assert found["input:x:mean"].tolist() == [2.0, 2.0]
    assert found["input:x:std"].tolist() == [1.0, 0.0]
    assert np.allclose(found["output:y:confidence"], [0.9, 0.7])
    assert found["output:y:class"].tolist() == [1.0, 0.0]


def test_any_other_model_is_watched_by_moments() -> None:
    found = features({"x": X}, {"y": SCORES}, "reconstruction")
    assert sorted(found) == ["input:x:mean", "input:x:std", "output:y:mean", "output:y:std"]


def test_every_class_has_a_bin_of_its_own() -> None:
    scalar = make_baseline({"output:y:class": np.array([0.0, 2.0, 2.0])}, classes=4).scalars[0]
    assert scalar.edges == (0.5, 1.5, 2.5)
    assert scalar.counts == (1, 0, 2, 0)


def test_many_classes_share_bins() -> None:
    scalar = make_baseline({"output:y:class": np.arange(1000.0)}, classes=1000).scalars[0]
    assert len(scalar.counts) <= MAX_CLASSES
    assert sum(scalar.counts) == 1000


def test_a_baseline_is_binned_by_its_own_tenths() -> None:
    baseline = make_baseline({"input:x:mean": np.arange(100.0)})
    assert baseline.samples == 100
    assert baseline.scalars[0].counts == (10,) * 10


def test_a_constant_number_has_a_baseline_too() -> None:
    scalar = make_baseline({"input:x:mean": np.full(50, 3.0)}).scalars[0]
    assert sum(scalar.counts) == 50
    assert scalar.bin_of(3.0) == scalar.counts.index(50)
