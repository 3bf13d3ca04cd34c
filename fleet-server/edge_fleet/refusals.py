"""Counting what was refused, by reason and device; written with the next batch, not one by one.

The sender of a message that does not verify is not known, whatever its topic says; it is counted under
the topic's device only when that is a device of ours.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

from sqlalchemy import Connection

from edge_fleet.schema import refusals
from edge_fleet.store import upsert


@dataclass
class _Tally:
    count: int = 0
    last_ms: int = 0
    detail: str = ""


class Refusals:
    """Counts since the last write."""

    def __init__(self) -> None:
        """Start at zero."""
        self._lock = threading.Lock()
        self._tallies: dict[tuple[str, str], _Tally] = {}

    def count(self, reason: str, device: str, detail: str, now_ms: int) -> None:
        """Count one.

        Args:
            reason: A short word; a handful exist.
            device: Id of a device that is enrolled, else "".
        """
        with self._lock:
            tally = self._tallies.setdefault((reason, device), _Tally())
            tally.count += 1
            tally.last_ms = now_ms
            tally.detail = detail.replace("\0", " ")[:500]

    @property
    def pending(self) -> bool:
        """Whether there is something to write."""
        return bool(self._tallies)

    def write(self, connection: Connection) -> None:
        """Add the counts to the table. They are lost if the transaction fails: they are statistics."""
        with self._lock:
            tallies, self._tallies = self._tallies, {}
        for (reason, device), tally in tallies.items():
            row = {
                "reason": reason,
                "device": device,
                "count": tally.count,
                "last_ms": tally.last_ms,
                "detail": tally.detail,
            }
            upsert(connection, refusals, row, ("reason", "device"), add=("count",))
