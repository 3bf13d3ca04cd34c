"""Monitored numbers: worked by hand on small arrays."""

from __future__ import annotations

import numpy as np
import pytest

from edge_contracts.features import BLOCK, LARGE, MAX_CLASSES, features, make_baseline, row_moments

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


@pytest.mark.parametrize("size", [LARGE, LARGE + 1, 96 * 96 * 3])
@pytest.mark.parametrize("dtype", ["float32", "uint8", "int64"])
def test_large_samples_have_the_same_moments_as_small_ones(size: int, dtype: str) -> None:
    values = np.random.default_rng(0).uniform(0, 200, (3, size)).astype(dtype)
    found = features({"x": values}, {"y": SCORES[:1].repeat(3, axis=0)}, "classification")
    assert np.allclose(found["input:x:mean"], values.mean(axis=1, dtype=np.float64), rtol=1e-6)
    assert np.allclose(found["input:x:std"], values.std(axis=1, dtype=np.float64), rtol=1e-5)


def test_a_black_or_grey_picture_has_no_deviation_at_all() -> None:
    grey = np.full((2, 96 * 96 * 3), 0.1, np.float32)
    found = features({"x": grey}, {"y": SCORES}, "classification")
    assert found["input:x:std"].tolist() == [0.0, 0.0]


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


@pytest.mark.parametrize(
    ("low", "high"), [(100.0, 101.0), (-1.0, 1.0), (0.0, 1.0), (1e20, 3e20), (0.0, 3e38)]
)
def test_moments_hold_close_together_and_far_out(low: float, high: float) -> None:
    row = np.random.default_rng(0).uniform(low, high, 3 * LARGE).astype(np.float32)
    wide = row.astype(np.float64)
    mean, std = row_moments(row)
    assert mean == pytest.approx(wide.mean(), rel=1e-6, abs=1e-6 * wide.std())
    assert std == pytest.approx(wide.std(), rel=1e-5)
    assert row_moments(row, float(np.abs(row).max())) == (mean, std)


def test_a_sample_larger_than_a_block_is_summed_up_block_by_block() -> None:
    row = np.random.default_rng(0).uniform(0, 1, 2 * BLOCK + 7).astype(np.float32)
    mean, std = row_moments(row, 1.0)
    assert (mean, std) == pytest.approx((row.mean(dtype=np.float64), row.std(dtype=np.float64)), rel=1e-5)


def test_moments_that_are_known_stand_for_values_that_are_gone() -> None:
    found = features({}, {"y": SCORES}, "classification", {"x": [(2.0, 1.0), (2.5, 0.0)]})
    assert found["input:x:mean"].tolist() == [2.0, 2.5]
    assert found["input:x:std"].tolist() == [1.0, 0.0]
