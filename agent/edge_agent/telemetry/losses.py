"""What could not be kept: counted by kind, from when to when, and owned up to in a signed Gap. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from edge_contracts.messages import Event, Gap, Record, Window


@dataclass(frozen=True)
class Loss:
    """Records that nobody will ever see, for one reason.

    Args:
        kinds: How many, by kind of record; empty when nobody knows.
        first_ms, last_ms: From when to when they were, by the device's clock; 0 when nobody knows.
    """

    reason: str
    kinds: Mapping[str, int]
    first_ms: int = 0
    last_ms: int = 0

    @property
    def records(self) -> int:
        """How many records it was."""
        return sum(self.kinds.values())

    def __add__(self, other: Loss) -> Loss:
        """Both, for the same reason."""
        if other.reason != self.reason:
            raise AssertionError(f"a loss for {other.reason!r} is not one for {self.reason!r}")
        kinds = dict(self.kinds)
        for kind, count in other.kinds.items():
            kinds[kind] = kinds.get(kind, 0) + count
        known = [ms for ms in (self.first_ms, other.first_ms) if ms]
        return Loss(self.reason, kinds, min(known, default=0), max(self.last_ms, other.last_ms))

    def gap(self, seq: int) -> Gap:
        """The record that owns up to it, under a number that it takes with it."""
        return Gap(
            first_seq=seq,
            last_seq=seq,
            records=self.records,
            reason=self.reason[:100],
            kinds=dict(self.kinds),
            first_ms=self.first_ms,
            last_ms=self.last_ms,
        )


def loss_of(records: Iterable[Record], reason: str) -> Loss:
    """The loss of records."""
    total = Loss(reason, {})
    for record in records:
        first_ms, last_ms = span_ms(record)
        lost: Mapping[str, int] = record.kinds if isinstance(record, Gap) else {record.kind: 1}
        total += Loss(reason, lost, first_ms, last_ms)
    return total


def span_ms(record: Record) -> tuple[int, int]:
    """From when to when a record speaks of."""
    if isinstance(record, Window):
        return record.start_ms, record.end_ms
    if isinstance(record, Event):
        return record.time_ms, record.time_ms
    return record.first_ms, record.last_ms
