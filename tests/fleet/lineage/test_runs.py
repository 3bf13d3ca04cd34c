"""Numbers of envelopes as ranges."""

from __future__ import annotations

from edge_fleet.lineage.runs import Range, ranges


def test_numbers_become_unbroken_ranges() -> None:
    numbers = [("a", 1), ("a", 2), ("a", 2), ("a", 4), ("b", 5), ("b", 6)]
    assert ranges(numbers) == (Range("a", 1, 2), Range("a", 4, 4), Range("b", 5, 6))
    assert ranges([]) == ()
