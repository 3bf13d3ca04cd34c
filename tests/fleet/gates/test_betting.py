"""Bets do not win by chance more often than they say, however often one looks, and win when they should."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edge_fleet.gates import betting

SURE = math.log(20)  # alpha 0.05
RUNS = 2000


def ever(paths: list[float]) -> bool:
    return max(paths) >= SURE


def rates(random: np.random.Generator, mean: float, spread: float, devices: int) -> np.ndarray:
    """Devices' own rates: beta with this mean; the larger the spread, the more they differ."""
    return random.beta(mean / spread, (1 - mean) / spread, devices)


@pytest.mark.parametrize("spread", [0.01, 0.2, 2.0])
def test_a_release_at_its_limit_is_called_bad_no_more_often_than_alpha_at_any_look(spread: float) -> None:
    random = np.random.default_rng(1)
    wrong = 0
    for _ in range(RUNS):
        # all windows of a device share its rate: 400 inferences of one device are one witness
        shares = random.binomial(400, rates(random, 0.02, spread, 60)) / 400
        wrong += ever([betting.above(shares[:n], 0.02) for n in (1, 2, 3, 5, 8, 13, 21, 34, 60)])
    assert wrong / RUNS <= 0.05


def test_the_test_of_single_inferences_would_not_hold() -> None:
    """What the tests above guard against: the same data, each inference taken for a witness."""
    random = np.random.default_rng(1)
    wrong = 0
    for _ in range(300):
        bad = random.binomial(400, rates(random, 0.02, 0.2, 20))
        single = np.concatenate([np.repeat([1.0, 0.0], [b, 400 - b]) for b in bad])
        wrong += ever([betting.above(single[: 400 * n], 0.02) for n in range(1, 21)])
    assert wrong / 300 > 0.3


def test_a_defect_of_every_device_is_seen_on_a_few() -> None:
    found = np.full(6, 0.1)
    # mostly the bold stake: 0.4 (1 + 0.98 * 4)^n
    assert betting.above(found, 0.02) == pytest.approx(math.log(0.4 * 4.92**6), abs=0.1)
    assert betting.above(found, 0.2) < 0


def test_a_limit_of_zero_is_broken_by_anything() -> None:
    assert betting.above(np.array([0.01]), 0.0) > math.log(1e6)
    assert betting.above(np.array([0.0]), 0.0) < 0


@pytest.mark.parametrize("mean", [0.01, 0.1, 0.5])
def test_two_groups_that_are_alike_are_told_apart_no_more_often_than_alpha(mean: float) -> None:
    random = np.random.default_rng(2)
    wrong = 0
    for _ in range(150):
        ours, theirs = (random.binomial(100, rates(random, mean, 0.2, 40)) / 100 for _ in range(2))
        looks = [betting.above_control(ours[:n], theirs[:n], 0.0) for n in (3, 8, 20, 40)]
        wrong += ever(looks)
    assert wrong / 150 <= 0.05


def test_a_group_that_is_worse_than_its_control_is_found_whatever_the_common_rate() -> None:
    for mean in (0.01, 0.1, 0.3):
        ours, theirs = np.full(40, mean + 0.2), np.full(40, mean)
        assert betting.above_control(ours, theirs, 0.02) > SURE
        assert betting.above_control(theirs, ours, 0.0) <= 0.0
    assert betting.above_control(np.ones(50), np.zeros(0), 0.0) == 0.0


def test_between_two_values_of_the_common_rate_nothing_is_overlooked() -> None:
    """The least wealth on a grid of ten thousand values is not below the bound of the coarse one."""
    random = np.random.default_rng(3)
    ours, theirs = random.beta(2, 20, 30), random.beta(1, 20, 30)
    fine = min(
        betting.above(ours, mean + 0.01) + betting.above(1 - theirs, 1 - mean)
        for mean in np.linspace(0.0005, 0.98, 10_000)
    )
    assert betting.above_control(ours, theirs, 0.01) <= fine


def test_a_rate_at_the_limit_passes_no_more_often_than_alpha_at_any_look() -> None:
    random = np.random.default_rng(4)
    wrong = 0
    for _ in range(500):
        bad = random.binomial(40, 0.05, 60).cumsum()
        wrong += ever([betting.below(b, 40 * (n + 1), 0.05) for n, b in enumerate(bad)])
    assert wrong / 500 <= 0.05


def test_no_error_in_enough_trials_passes() -> None:
    # half of the money says that there are none: 0.5 / 0.98^n
    assert betting.below(0, 200, 0.02) > SURE
    assert betting.below(0, 150, 0.02) < SURE
    assert betting.below(0, 0, 0.02) == 0.0
    assert betting.upper_bound(0, 200, SURE) == pytest.approx(1 - (1 / 40) ** (1 / 200), rel=0.1)
    assert betting.upper_bound(0, 0, SURE) == 1.0


def test_the_upper_bound_is_where_the_test_turns() -> None:
    bound = betting.upper_bound(7, 500, SURE)
    assert 7 / 500 < bound < 0.05
    assert betting.below(7, 500, bound * 1.001) >= SURE > betting.below(7, 500, bound * 0.999)


def test_trials_that_come_in_clusters_are_worth_fewer() -> None:
    total = np.full(10, 100.0)
    bad = np.zeros(10)
    bad[0] = 100
    # all or nothing in each of ten clusters: as much as ten trials, by the variance of nine
    few, many = betting.effective(bad, total)
    assert few == pytest.approx(0.9) and many == pytest.approx(9.0)
    even = np.full(10, 10.0)
    assert betting.effective(even, total) == (100.0, 1000.0)
    # devices that differ are no clumps: each is compared with itself
    differ = np.array([[50.0, 50.0], [1.0, 1.0]])
    assert betting.effective(differ, np.full((2, 2), 100.0)) == (102.0, 400.0)
    assert betting.effective(np.zeros(3), np.array([5.0, 0.0, 5.0])) == (0.0, 10.0)


def test_a_healthy_device_is_called_broken_no_more_often_than_its_wealth_says() -> None:
    random = np.random.default_rng(5)
    shares = (random.random((20_000, 30)) < 0.1).astype(float).cumsum(axis=1) / np.arange(1, 31)
    windows = np.arange(1.0, 31.0)
    most = np.max([betting.broken(shares[:, n], windows[n], 0.1) for n in range(30)], axis=0)
    assert (most >= math.log(100)).mean() <= 0.01


def test_a_device_without_one_answer_is_called_broken_after_a_few_windows() -> None:
    sure = betting.broken(np.ones(8), np.arange(1.0, 9.0), 0.1)
    assert np.all(np.diff(sure) > 2)  # almost ten times as sure with each
    assert sure[4] > math.log(1e4) > sure[3]
