"""Intervals and paired tests against scipy, papers and figures worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from edge_convert.measures import intervals
from edge_convert.measures.intervals import Paired, Weights


def test_wilson_is_scipys_wilson() -> None:
    for successes, samples in [(0, 10), (3, 10), (10, 10), (372, 401), (1, 2)]:
        expected = stats.binomtest(successes, samples).proportion_ci(0.95, method="wilson")
        assert intervals.wilson(successes, samples) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert intervals.wilson(0, 0) == (0.0, 1.0)


def test_samples_are_counted_in_pairs() -> None:
    first = np.array([True, True, True, False, False])
    second = np.array([True, False, False, True, False])
    counts = intervals.paired(first, second)
    assert counts == Paired(5, lost=2, gained=1)
    assert counts.drop == pytest.approx(0.2)


def test_the_interval_of_a_paired_drop_by_hand() -> None:
    # Bonett and Price: (12 + 1 - 4 - 1) / 102 = 0.07843; 13 / 102 + 5 / 102 - 0.07843**2 = 0.17032;
    # sqrt(0.17032 / 102) * 1.95996 = 0.08009
    low, high = intervals.drop_interval(Paired(100, lost=12, gained=4))
    assert (low, high) == pytest.approx((-0.00166, 0.15852), abs=2e-5)


def test_a_drop_of_nothing_still_has_a_width_that_shrinks_with_samples() -> None:
    low, high = intervals.drop_interval(Paired(401, 0, 0))
    assert -low == high == pytest.approx(1.95996 * np.sqrt(2) / 403, abs=1e-5)
    assert intervals.drop_interval(Paired(4010, 0, 0))[1] < high / 9


def test_the_interval_covers_the_true_drop_about_as_often_as_it_says() -> None:
    random = np.random.RandomState(1)
    covered = 0
    for _ in range(1000):
        lost, gained, _ = random.multinomial(150, [0.05, 0.02, 0.93])
        low, high = intervals.drop_interval(Paired(150, int(lost), int(gained)))
        covered += low <= 0.03 <= high
    assert 0.93 <= covered / 1000 <= 0.98


def test_mcnemar_is_a_binomial_test_of_the_samples_that_differ() -> None:
    for lost, gained in [(6, 0), (5, 0), (12, 4), (3, 3), (40, 22)]:
        expected = stats.binomtest(lost, lost + gained, 0.5).pvalue
        assert intervals.mcnemar_p(Paired(100, lost, gained)) == pytest.approx(expected)
    assert intervals.mcnemar_p(Paired(100, 0, 0)) == 1.0


def test_the_smallest_visible_drop_is_found_with_the_power_that_it_states() -> None:
    counts = Paired(400, lost=10, gained=6)
    drop = intervals.smallest_visible_drop(counts)
    differ = 18 / 402
    random = np.random.RandomState(2)
    found = 0
    for _ in range(400):
        lost, gained, _ = random.multinomial(400, [(differ + drop) / 2, (differ - drop) / 2, 1 - differ])
        found += intervals.mcnemar_p(Paired(400, int(lost), int(gained))) < 0.05
    # the exact test is a little more careful than the normal formula
    assert 0.68 <= found / 400 <= 0.9


def test_more_samples_see_smaller_drops_and_the_two_questions_answer_each_other() -> None:
    few, many = Paired(100, 3, 2), Paired(10_000, 300, 200)
    assert intervals.smallest_visible_drop(many) < intervals.smallest_visible_drop(few) / 5
    drop = intervals.smallest_visible_drop(many)
    assert intervals.samples_to_see(drop, many) == pytest.approx(10_000, rel=0.01)
    assert intervals.smallest_visible_drop(Paired(3, 0, 0)) == 1.0


def test_a_bootstrap_of_a_mean_has_its_standard_error_and_is_the_same_twice() -> None:
    values = np.random.RandomState(3).normal(5, 2, 400)

    def mean(weights: Weights) -> tuple[float]:
        return (float(weights @ values / weights.sum()),)

    first = intervals.bootstrap(mean, 400)
    assert first == intervals.bootstrap(mean, 400)
    assert first is not None
    low, high = first[0]
    assert (high - low) / 2 == pytest.approx(1.96 * values.std() / 20, rel=0.1)
    assert low < values.mean() < high


def test_a_figure_that_most_resamples_cannot_tell_has_no_interval() -> None:
    assert intervals.bootstrap(lambda weights: None, 10) is None
    assert intervals.bootstrap(lambda w: (1.0,) if w[0] == 0 else None, 10) is None  # 0.9**10 = 0.35
    assert intervals.bootstrap(lambda w: (1.0,) if w[0] > 0 else None, 10) == [(1.0, 1.0)]


def test_large_sets_are_resampled_less_often_but_often_enough() -> None:
    assert len(intervals.resamples(100)) == intervals.ROUNDS
    assert len(intervals.resamples(50_000)) == intervals.FEWEST_ROUNDS
    assert all(weights.sum() == 100 for weights in intervals.resamples(100))


def test_the_upper_bound_of_an_error_rate_is_clopper_and_pearsons() -> None:
    for errors, samples in [(0, 90), (3, 50), (40, 400), (1, 5000)]:
        expected = stats.beta.ppf(0.99, errors + 1, samples - errors)
        assert intervals.binomial_upper(errors, samples, 0.99) == pytest.approx(expected, abs=1e-9)
    assert intervals.binomial_upper(5, 5, 0.95) == intervals.binomial_upper(0, 0, 0.95) == 1.0
