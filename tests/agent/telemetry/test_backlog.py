"""The table of what waits is in the order in which it leaves, also that of an earlier release."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from outbox_records import ME, ack, alarm, boundary, event, everything, opened, window

from edge_agent.telemetry import backlog
from edge_agent.telemetry.outbox import Outbox
from edge_contracts.envelope import encode_record
from edge_contracts.messages import Record

BEFORE = """
DROP TABLE pending;
CREATE TABLE pending (
    id INTEGER PRIMARY KEY AUTOINCREMENT, priority INTEGER NOT NULL, kind TEXT NOT NULL,
    first_ms INTEGER NOT NULL, last_ms INTEGER NOT NULL, record BLOB NOT NULL);
CREATE INDEX pending_by_priority ON pending (priority, id);
"""


@pytest.fixture
def db() -> sqlite3.Connection:
    opened_ = sqlite3.connect(":memory:", isolation_level=None)
    opened_.executescript(backlog.SCHEMA)
    return opened_


def put(db: sqlite3.Connection, *records: Record) -> None:
    backlog.put(db, backlog.next_number(db), [backlog.row_of(one, encode_record(one)) for one in records])


def waiting(db: sqlite3.Connection) -> list[bytes]:
    return [record for _, record in backlog.following(db, 1000)]


def test_it_leaves_by_priority_and_then_in_the_order_of_putting(db: sqlite3.Connection) -> None:
    put(db, window(1), event("a"))
    put(db, window(2), alarm("x"), event("b"))
    expected: list[Record] = [alarm("x"), event("a"), event("b"), window(1), window(2)]
    assert waiting(db) == [encode_record(one) for one in expected]
    rows = backlog.following(db, 2)
    assert [backlog.priority_at(place) for place, _ in rows] == [
        backlog.Priority.ALARM,
        backlog.Priority.NOTICE,
    ]
    backlog.take_out(db, rows[-1][0])
    assert waiting(db) == [encode_record(one) for one in expected[2:]]


def test_a_number_is_never_below_one_that_waits(db: sqlite3.Connection) -> None:
    assert backlog.next_number(db) == backlog.next_number(db)
    put(db, alarm("x"), window(1), event("a"))
    after = backlog.next_number(db)
    put(db, window(2))
    assert backlog.next_number(db) == after + 1
    db.execute("DELETE FROM pending WHERE kind = 'window'")
    assert backlog.next_number(db) == after  # of the event, which is of another priority


def test_what_is_given_back_goes_before_the_rest_of_its_priority(db: sqlite3.Connection) -> None:
    for _ in range(2):
        put(db, window(3))
        back: list[Record] = [window(1), event("e")]
        backlog.give_back(db, [backlog.row_of(one, encode_record(one)) for one in back])
        expected: list[Record] = [event("e"), window(1), window(3)]
        assert waiting(db) == [encode_record(one) for one in expected]
        db.execute("DELETE FROM pending")


def test_a_table_of_before_stays_whole_when_taking_it_over_breaks_off(db: sqlite3.Connection) -> None:
    db.executescript(BEFORE)
    insert = "INSERT INTO pending (priority, kind, first_ms, last_ms, record) VALUES (?, 'event', 1, 2, ?)"
    db.execute(insert, (1, b"good"))
    db.execute(insert, ("no number", b"bad"))
    with pytest.raises(TypeError):
        backlog.bring_up_to_date(db)
    assert not db.in_transaction
    assert db.execute("SELECT record FROM pending ORDER BY id").fetchall() == [(b"good",), (b"bad",)]


def test_the_least_important_is_of_the_last_priority_there_is_and_the_oldest(db: sqlite3.Connection) -> None:
    assert backlog.least(db, 5) == []
    put(db, alarm("x"), window(7), window(8), event("a"))
    assert [(row[1], row[2]) for row in backlog.least(db, 5)] == [("window", 7), ("window", 8)]
    db.execute("DELETE FROM pending WHERE kind = 'window'")
    assert [row[1] for row in backlog.least(db, 5)] == ["event"]
    assert len(backlog.least(db, 5)) == 1


def test_a_put_changes_one_page(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox.db", ME)
    outbox.put([window(1)])
    wal = tmp_path / "outbox.db-wal"
    before = wal.stat().st_size
    outbox.put([window(2)])
    assert wal.stat().st_size - before == 4096 + 24  # a frame of the log (sqlite.org/fileformat2.html, 4.1)
    assert boundary(outbox).execute("PRAGMA secure_delete").fetchone() == (0,)


@pytest.mark.parametrize("given_back", [0, 2])
def test_an_outbox_of_an_earlier_release_is_taken_over(tmp_path: Path, given_back: int) -> None:
    path = tmp_path / "outbox.db"
    outbox = Outbox(path, ME)
    outbox.put([event("sealed")])
    sealed = everything(outbox)
    boundary(outbox).executescript(BEFORE)
    records: list[Record] = [window(1), event("a"), window(2), alarm("x")]
    for place, one in enumerate(records, -given_back):
        priority, row = backlog.row_of(one, encode_record(one))
        boundary(outbox).execute("INSERT INTO pending VALUES (?, ?, ?, ?, ?, ?)", (place, priority, *row))
    epoch = outbox.epoch
    outbox.close()
    again = Outbox(path, ME)
    assert (again.epoch, again.lost, len(again)) == (epoch, "", 5)
    again.put([window(3)])
    assert again.waiting(1, ()) == sealed
    assert again.acknowledge(ack(again, 0, sealed[0][1])) == "advanced"
    (message,) = opened(everything(again))
    assert message.recs == (alarm("x"), event("a"), window(1), window(2), window(3))
    again.close()
    assert len(Outbox(path, ME)) == 1
