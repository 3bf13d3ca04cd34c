"""The outbox: numbered, chained, signed, and sent in the order of what matters."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from outbox_records import ME, ZEROS, alarm, event, everything, filled, opened, window

from edge_agent.telemetry.outbox import Outbox
from edge_contracts.messages import Event


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outbox.db"


def test_envelopes_are_numbered_from_zero_and_each_names_the_one_before(path: Path) -> None:
    outbox = Outbox(path, ME)
    filled(outbox, 4)
    sent = everything(outbox)
    messages = opened(sent)
    assert [m.seq for m in messages] == [0, 1, 2, 3]
    assert {m.epoch for m in messages} == {outbox.epoch}
    hashes = [hashlib.sha256(envelope).digest()[:16] for _, envelope in sent]
    assert [m.prev for m in messages] == [ZEROS, *hashes[:-1]]


def test_the_chain_and_the_bytes_survive_a_restart(path: Path) -> None:
    first = Outbox(path, ME)
    first.put([window()])
    before = everything(first)
    first.close()
    second = Outbox(path, ME)
    second.put([event()])
    after = everything(second)
    assert after[0] == before[0]
    assert opened(after)[1].prev == hashlib.sha256(before[0][1]).digest()[:16]
    assert second.epoch == first.epoch


def test_what_is_on_its_way_is_not_given_out_again(path: Path) -> None:
    outbox = Outbox(path, ME)
    filled(outbox, 5)
    assert [seq for seq, _ in outbox.waiting(2, {0, 2})] == [1, 3]


def test_what_waits_together_leaves_in_one_envelope_alarms_first(path: Path) -> None:
    outbox = Outbox(path, ME)
    outbox.put([window(1), event("started")])
    outbox.put([alarm("golden-mismatch")])
    (message,) = opened(everything(outbox))
    assert message.recs == (alarm("golden-mismatch"), event("started"), window(1))
    assert len(outbox) == 1


def test_a_backlog_leaves_in_envelopes_of_a_hundred_records_or_64_kilobytes(path: Path) -> None:
    outbox = Outbox(path, ME)
    outbox.put([event("e") for _ in range(250)])
    assert [len(m.recs) for m in opened(everything(outbox))] == [100, 100, 50]
    outbox.put([Event(name="e", time_ms=1, detail="x" * 500) for _ in range(300)])
    sent = everything(outbox)[3:]
    assert sum(len(m.recs) for m in opened(sent)) == 300
    assert max(len(envelope) for _, envelope in sent) < 66_000


def test_places_on_the_way_are_kept_for_alarms(path: Path) -> None:
    outbox = Outbox(path, ME)
    outbox.put([event("e") for _ in range(1000)])
    assert [seq for seq, _ in outbox.waiting(5, (), reserve=2)] == [0, 1, 2]
    assert outbox.waiting(2, {0, 1, 2}, reserve=2) == []
    outbox.put([alarm("crash")])
    (urgent,) = opened(outbox.waiting(2, {0, 1, 2}, reserve=2))
    assert urgent.recs[0] == alarm("crash")


def test_what_is_sent_again_has_the_same_bytes_whatever_was_put_meanwhile(path: Path) -> None:
    outbox = Outbox(path, ME)
    outbox.put([window(1)])
    (first,) = everything(outbox)
    outbox.put([alarm("crash"), window(2)])
    assert everything(outbox)[0] == first


def test_the_file_is_for_the_owner_only(path: Path) -> None:
    Outbox(path, ME)
    assert path.stat().st_mode & 0o077 == 0
