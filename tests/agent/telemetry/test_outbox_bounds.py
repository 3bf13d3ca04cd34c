"""An outbox that is full adds up, drops what matters least, and owns up to it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from outbox_records import ME, ack, alarm, event, everything, filled, lonely, opened, window

from edge_agent.telemetry.outbox import Limits, Outbox
from edge_contracts.messages import Event, Gap, Window


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outbox.db"


def test_a_full_outbox_adds_up_windows_before_it_drops_anything(path: Path) -> None:
    outbox = Outbox(path, ME, Limits(records=10))
    for n in range(1, 31):
        outbox.put([window(n)])
    outbox.put([event("first")])
    assert len(outbox) <= 10
    messages = opened(everything(outbox))
    records = [record for message in messages for record in message.recs]
    windows = [record for record in records if isinstance(record, Window)]
    assert sum(one.merged for one in windows) == 30
    assert sum(one.inferences for one in windows) == sum(range(1, 31))
    assert min(one.start_ms for one in windows) == 1
    assert max(one.merged for one in windows) > 1
    assert not any(isinstance(record, Gap) for record in records)
    assert outbox.dropped_records == 0


def test_windows_of_several_models_are_not_mixed(path: Path) -> None:
    outbox = Outbox(path, ME, Limits(records=10))
    other = "sha256:" + "1" * 64
    for _ in range(30):
        outbox.put([window(1), window(100).model_copy(update={"bundle": other})])
    records = [record for message in opened(everything(outbox)) for record in message.recs]
    windows = [record for record in records if isinstance(record, Window)]
    assert {one.inferences / one.merged for one in windows} == {1, 100}
    assert sum(one.merged for one in windows) == 60


def test_what_has_been_sealed_is_neither_added_up_nor_dropped(path: Path) -> None:
    outbox = Outbox(path, ME, Limits(records=10))
    filled(outbox, 5)
    sent = everything(outbox)
    for n in range(50):
        outbox.put([window(n)])
    assert outbox.waiting(5, ()) == sent
    assert len(outbox) <= 10


def test_when_nothing_can_be_added_up_the_least_important_goes_first_and_is_owned_up_to(path: Path) -> None:
    outbox = Outbox(path, ME, Limits(records=20))
    outbox.put([alarm("crash"), event("started")])
    for n in range(1, 41):
        outbox.put([lonely(n)])
    records = [record for message in opened(everything(outbox)) for record in message.recs]
    assert alarm("crash") in records
    assert event("started") in records
    kept = [record.start_ms for record in records if isinstance(record, Window)]
    (gap,) = [record for record in records if isinstance(record, Gap)]
    assert kept == list(range(41 - len(kept), 41)), "the oldest went"
    assert (gap.reason, gap.kinds) == ("outbox full", {"window": 40 - len(kept)})
    assert (gap.first_ms, gap.last_ms) == (1, 41 - len(kept))
    assert gap.records == outbox.dropped_records == 40 - len(kept)


def test_a_loss_takes_a_number_with_it_and_is_told_before_anything_else(path: Path) -> None:
    outbox = Outbox(path, ME, Limits(records=20))
    filled(outbox, 1)
    for n in range(40):
        outbox.put([lonely(n)])
    sent = everything(outbox)
    before, after = opened(sent)
    assert (before.seq, after.seq) == (0, 2), "number 1 went with the loss"
    gap = after.recs[0]
    assert isinstance(gap, Gap)
    assert (gap.first_seq, gap.last_seq) == (1, 1)
    assert after.prev == hashlib.sha256(sent[0][1]).digest()[:16]
    assert outbox.acknowledge(ack(outbox, 2, sent[1][1])) == "advanced"
    assert len(outbox) == 0


def test_alarms_are_dropped_when_there_is_nothing_else(path: Path) -> None:
    outbox = Outbox(path, ME, Limits(records=20))
    for n in range(50):
        outbox.put([alarm(f"a{n}")])
    records = [record for message in opened(everything(outbox)) for record in message.recs]
    gaps = [record for record in records if isinstance(record, Gap)]
    assert sum(gap.records for gap in gaps) == 50 - sum(isinstance(record, Event) for record in records)
    assert gaps[0].kinds.keys() == {"event"}


def test_the_outbox_is_bounded_by_bytes_too(path: Path) -> None:
    outbox = Outbox(path, ME, Limits(size_bytes=20_000))
    for n in range(300):
        outbox.put([lonely(n)])
        if n == 30:
            everything(outbox)
    assert outbox.size_bytes <= 20_000
    size = sum(len(envelope) for _, envelope in everything(outbox))
    assert 5_000 < size < 20_000


def test_what_is_counted_is_what_is_there(path: Path) -> None:
    outbox = Outbox(path, ME, Limits(records=30))
    for n in range(100):
        outbox.put([window(n), lonely(n), alarm("a")])
        if n % 7 == 0:
            sent = everything(outbox)
        if n % 21 == 0:
            outbox.acknowledge(ack(outbox, sent[0][0], sent[0][1]))
        counted = (outbox._pending, outbox._pending_bytes, outbox._sealed, outbox._sealed_bytes)
        outbox._look()
        assert counted == (outbox._pending, outbox._pending_bytes, outbox._sealed, outbox._sealed_bytes)
