"""What the device has answered since the agent started, added up from its windows. Pure.

For people and programs on the device itself: these counts are exact, whatever leaves the device.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from edge_contracts.digest import short
from edge_contracts.messages import Event, Record, Window

MOST_BUNDLES = 8  # the oldest go; every one of them is a set of Prometheus series


@dataclass
class Counts:
    """What one bundle has done."""

    answered: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    flagged: Counter[str] = field(default_factory=Counter)
    unserved: Counter[str] = field(default_factory=Counter)
    latency: Counter[int] = field(default_factory=Counter)  # by bin of a QuantileSketch, milliseconds
    golden_total: int = 0
    golden_agree: int = 0


@dataclass
class Tally:
    """Counts by bundle (its short digest), and events by name."""

    bundles: dict[str, Counts] = field(default_factory=dict)
    events: Counter[str] = field(default_factory=Counter)
    last: Window | None = None
    last_alarm: Event | None = None

    def take(self, record: Record) -> None:
        """Count a record."""
        if isinstance(record, Event):
            self.events[record.name] += 1
            if record.code:
                self.last_alarm = record
        if not isinstance(record, Window):
            return
        self.last = record
        name = short(record.bundle)
        counts = self.bundles.pop(name, None) or Counts()
        self.bundles[name] = counts  # the last one used is the last one to go
        while len(self.bundles) > MOST_BUNDLES:
            del self.bundles[next(iter(self.bundles))]
        counts.answered += record.inferences
        counts.errors.update(record.errors)
        counts.refused.update(record.refused)
        counts.flagged.update(record.flagged)
        counts.unserved.update(record.unserved)
        counts.latency.update(record.latency_ms.bins)
        counts.golden_total += record.golden_total
        counts.golden_agree += record.golden_agree

    @property
    def answered(self) -> int:
        """By all models."""
        return sum(counts.answered for counts in self.bundles.values())

    @property
    def failed(self) -> int:
        """Errors of all models."""
        return sum(sum(counts.errors.values()) for counts in self.bundles.values())

    @property
    def refused(self) -> int:
        """Inputs that no contract allowed."""
        return sum(sum(counts.refused.values()) for counts in self.bundles.values())
