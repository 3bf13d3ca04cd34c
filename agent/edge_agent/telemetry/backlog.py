"""What waits in the outbox, not sealed yet: a table in the order in which it is to leave.

A row's id is its priority and, below it, a number that grows: the table itself is in the order in which
records leave, so that a record that is put changes one page of the file. An index beside it, and a table of
the largest id, were two more, each of which is written and waited for at a commit (docs/decisions/0046).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from enum import IntEnum

from edge_agent.telemetry.losses import span_ms
from edge_contracts.messages import Event, Gap, Record, Window

SCHEMA = """
CREATE TABLE IF NOT EXISTS pending (
    id INTEGER PRIMARY KEY, kind TEXT NOT NULL,
    first_ms INTEGER NOT NULL, last_ms INTEGER NOT NULL, record BLOB NOT NULL);
"""
_NUMBER_BITS = 48
_NUMBER = (1 << _NUMBER_BITS) - 1
_FIRST = 1 << 40  # below is room for what is given back to the front

_INSERT = "INSERT INTO pending (id, kind, first_ms, last_ms, record) VALUES (?, ?, ?, ?, ?)"
_NEXT = "SELECT id, record FROM pending ORDER BY id LIMIT ?"
_OF_PRIORITY = """
SELECT id, kind, first_ms, last_ms, length(record) FROM pending WHERE id >= ? AND id < ? ORDER BY id LIMIT ?
"""

Row = tuple[str, int, int, bytes]  # kind, first_ms, last_ms, record
PlacedRow = tuple[int, Row]  # with its priority


class Priority(IntEnum):
    """What goes first, and what is dropped last."""

    ALARM = 0  # an event with a code: something is wrong; a gap
    NOTICE = 1  # any other event
    WINDOW = 2
    SAMPLE = 3  # whatever else there may be one day


def priority_of(record: Record) -> Priority:
    """How important a record is."""
    if isinstance(record, Gap):
        return Priority.ALARM  # what comes after it waits for it at the server
    if isinstance(record, Event):
        return Priority.ALARM if record.code else Priority.NOTICE
    return Priority.WINDOW if isinstance(record, Window) else Priority.SAMPLE


def row_of(record: Record, encoded: bytes) -> tuple[int, Row]:
    """The priority and the row of a record."""
    return priority_of(record), (record.kind, *span_ms(record), encoded)


def priority_at(place: int) -> int:
    """The priority of the row with an id."""
    return place >> _NUMBER_BITS


def next_number(db: sqlite3.Connection) -> int:
    """The number for the next row that is put."""
    tops = (
        db.execute("SELECT max(id) FROM pending WHERE id < ?", ((priority + 1) << _NUMBER_BITS,)).fetchone()[
            0
        ]
        for priority in Priority
    )
    return max((top & _NUMBER for top in tops if top is not None), default=_FIRST - 1) + 1


def put(db: sqlite3.Connection, number: int, rows: Iterable[tuple[int, Row]]) -> None:
    """Add rows behind those of their priority.

    Args:
        number: From `next_number`, or as many further as were put since.
        rows: Each with its priority.
    """
    db.executemany(
        _INSERT,
        [((priority << _NUMBER_BITS) + place, *row) for place, (priority, row) in enumerate(rows, number)],
    )


def give_back(db: sqlite3.Connection, rows: Sequence[tuple[int, Row]]) -> None:
    """Put rows, in their order, before all that wait."""
    (first,) = db.execute("SELECT min(id & ?) FROM pending", (_NUMBER,)).fetchone()
    put(db, (_FIRST if first is None else first) - len(rows), rows)


def following(db: sqlite3.Connection, most: int) -> list[tuple[int, bytes]]:
    """Ids and records of what leaves next."""
    return db.execute(_NEXT, (most,)).fetchall()


def everything(db: sqlite3.Connection) -> list[PlacedRow]:
    """All rows, in the order in which they leave."""
    rows = db.execute("SELECT id, kind, first_ms, last_ms, record FROM pending ORDER BY id")
    return [(priority_at(place), tuple(row)) for place, *row in rows]


def take_out(db: sqlite3.Connection, last: int) -> None:
    """Delete everything up to an id that `following` has given."""
    db.execute("DELETE FROM pending WHERE id <= ?", (last,))


def least(db: sqlite3.Connection, most: int) -> list[tuple[int, str, int, int, int]]:
    """The least important rows, the oldest first: id, kind, first_ms, last_ms and size."""
    for priority in reversed(Priority):
        bounds = priority << _NUMBER_BITS, (priority + 1) << _NUMBER_BITS
        rows = db.execute(_OF_PRIORITY, (*bounds, most)).fetchall()
        if rows:
            return rows
    return []


def bring_up_to_date(db: sqlite3.Connection) -> None:
    """Make the table of an outbox that an earlier release has written into this one's."""
    columns = [name for _, name, *_ in db.execute("PRAGMA table_info(pending)")]
    if "priority" not in columns:
        return
    db.execute("BEGIN IMMEDIATE")
    with db:  # commits, or rolls back
        db.execute("ALTER TABLE pending RENAME TO pending_before")
        db.execute(SCHEMA)
        rows = db.execute(
            "SELECT priority, kind, first_ms, last_ms, record FROM pending_before ORDER BY id"
        ).fetchall()
        put(db, _FIRST, [(priority, tuple(row)) for priority, *row in rows])
        db.execute("DROP TABLE pending_before")
