"""What samples of windows are worth, worked by hand and against draws that are known to be independent."""

from __future__ import annotations

import numpy as np
import pytest

from edge_fleet.clumping import LEAST_WINDOWS, design_effect, scatter, scatters


def test_windows_that_each_show_one_scene_are_worth_one_sample_each() -> None:
    # eight windows of ten samples, all ten in one bin, half of the windows in each: sum over w, b of
    # (c - 5)^2 / 0.5 = 8 * 2 * 25 / 0.5 = 800; independent: 80 samples * 1 degree * 7 / 8 = 70
    rows = [(10, 0), (0, 10)] * 4
    few = 1 + 2 * (2 / 7) ** 0.5  # what seven degrees of freedom leave open
    assert design_effect([scatter(rows)]) == pytest.approx(800 / 70 * few)


def test_windows_that_agree_better_than_chance_are_worth_no_more_than_their_samples() -> None:
    assert design_effect([scatter([(5, 5)] * 20)]) == 1


def test_independent_samples_lose_no_more_than_what_is_not_known_of_them() -> None:
    random = np.random.default_rng(1)
    found = [
        design_effect([scatter(random.multinomial(60, [0.1] * 10, size=20).tolist())]) for _ in range(200)
    ]
    assert 1.0 <= np.median(found) < 1.3


def test_below_eight_windows_nobody_knows_and_those_of_before_count_with_them() -> None:
    clumped = [(10, 0), (0, 10)]
    assert design_effect([scatter(clumped * 3)]) == 1
    assert design_effect([scatter(clumped * 2), scatter(clumped * 2)]) > 5
    assert LEAST_WINDOWS == 8


def test_a_change_from_one_release_to_the_next_is_no_scatter() -> None:
    before, after = scatter([(9, 1)] * 8), scatter([(1, 9)] * 8)
    assert design_effect([before, after]) == 1


def test_what_adds_up_over_devices_is_what_all_their_windows_say() -> None:
    one, other = [(3, 7), (6, 4)], [(8, 2), (1, 9), (5, 5)]
    assert (scatter(one) + scatter(other)).tolist() == scatter([*one, *other]).tolist()
    told = scatters([("a", {"x": (1, 2), "y": (1, 2, 3)}), ("b", {"x": (3, 4)}), ("a", {"x": (5, 6)})])
    assert set(told) == {("a", "x", 2), ("a", "y", 3), ("b", "x", 2)}
    assert told["a", "x", 2].tolist() == scatter([(1, 2), (5, 6)]).tolist()
