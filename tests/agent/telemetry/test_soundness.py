"""What waits in the outbox and was damaged on the disk, in a way that SQLite does not see."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from random import Random

import pytest
from outbox_records import ME, ack, alarm, event, everything, opened, window

from edge_agent.telemetry.outbox import Outbox
from edge_contracts.messages import Gap


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outbox.db"


def changed(path: Path, statement: str, *values: object) -> None:
    """Change the file as a damaged sector would."""
    with sqlite3.connect(path, isolation_level=None) as db:
        assert db.execute(statement, values).rowcount == 1
    db.close()


def flipped(path: Path, column: str, table: str, key: str, row: int) -> None:
    with sqlite3.connect(path) as db:
        (content,) = db.execute(f"SELECT {column} FROM {table} WHERE {key} = ?", (row,)).fetchone()
    db.close()
    bad = bytearray(content)
    bad[len(bad) // 2] ^= 1
    changed(path, f"UPDATE {table} SET {column} = ? WHERE {key} = ?", bytes(bad), row)


def gaps(outbox: Outbox) -> list[Gap]:
    return [r for m in opened(everything(outbox)) for r in m.recs if isinstance(r, Gap)]


def test_an_envelope_with_a_flipped_bit_is_owned_up_to_and_the_others_arrive(path: Path) -> None:
    """It would be refused by the server, sent again for ever, and nothing behind it would be acknowledged."""
    outbox = Outbox(path, ME)
    for number in range(3):
        outbox.put([window(number), event(f"event-{number}")])
        outbox.waiting(10, ())
    outbox.put([event("waits")])
    epoch = outbox.epoch
    outbox.close()
    flipped(path, "envelope", "envelopes", "seq", 1)

    again = Outbox(path, ME)
    assert "2 records that waited in outbox.db were damaged" in again.lost
    assert again.epoch != epoch
    (gap,) = gaps(again)
    assert (gap.records, gap.kinds) == (2, {"record": 2})
    sent = everything(again)
    names = [r.name for m in opened(sent) for r in m.recs if r.kind == "event"]
    assert names == ["event-0", "event-2", "waits"]
    assert again.acknowledge(ack(again, sent[-1][0], sent[-1][1])) == "advanced"
    again.close()
    assert Outbox(path, ME).lost == ""


@pytest.mark.parametrize("damage", [b"\xff", b"", b"\xa0", "text", b"\xd8\x25\x00"])
def test_a_record_that_is_none_any_more_is_owned_up_to(path: Path, damage: object) -> None:
    outbox = Outbox(path, ME)
    outbox.put([window(1), alarm("a"), window(2)])
    epoch = outbox.epoch
    outbox.close()
    changed(path, "UPDATE pending SET record = ? WHERE id = (SELECT max(id) FROM pending)", damage)

    again = Outbox(path, ME)
    assert "1 records" in again.lost
    assert again.epoch == epoch, "nothing was numbered yet"
    (gap,) = gaps(again)
    assert (gap.records, gap.kinds) == (1, {"window": 1})


def test_a_record_of_another_kind_than_its_row_says_is_damaged(path: Path) -> None:
    """Rows of windows are added up when the outbox is full."""
    outbox = Outbox(path, ME)
    outbox.put([event("a")])
    outbox.close()
    changed(path, "UPDATE pending SET kind = 'window'")
    assert "1 records" in Outbox(path, ME).lost


def test_an_outbox_that_is_sound_is_left_as_it_is(path: Path) -> None:
    outbox = Outbox(path, ME)
    outbox.put([window(1), alarm("a")])
    before = everything(outbox)
    outbox.put([event("b")])
    outbox.close()
    again = Outbox(path, ME)
    assert again.lost == ""
    assert everything(again)[: len(before)] == before


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE head SET next_seq = 0",
        "UPDATE head SET epoch = 'none'",
        "UPDATE head SET chain = x'00'",
        "UPDATE head SET acked = 7",
        "UPDATE head SET acked_chain = 'text'",
        "UPDATE head SET chain = zeroblob(16)",
        "UPDATE envelopes SET seq = 9 WHERE seq = 1",
    ],
)
def test_numbers_that_contradict_each_other_begin_a_new_epoch(path: Path, statement: str) -> None:
    outbox = Outbox(path, ME)
    for number in range(2):
        outbox.put([event(f"event-{number}")])
        outbox.waiting(9, ())
    epoch = outbox.epoch
    outbox.close()
    changed(path, statement)
    again = Outbox(path, ME)
    assert again.lost
    assert again.epoch != epoch
    again.put([event("after")])
    assert "after" in [r.name for m in opened(everything(again)) for r in m.recs if r.kind == "event"]


def test_a_table_with_other_columns_is_damage_and_no_full_disk(path: Path) -> None:
    Outbox(path, ME).close()
    with sqlite3.connect(path) as db:
        db.execute("ALTER TABLE envelopes RENAME COLUMN chain TO chaim")
    db.close()
    again = Outbox(path, ME)
    assert "was damaged" in again.lost
    assert path.with_name("outbox.db.damaged").exists()


def test_damage_anywhere_in_the_file_never_stops_the_device_nor_makes_what_no_server_takes(
    path: Path,
) -> None:
    outbox = Outbox(path, ME)
    for number in range(4):
        outbox.put([window(number), event(f"event-{number}")])
        outbox.waiting(2, ())
    outbox.close()
    content, random = path.read_bytes(), Random(5)
    for _ in range(40):
        bad = bytearray(content)
        for _ in range(random.choice([1, 4, 64])):
            bad[random.randrange(len(bad))] = random.randrange(256)
        for beside in path.parent.glob("outbox.db*"):
            beside.unlink()
        path.write_bytes(bytes(bad))
        again = Outbox(path, ME)
        again.put([event("after")])
        sent = opened(everything(again))  # verifies each signature and reads each record
        assert "after" in [r.name for m in sent for r in m.recs if r.kind == "event"]
        again.close()
