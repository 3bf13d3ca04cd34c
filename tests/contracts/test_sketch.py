"""Sketches: they add up, their quantiles are right, and the drift test keeps its promise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy import stats

from edge_contracts.sketch import (
    ALPHA,
    RELATIVE_ACCURACY,
    QuantileSketch,
    ScalarBaseline,
    bin_index,
    chi_square_tail,
    compare,
    merge_quantiles,
)


def sketch_of(values: list[float]) -> QuantileSketch:
    bins: dict[int, int] = {}
    for value in values:
        bins[bin_index(value)] = bins.get(bin_index(value), 0) + 1
    return QuantileSketch(bins=bins)


@given(st.lists(st.floats(1e-3, 1e6), min_size=1, max_size=200), st.sampled_from([0.0, 0.5, 0.95, 1.0]))
def test_quantiles_are_within_the_stated_accuracy(values: list[float], q: float) -> None:
    exact = sorted(values)[math.floor(q * (len(values) - 1))]
    found = sketch_of(values).quantile(q)
    assert found is not None
    assert abs(found - exact) <= RELATIVE_ACCURACY * exact * (1 + 1e-9)


@given(st.lists(st.floats(1e-3, 1e6), max_size=50), st.lists(st.floats(1e-3, 1e6), max_size=50))
def test_sketches_add_up(one: list[float], two: list[float]) -> None:
    assert merge_quantiles([sketch_of(one), sketch_of(two)]) == sketch_of(one + two)


def test_an_empty_sketch_has_no_quantile() -> None:
    assert QuantileSketch().quantile(0.5) is None


@pytest.mark.parametrize("degrees", [1, 2, 5, 9, 30])
@pytest.mark.parametrize("statistic", [0.01, 0.5, 3.0, 9.0, 25.0, 80.0, 400.0])
def test_the_chi_square_tail_is_scipys(statistic: float, degrees: int) -> None:
    assert chi_square_tail(statistic, degrees) == pytest.approx(stats.chi2.sf(statistic, degrees), rel=1e-8)


def baseline(values: np.ndarray) -> ScalarBaseline:
    edges = np.quantile(values, np.arange(1, 10) / 10)
    counts = np.bincount(np.searchsorted(edges, values, side="right"), minlength=10)
    return ScalarBaseline(name="s", edges=tuple(edges.tolist()), counts=tuple(counts.tolist()))


def binned(scalar: ScalarBaseline, values: np.ndarray) -> list[int]:
    counts = [0] * len(scalar.counts)
    for value in values:
        counts[scalar.bin_of(float(value))] += 1
    return counts


@pytest.mark.parametrize("window", [60, 300, 3000])
def test_the_test_statistic_has_its_stated_size_whatever_the_window(window: int) -> None:
    # 2,000 comparisons without any change at level 0.01: 20 expected, and 45 has a chance of 1e-6
    rng = np.random.default_rng(7)
    alarms = 0
    for _ in range(2000):
        edges = tuple(float(e) for e in stats.norm.ppf(np.arange(1, 10) / 10))
        base = rng.multinomial(200, [0.1] * 10)
        live = rng.multinomial(window, [0.1] * 10)
        scalar = ScalarBaseline(name="s", edges=edges, counts=tuple(int(c) for c in base))
        alarms += compare(scalar, [int(c) for c in live]).p_value < 0.01
    assert alarms < 45


def test_a_shift_of_one_deviation_is_drift_and_none_is_not() -> None:
    rng = np.random.default_rng(3)
    scalar = baseline(rng.normal(0, 1, 400))
    assert not compare(scalar, binned(scalar, rng.normal(0, 1, 500))).drifted
    shifted = compare(scalar, binned(scalar, rng.normal(1, 1, 500)))
    assert shifted.drifted
    assert shifted.p_value < ALPHA


def test_a_difference_too_small_to_matter_is_not_drift() -> None:
    rng = np.random.default_rng(3)
    scalar = baseline(rng.normal(0, 1, 100_000))
    small = compare(scalar, binned(scalar, rng.normal(0.1, 1, 50_000)))
    assert small.p_value < ALPHA
    assert not small.drifted


def test_too_few_samples_are_no_evidence() -> None:
    scalar = ScalarBaseline(name="s", edges=(0.0,), counts=(200, 200))
    assert compare(scalar, [0, 40]).p_value == 1
    assert compare(scalar, [0, 0]).samples == 0


def test_one_constant_value_is_no_drift_while_it_stays() -> None:
    scalar = ScalarBaseline(name="s", edges=(), counts=(200,))
    assert not compare(scalar, [500]).drifted


@pytest.mark.parametrize(
    "fields",
    [
        {"edges": (1.0,), "counts": (1,)},
        {"edges": (2.0, 1.0), "counts": (1, 1, 1)},
        {"edges": (1.0,), "counts": (1, -1)},
    ],
)
def test_a_baseline_that_makes_no_sense_is_refused(fields: dict[str, tuple[float, ...]]) -> None:
    with pytest.raises(ValidationError):
        ScalarBaseline.model_validate({"name": "s", **fields})


def test_nan_is_counted_in_the_last_bin() -> None:
    assert ScalarBaseline(name="s", edges=(0.0,), counts=(1, 1)).bin_of(math.nan) == 1
