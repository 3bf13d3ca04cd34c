"""The design effect: 1 for independent samples, the run length for frames that repeat."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_agent.drift.spread import design_effect, pair_effect

BINS = 10


def effects(windows: list[NDArray[np.intp]]) -> list[float]:
    counts = [np.bincount(w, minlength=BINS).tolist() for w in windows]
    found = [pair_effect(a, b) for a, b in pairwise(counts)]
    assert None not in found
    return [f for f in found if f is not None]


def windows(repeat: int, count: int = 61) -> list[NDArray[np.intp]]:
    random = np.random.default_rng(1)
    return [np.repeat(random.integers(0, BINS, 600 // repeat), repeat) for _ in range(count)]


def test_two_windows_by_hand() -> None:
    # chi-square of ((30, 10), (10, 30)) is 20; one degree of freedom has the median (1 - 2/9)^3 = 0.4705
    assert pair_effect((30, 10), (10, 30)) == pytest.approx(20 / 0.4705, rel=1e-3)


def test_independent_samples_have_no_effect() -> None:
    assert design_effect(effects(windows(repeat=1))) == pytest.approx(1.0, abs=0.2)


@pytest.mark.parametrize("repeat", [6, 30])
def test_frames_that_repeat_count_for_less_by_as_much(repeat: int) -> None:
    assert design_effect(effects(windows(repeat))) == pytest.approx(repeat, rel=0.25)


def test_a_change_of_the_world_is_no_dependence() -> None:
    after = [np.where(w > 7, 4, w) for w in windows(1, 30)]
    assert design_effect(effects([*windows(1, 31), *after])) < 1.4


@pytest.mark.parametrize(("before", "after"), [((9, 9), (30, 30)), ((40, 0), (40, 0)), ((), ())])
def test_too_few_samples_or_bins_say_nothing(before: tuple[int, ...], after: tuple[int, ...]) -> None:
    assert pair_effect(before, after) is None


def test_little_knowledge_changes_nothing() -> None:
    assert design_effect([50.0, 50.0]) == 1.0
    assert design_effect([0.2] * 10) == 1.0  # more alike than chance makes them is no reason to be bolder


@pytest.mark.parametrize(
    ("before", "after", "statistic"),
    [
        # a bin with fewer than five expected is counted with the next: ((25, 15), (10, 30)), N = 80, and
        # N (ad - bc)^2 / (row and column sums) = 80 (25 * 30 - 15 * 10)^2 / (40 * 40 * 35 * 45)
        ((25, 1, 14), (10, 2, 28), 11.428571),
        ((25, 14, 1), (10, 28, 2), 11.428571),  # and the last one with the one before it
        # expected in the smaller window, a fifth of both: 100 (15 * 60 - 5 * 20)^2 / (20 * 80 * 35 * 65)
        ((15, 1, 4), (20, 9, 51), 17.582418),
        ((20, 9, 51), (15, 1, 4), 17.582418),
    ],
)
def test_bins_with_few_samples_are_counted_together(
    before: tuple[int, ...], after: tuple[int, ...], statistic: float
) -> None:
    assert pair_effect(before, after) == pytest.approx(statistic / 0.470508, rel=1e-5)


def test_twenty_samples_are_enough_of_a_window() -> None:
    assert pair_effect((10, 10), (10, 10)) == 0
    assert pair_effect((10, 9), (10, 10)) is None


def test_five_pairs_are_enough_to_say_how_samples_scatter() -> None:
    assert (design_effect([3.0] * 4), design_effect([3.0] * 5)) == (1.0, 3.0)
