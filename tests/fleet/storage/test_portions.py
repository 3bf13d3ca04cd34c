"""Names, some at a time."""

from __future__ import annotations

from edge_fleet.storage.portions import NAMES_PER_QUERY, portions


def test_every_name_is_in_one_portion_in_its_order_and_none_is_too_long() -> None:
    names = [str(number) for number in range(2 * NAMES_PER_QUERY + 1)]
    found = list(portions(names))
    assert [len(portion) for portion in found] == [NAMES_PER_QUERY, NAMES_PER_QUERY, 1]
    assert [name for portion in found for name in portion] == names
    assert list(portions([])) == []
