"""Envelopes of each stream put into the order of their numbers, as a reader of `telemetry tail` expects.

They are stored as they arrive, and after a broken connection a later one may arrive first. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

MAX_HELD = 1000  # of one stream; what is missing for so long is not waited for any more

Row = Mapping[str, Any]


class _Stream:
    """One device and epoch."""

    def __init__(self, first: int) -> None:
        self.next = first
        self.held: dict[int, Row] = {}

    def take(self, row: Row) -> Iterator[Row]:
        if row["seq"] < self.next:  # after it was given up
            yield row
            return
        self.held[row["seq"]] = row
        self._pass_over_what_is_lost()
        while self.next in self.held:
            yield self.held.pop(self.next)
            self.next += 1
            self._pass_over_what_is_lost()
        if len(self.held) > MAX_HELD:
            yield from self.rest()

    def rest(self) -> Iterator[Row]:
        for seq in sorted(self.held):
            yield self.held.pop(seq)
            self.next = seq + 1

    def _pass_over_what_is_lost(self) -> None:
        """A device owns up to what it dropped in a later envelope."""
        lost = [
            (record["first_seq"], min(record["last_seq"], seq - 1))
            for seq, row in self.held.items()
            for record in row["records"]
            if record["kind"] == "gap"
        ]
        while further := [last for first, last in lost if first <= self.next <= last]:
            self.next = max(further) + 1


def in_order(rows: Iterable[Row], from_the_start: bool) -> Iterator[Row]:
    """Give rows on, each as soon as those before it in its stream have come; at the end, all that are left.

    Args:
        rows: With `device`, `epoch`, `seq` and `records`, in any order.
        from_the_start: Every stream begins with 0; otherwise with what comes first.
    """
    streams: dict[tuple[str, str], _Stream] = {}
    for row in rows:
        name = row["device"], row["epoch"]
        if name not in streams:
            streams[name] = _Stream(0 if from_the_start else row["seq"])
        yield from streams[name].take(row)
    for stream in streams.values():
        yield from stream.rest()
