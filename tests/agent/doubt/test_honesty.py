"""A lying confidence is found out; an honest one is not accused more often than stated."""

from __future__ import annotations

import numpy as np
import pytest

from edge_agent.doubt.honesty import Honesty


def accused_after(
    stated: float, truth: float, labels: int, seed: int, false_alarm: float = 1e-3
) -> int | None:
    """Number of the label that made the evidence sufficient, or None."""
    rng = np.random.default_rng(seed)
    honesty = Honesty(false_alarm)
    for number, right in enumerate((rng.random(labels) < truth).tolist(), start=1):
        if honesty.see(stated, right):
            return number
    return None


@pytest.mark.parametrize(("stated", "truth", "enough"), [(0.99, 0.8, 120), (0.95, 0.7, 160), (0.9, 0.5, 110)])
def test_a_confidence_that_lies_is_found_out(stated: float, truth: float, enough: int) -> None:
    found = [accused_after(stated, truth, enough, seed) for seed in range(20)]
    assert sum(number is not None for number in found) >= 19


def test_honest_and_modest_models_are_accused_no_more_often_than_stated() -> None:
    rate, runs = 0.05, 400
    for stated, truth in ((0.9, 0.9), (0.6, 0.6), (0.7, 0.95)):
        accused = sum(accused_after(stated, truth, 300, seed, rate) is not None for seed in range(runs))
        # at the rate itself, more than 33 of 400 would be four standard deviations
        assert accused <= rate * runs + 3 * (runs * rate * (1 - rate)) ** 0.5


def test_mixed_confidences_are_judged_each_by_its_own_word() -> None:
    rng = np.random.default_rng(5)
    stated = rng.uniform(0.3, 1.0, 3000)
    honest = Honesty()
    for one, lot in zip(stated.tolist(), rng.random(3000).tolist(), strict=True):
        honest.see(one, lot < one)
    assert not honest.overstated
    liar = Honesty()
    for one, lot in zip(stated.tolist(), rng.random(3000).tolist(), strict=True):
        liar.see(one, lot < one - 0.15)
    assert liar.overstated


def test_it_is_told_once() -> None:
    honesty = Honesty()
    told = [honesty.see(1.0, False) for _ in range(50)]
    assert told.count(True) == 1
    assert honesty.labels == 50


def test_one_wrong_answer_that_was_certain_is_not_enough_and_certainty_survives_being_right() -> None:
    honesty = Honesty()
    assert not honesty.see(1.0, False)
    for _ in range(1000):
        assert not honesty.see(1.0, True)
