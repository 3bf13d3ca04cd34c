"""Names in as many as every database takes in one question."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

NAMES_PER_QUERY = 500  # SQLite before 3.32 takes 999 variables


def portions(names: Sequence[str]) -> Iterator[list[str]]:
    """All of them, in their order, some at a time."""
    return (list(names[at : at + NAMES_PER_QUERY]) for at in range(0, len(names), NAMES_PER_QUERY))
