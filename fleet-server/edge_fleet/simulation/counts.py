"""What simulated devices did, counted; sums of such counts are such counts, over processes too."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, fields

from edge_contracts.sketch import QuantileSketch


@dataclass
class Counts:
    """What the devices of a kind did.

    Args:
        connected: Now: connected, subscribed, and hello was said.
        cut: Connections that the broker ended.
        shut_out: Connections that it refused.
        envelopes: True ones, each once.
        wrong: Messages that no honest device would send.
        states: Hellos and statuses.
        disbelieved: Messages to devices that the director has not signed for them.
        ended: Installations, by the last phase that was told.
        lags: From the making of envelopes to their acknowledgement: bins of a `QuantileSketch`, milliseconds.
    """

    connected: int = 0
    cut: int = 0
    shut_out: int = 0
    envelopes: int = 0
    wrong: int = 0
    states: int = 0
    acknowledged: int = 0
    assignments: int = 0
    disbelieved: int = 0
    ended: Counter[str] = field(default_factory=Counter)
    lags: Counter[int] = field(default_factory=Counter)

    def add(self, other: Counts) -> None:
        """Add what others did."""
        for one in fields(self):
            mine, theirs = getattr(self, one.name), getattr(other, one.name)
            if isinstance(mine, Counter):
                mine.update(theirs)
            else:
                setattr(self, one.name, mine + theirs)

    def lag_ms(self, q: float) -> float | None:
        """A quantile of the time to the acknowledgement; None when there was none."""
        return QuantileSketch(bins=dict(self.lags)).quantile(q)


def total(counts: dict[str, Counts]) -> Counts:
    """All kinds together."""
    found = Counts()
    for one in counts.values():
        found.add(one)
    return found
