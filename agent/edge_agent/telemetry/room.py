"""Making room in a full outbox: windows are added up first, then the least important records go.

Works on the table of what waits, within the caller's transaction; what has been sealed is not touched,
since it may have arrived.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edge_agent.telemetry.backlog import least
from edge_agent.telemetry.downsample import merged
from edge_agent.telemetry.losses import Loss
from edge_contracts.envelope import decode_record, encode_record
from edge_contracts.messages import Window

FULL = "outbox full"
_AT_ONCE = 256  # rows in memory
_WINDOWS = "SELECT id, record FROM pending WHERE kind = 'window' AND id > ? ORDER BY id LIMIT ?"


@dataclass
class Room:
    """How much waits, and how much of it may stay.

    Args:
        keep, keep_bytes: What `make` comes down to.
        added_up: Windows that went into another.
        loss: What was dropped.
    """

    count: int
    size: int
    keep: float
    keep_bytes: float
    added_up: int = 0
    loss: Loss = Loss(FULL, {})  # noqa: RUF009

    @property
    def enough(self) -> bool:
        """Whether nothing more has to go."""
        return self.count <= self.keep and self.size <= self.keep_bytes


def make(db: sqlite3.Connection, room: Room) -> None:
    """Add windows up, the oldest first, and drop what still does not fit."""
    ahead: dict[str, tuple[int, Window, int]] = {}  # by bundle: one that may be added to the next
    for row, encoded in _windows(db):
        if room.enough:
            return
        window = decode_record(encoded)
        if not isinstance(window, Window):
            raise AssertionError("a row of windows holds another record")
        before = ahead.pop(window.bundle, None)
        both = merged(before[1], window) if before is not None else None
        if before is None or both is None:
            ahead[window.bundle] = (row, window, len(encoded))
            continue
        written = encode_record(both)
        db.execute("DELETE FROM pending WHERE id = ?", (before[0],))
        db.execute(
            "UPDATE pending SET record = ?, first_ms = ?, last_ms = ? WHERE id = ?",
            (written, both.start_ms, both.end_ms, row),
        )
        room.count -= 1
        room.size += len(written) - len(encoded) - before[2]
        room.added_up += 1
    while not room.enough:
        rows = least(db, _AT_ONCE)
        if not rows:
            return
        for row, kind, first_ms, last_ms, length in rows:
            if room.enough:
                return
            db.execute("DELETE FROM pending WHERE id = ?", (row,))
            room.loss += Loss(FULL, {kind: 1}, first_ms, last_ms)
            room.count, room.size = room.count - 1, room.size - length


def fitting(rows: Sequence[tuple[int, bytes]], most_bytes: int) -> list[tuple[int, bytes]]:
    """The first of them that fit one envelope, one at least where there is any."""
    size = 0
    chosen: list[tuple[int, bytes]] = []
    for row in rows:
        size += len(row[1])
        if chosen and size > most_bytes:
            break
        chosen.append(row)
    return chosen


def _windows(db: sqlite3.Connection) -> Iterator[tuple[int, bytes]]:
    last = -(1 << 62)
    while rows := db.execute(_WINDOWS, (last, _AT_ONCE)).fetchall():
        yield from rows
        last = rows[-1][0]
