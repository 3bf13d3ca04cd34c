"""Sketches: they add up, their quantiles are right, and the drift test keeps its promise."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from edge_contracts.faults import ValidationError
from edge_contracts.sketch import (
    ALPHA,
    RELATIVE_ACCURACY,
    Critical,
    Drift,
    QuantileSketch,
    ScalarBaseline,
    bin_index,
    chi_square_tail,
    compare,
    count_bins,
    departure,
    distance_of,
    joined_bins,
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


CRITICAL = Critical(alarm=0.01, windows=(50, 200), shape=(3.0, 4.0), shift=(1.5, 1.0))


def judged(counts: list[int], critical: Critical | None) -> Drift:
    return compare(ScalarBaseline(name="s", edges=(0.0,), counts=(200, 200), critical=critical), counts)


def test_a_departure_is_that_of_the_textbook() -> None:
    # two samples of 200: shares 0.5 and 0.6 of the first bin
    found = departure((100, 100), (120, 80), 200)
    # chi-square of a 2x2 table: n (ad - bc)^2 / (row and column sums) = 400 * 4000^2 / (200^2 * 220 * 180)
    assert found.shape**2 == pytest.approx(400 * 4000**2 / (200**2 * 220 * 180))
    assert found.shift == pytest.approx(0.1 * math.sqrt(100))


def test_bins_are_joined_until_the_smaller_sample_expects_five() -> None:
    assert joined_bins([10] * 10, 5000) == tuple(range(10))
    assert joined_bins([100] * 10, 50) == tuple(range(10))  # 5 of a window of 50 each
    assert joined_bins([100] * 10, 25) == (0, 2, 4, 6, 8)
    assert joined_bins([0, 0, 100, 0], 100) == (0,)  # what nobody expects is joined with what is before it
    assert joined_bins([], 100) == (0,)


def test_critical_values_decide_where_they_are() -> None:
    # a window of 100 is held to the values of 50: 65 of 100 is a shift of 0.15 * sqrt(80) = 1.34
    mild = judged([65, 35], CRITICAL)
    assert mild.exceeds is False
    assert mild.samples == 100
    assert judged([70, 30], CRITICAL).exceeds is True  # 0.2 * sqrt(80) = 1.79
    # one of 200 is held to those of 200, where 0.1 * sqrt(133) = 1.15 is beyond 1.0
    assert judged([120, 80], CRITICAL).exceeds is True
    assert judged([120, 80], CRITICAL).certain
    assert not judged([120, 80], CRITICAL).drifted  # certain, and too small to matter
    assert judged([140, 60], CRITICAL).drifted


def test_shape_alone_decides_where_there_is_no_order() -> None:
    unordered = CRITICAL.model_copy(update={"shift": ()})
    assert judged([120, 80], unordered).exceeds is False
    assert judged([160, 40], unordered).exceeds is True


def test_a_window_below_the_smallest_size_is_no_evidence() -> None:
    assert judged([49, 0], CRITICAL).exceeds is False
    assert not judged([49, 0], CRITICAL).drifted


def test_without_critical_values_the_p_value_decides_as_before() -> None:
    found = judged([190, 10], None)
    assert found.exceeds is None
    assert found.certain == (found.p_value < ALPHA)
    assert "critical" not in ScalarBaseline(name="s", edges=(), counts=(1,)).model_dump()


@pytest.mark.parametrize(
    "wrong",
    [{"windows": (200, 50)}, {"windows": (0, 50)}, {"shape": (1.0,)}, {"shift": (1.0,)}, {"alarm": 0.0}],
)
def test_critical_values_that_do_not_fit_their_windows_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"windows|alarm: expected a number > 0"):
        Critical.model_validate(CRITICAL.model_dump() | wrong)


def test_many_values_are_counted_in_the_bins_that_each_has_alone() -> None:
    gamma = 1.02 / 0.98
    borders = [gamma**k for k in range(-300, 300)]
    values = [0.0, 1e-9, *borders, *(b * (1 + 1e-15) for b in borders), *(b * 1.01 for b in borders)]
    assert count_bins(values) == dict(Counter(bin_index(value) for value in values))
    assert count_bins([]) == {}


def test_a_distance_by_itself_is_that_of_the_whole_comparison() -> None:
    base, live = (10, 20, 30, 40), (30, 0, 10, 10)
    found = compare(ScalarBaseline(name="n", edges=(0.0, 1.0, 2.0), counts=base), live)
    # 0.1 0.2 0.3 0.4 against 0.6 0 0.2 0.2: half of 0.5 + 0.2 + 0.1 + 0.2
    assert distance_of(base, live) == found.distance == pytest.approx(0.5)
    assert distance_of(base, (0, 0, 0, 0)) == distance_of((0, 0, 0, 0), live) == 0.0
