"""Counting what was refused, by reason and device; written with the next batch, not one by one.

The sender of a message that does not verify is not known, whatever its topic says; it is counted under
the topic's device only when that is a device of ours.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

from sqlalchemy import Connection, select

from edge_fleet.schema import refusals, refused_messages
from edge_fleet.store import upsert

RAW_BYTES = 64 << 10
AGAIN_MS = 3_600_000  # after so long without one, the count of kept messages begins anew


@dataclass
class _Tally:
    count: int = 0
    last_ms: int = 0
    detail: str = ""
    topic: str = ""
    raw: bytes = b""


class Refusals:
    """Counts since the last write."""

    def __init__(self) -> None:
        """Start at zero."""
        self._lock = threading.Lock()
        self._tallies: dict[tuple[str, str], _Tally] = {}

    def count(
        self, reason: str, device: str, detail: str, now_ms: int, topic: str = "", raw: bytes = b""
    ) -> None:
        """Count one.

        Args:
            reason: A short word; a handful exist.
            device: Id of a device that is enrolled, else "".
            topic, raw: The message itself; the last of each reason and device is kept.
        """
        with self._lock:
            tally = self._tallies.setdefault((reason, device), _Tally())
            tally.count += 1
            tally.last_ms = now_ms
            tally.detail = detail.replace("\0", " ")[:500]
            tally.topic, tally.raw = topic[:300], raw[:RAW_BYTES]

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
            if device and tally.raw:
                _keep(connection, reason, device, tally)


def _keep(connection: Connection, reason: str, device: str, tally: _Tally) -> None:
    own = refused_messages.c
    last_ms = connection.execute(
        select(own.received_ms).where(own.reason == reason, own.device == device)
    ).scalar()
    row = {
        "reason": reason,
        "device": device,
        "count": tally.count,
        "received_ms": tally.last_ms,
        "topic": tally.topic,
        "detail": tally.detail,
        "raw": tally.raw,
    }
    goes_on = last_ms is not None and tally.last_ms - last_ms < AGAIN_MS
    upsert(connection, refused_messages, row, ("reason", "device"), add=("count",) if goes_on else ())
