"""Every sample of a quiet window, an even part of a busy one's, whatever turns its sources take."""

from __future__ import annotations

import pytest

from edge_agent.telemetry.thinning import FEWEST, RATE, SHARE, Thinning


def after(samples: int, lasted_s: float = 60.0) -> Thinning:
    """The thinning of the window behind one of so many samples."""
    thinning = Thinning()
    for _ in range(samples):
        thinning()
    thinning.begin(lasted_s)
    return thinning


def choices(thinning: Thinning, count: int) -> list[bool]:
    return [thinning() for _ in range(count)]


def test_the_first_window_is_taken_whole_since_nobody_knows_how_many_come() -> None:
    assert all(choices(Thinning(), 5000))


@pytest.mark.parametrize(
    ("samples", "lasted_s"), [(0, 60), (600, 60), (1199, 60), (71_000, 3600), (1199, 0.1)]
)
def test_what_comes_at_less_than_twice_the_rate_is_taken_whole(samples: int, lasted_s: float) -> None:
    assert all(choices(after(samples, lasted_s), 5000))


@pytest.mark.parametrize("rate", [20, 25, 30, 47, 60, 79, 80])
def test_above_that_about_the_rate_or_more_are_taken(rate: int) -> None:
    taken = sum(choices(after(60 * rate), 60 * rate))
    assert 0.85 * RATE * 60 < taken < 1.6 * RATE * 60


def test_of_a_flood_an_even_part_is_taken() -> None:
    found = choices(after(50_000), 20_000)
    for start in range(0, 20_000, 2000):
        assert 0.7 < sum(found[start : start + 2000]) / (2000 / SHARE) < 1.3


@pytest.mark.parametrize("turns", [2, 4, 8, 24, 48, 55, 89, 144])
def test_sources_that_take_turns_are_taken_alike(turns: int) -> None:
    found = choices(after(50_000), 600 * turns)
    even = sum(found) / turns  # 75: by chance 40 to 110
    assert all(40 < sum(found[source::turns]) < 115 for source in range(turns))
    assert 55 < even < 95


def test_when_the_flood_is_over_all_are_taken_again() -> None:
    thinning = after(50_000)
    assert sum(choices(thinning, FEWEST)) < FEWEST / 4
    thinning.begin(60.0)
    assert all(choices(thinning, FEWEST))
