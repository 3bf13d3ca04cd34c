"""Critical values of the drift test: the false-alarm rate that they state, whatever the window."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from edge_contracts.features import make_baseline
from edge_contracts.sketch import Baseline, ScalarBaseline, compare, departure
from edge_convert import drift

SCALAR = ScalarBaseline(name="input:x:mean", edges=tuple(range(9)), counts=(20,) * 10)


@pytest.mark.parametrize("window", [60, 300, 5000])
def test_false_alarms_are_as_rare_as_stated_whatever_the_window(window: int) -> None:
    random = np.random.RandomState(7)
    found = 0
    for _ in range(2000):  # binned as the converter and a device do
        (made,) = make_baseline({"x": random.standard_normal(150)}).scalars
        made = made.model_copy(update={"critical": drift.critical(made, 0.01)})
        places = np.searchsorted(made.edges, random.standard_normal(window), side="right")
        live: list[int] = np.bincount(places, minlength=len(made.counts)).tolist()
        found += bool(compare(made, live).exceeds)
    # 20 expected; fewer than 5 or more than 40 have a chance of 2e-5 each
    assert 5 <= found <= 40


def test_the_textbooks_critical_value_would_be_exceeded_too_often() -> None:
    """Why there is a simulation: a baseline of 100 beside a large window is not what the formula assumes."""
    shape, _ = drift.departures((10,) * 10, 5000, 50_000)
    stated = stats.chi2.isf(1e-4, 9)
    assert (shape**2 > stated).mean() > 5 * 1e-4
    assert (shape**2 > drift.tail(shape**2, 1e-4)).mean() < 2 * 1e-4


def test_simulated_windows_are_measured_as_the_fleet_measures_them() -> None:
    counts = (3, 40, 0, 57, 100)
    shape, shift = drift.departures(counts, 80, 1)
    random = np.random.RandomState(drift._SEED)
    shares = random.standard_gamma(np.array(counts)[None] + 1 / 5)
    live = drift._multinomial(random, 80, shares / shares.sum())[0]
    found = departure(counts, [int(c) for c in live], 80)
    assert live.sum() == 80
    assert [found.shape, found.shift] == pytest.approx([shape[0], shift[0]])


def test_the_tail_is_that_of_a_known_distribution() -> None:
    # chi-square with 9 degrees: 21.67 is exceeded with a chance of 0.01, 46.7 with one of 1e-6
    values = np.random.RandomState(0).chisquare(9, 200_000)
    assert drift.tail(values, 0.01) == pytest.approx(21.67, rel=0.02)
    assert drift.tail(values, 1e-6) == pytest.approx(46.7, rel=0.03)
    normal = np.random.RandomState(0).standard_normal(200_000)
    assert drift.tail(normal, 1e-6) == pytest.approx(4.753, abs=0.15)


def test_a_number_that_never_varies_is_beyond_no_critical_value() -> None:
    constant = ScalarBaseline(name="input:x:std", edges=(), counts=(200,))
    made = constant.model_copy(update={"critical": drift.critical(constant)})
    assert compare(made, [5000]).exceeds is False


def test_a_class_number_has_no_order_and_so_no_shift() -> None:
    classes = ScalarBaseline(name="output:y:class", edges=(0.5, 1.5), counts=(10, 100, 90))
    assert drift.critical(classes).shift == ()
    assert len(drift.critical(SCALAR).shift) == len(drift.WINDOWS)


def test_a_class_that_was_never_seen_is_drift_when_it_takes_over() -> None:
    classes = ScalarBaseline(name="output:y:class", edges=(0.5, 1.5), counts=(0, 100, 100))
    made = classes.model_copy(update={"critical": drift.critical(classes)})
    assert compare(made, [100, 0, 0]).drifted
    assert not compare(made, [1, 60, 39]).drifted


def test_every_number_gets_critical_values_and_equal_ones_share_a_simulation() -> None:
    random = np.random.RandomState(0)
    monitored = {name: random.standard_normal(100) for name in ("a", "b")}
    made = drift.calibrated(make_baseline(monitored))
    first, second = (scalar.critical for scalar in made.scalars)
    assert first is not None
    assert first == second
    assert first.alarm == 1e-6
    assert drift.calibrated(Baseline(samples=0)) == Baseline(samples=0)


def test_the_same_baseline_gives_the_same_values() -> None:
    first = drift.critical(SCALAR)
    drift._critical.cache_clear()
    assert drift.critical(SCALAR) == first
