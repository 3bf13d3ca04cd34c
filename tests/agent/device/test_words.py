"""Times and amounts as people read them."""

from __future__ import annotations

import pytest

from edge_agent.device.words import ago, size


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-3, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "120 min"), (7200, "2 h"), (172_800, "2 days")],
)
def test_a_length_of_time_is_in_the_largest_unit_of_which_there_are_two(seconds: float, text: str) -> None:
    assert ago(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (2_345_000, "2.35 MB"),
        (7.5e9, "7.5 GB"),
        (5e12, "5e+03 GB"),
    ],
)
def test_an_amount_has_three_digits_and_a_unit(count: float, text: str) -> None:
    assert size(count) == text
