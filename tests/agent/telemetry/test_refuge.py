"""A disk that takes nothing: telemetry goes out from memory, under its own numbers, and is whole after."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from outbox_records import DEVICE_KEY, DIRECTOR, ME, ack, alarm, boundary, event, everything, lonely, opened

from edge_agent.telemetry.identity import Identity
from edge_agent.telemetry.outbox import Outbox
from edge_agent.telemetry.refuge import IN_MEMORY, PATIENCE_S, RETRY_S, WAITS, Outboxes
from edge_contracts.keys import PrivateKey
from edge_contracts.messages import Event, Gap, Record


class Disk:
    """The file of an outbox, and whether it can be written to."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    def fails(self, how: str = "PRAGMA query_only = ON") -> None:
        boundary(self._outbox).execute(how)

    def mends(self) -> None:
        boundary(self._outbox).execute("PRAGMA query_only = OFF")
        boundary(self._outbox).execute("PRAGMA max_page_count = 100000")


@pytest.fixture
def stored(tmp_path: Path) -> Iterator[Outbox]:
    """One envelope of it has been sent and is not acknowledged."""
    outbox = Outbox(tmp_path / "outbox.db", ME)
    outbox.put([event("before")])
    assert len(everything(outbox)) == 1
    yield outbox
    outbox.close()


def told(outbox: Outbox) -> list[Record]:
    """Everything that the outbox says, in its order."""
    return list(itertools.chain.from_iterable(message.recs for message in opened(everything(outbox))))


def names(outbox: Outbox) -> list[str]:
    return [record.name for record in told(outbox) if isinstance(record, Event)]


def test_a_disk_that_fails_for_a_moment_loses_nothing_and_changes_no_epoch(stored: Outbox) -> None:
    both, epoch = Outboxes(stored), stored.epoch
    Disk(stored).fails()
    both.keep([event("meanwhile")])
    assert not both.tick(0.0, link_up=True)
    assert both.speaking is stored
    Disk(stored).mends()
    both.keep([event("after")])
    assert not both.tick(RETRY_S, link_up=True)
    assert (names(stored), stored.epoch) == (["before", "meanwhile", "after"], epoch)
    both.keep([event("and-on")])
    assert names(stored)[-1] == "and-on"


def test_a_disk_that_stays_broken_is_told_from_memory_under_an_epoch_of_its_own(stored: Outbox) -> None:
    both = Outboxes(stored)
    Disk(stored).fails()
    both.keep([event("meanwhile")])
    both.tick(0.0, link_up=True)
    assert both.tick(PATIENCE_S, link_up=True), "the server must hear of the epoch"
    assert both.speaking is not stored
    assert both.speaking.epoch != stored.epoch
    first, second = told(both.speaking)
    assert isinstance(first, Event) and (first.name, first.code) == ("disk-failed", "outbox-unwritable")
    assert "readonly" in first.detail
    assert second == event("meanwhile")
    both.keep([event("later")])
    assert names(both.speaking) == ["disk-failed", "meanwhile", "later"]
    assert not both.tick(PATIENCE_S + 1, link_up=True), "it is said once"


def test_a_full_disk_is_told_by_the_code_that_the_servers_alarm_is_for(stored: Outbox) -> None:
    pages = boundary(stored).execute("PRAGMA page_count").fetchone()[0]
    both = Outboxes(stored)
    Disk(stored).fails(f"PRAGMA max_page_count = {pages}")
    both.keep([Event(name="e", time_ms=5, detail="x" * 500) for _ in range(200)])
    both.tick(0.0, link_up=True)
    both.tick(PATIENCE_S, link_up=True)
    first = told(both.speaking)[0]
    assert isinstance(first, Event) and first.code == "no-space"


def test_what_the_server_has_not_acknowledged_goes_to_the_disk_when_it_is_mended(stored: Outbox) -> None:
    both, before = Outboxes(stored), everything(stored)
    Disk(stored).fails()
    both.keep([event("one")])
    both.tick(0.0, link_up=False)
    both.tick(PATIENCE_S, link_up=False)
    sent = everything(both.speaking)
    assert both.speaking.acknowledge(ack(both.speaking, 0, sent[0][1])) == "advanced"
    both.keep([alarm("two")])
    assert len(everything(both.speaking)) == 1
    both.keep([event("three")])
    Disk(stored).mends()
    assert both.tick(PATIENCE_S + RETRY_S, link_up=False), "the stored outbox speaks again"
    assert both.speaking is stored
    assert everything(stored)[: len(before)] == before, "what was sealed has the same bytes"
    assert names(stored) == ["before", "two", "three", "disk-mended"]


def test_what_is_on_its_way_is_waited_for_but_not_for_ever(stored: Outbox) -> None:
    both = Outboxes(stored)
    Disk(stored).fails()
    both.keep([event("one")])
    both.tick(0.0, link_up=True)
    both.tick(PATIENCE_S, link_up=True)
    (sent,) = everything(both.speaking)
    Disk(stored).mends()
    now_s = PATIENCE_S
    now_s += RETRY_S
    for _ in range(WAITS):
        assert not both.tick(now_s, link_up=True)
        now_s += 1.0
    assert both.speaking.acknowledge(ack(both.speaking, 0, sent[1])) == "advanced"
    assert both.tick(now_s, link_up=True)
    assert names(stored) == ["before", "disk-mended"], "nothing comes twice"


def test_a_disk_that_takes_a_little_and_not_everything_leaves_memory_as_it_was(stored: Outbox) -> None:
    both = Outboxes(stored)
    pages = boundary(stored).execute("PRAGMA page_count").fetchone()[0]
    Disk(stored).fails(f"PRAGMA max_page_count = {pages}")
    many = [Event(name="e", time_ms=5, detail="x" * 500) for _ in range(200)]
    both.keep(many)
    both.tick(0.0, link_up=True)
    both.tick(PATIENCE_S, link_up=True)
    sent = everything(both.speaking)
    for attempt in range(1, WAITS + 3):
        assert not both.tick(PATIENCE_S + attempt * RETRY_S, link_up=True)
    assert everything(both.speaking) == sent, "numbers that were given out stand"
    assert stored.dropped_records == 0


def test_memory_is_bounded_and_what_it_could_not_hold_is_owned_up_to(stored: Outbox) -> None:
    both = Outboxes(stored)
    Disk(stored).fails()
    most = IN_MEMORY.records
    for start in range(0, most + 100, 100):
        both.keep([lonely(n) for n in range(start, start + 100)])
    Disk(stored).mends()
    both.tick(0.0, link_up=False)
    both.tick(RETRY_S, link_up=False)
    gaps = [record for record in told(stored) if isinstance(record, Gap)]
    assert sum(gap.records for gap in gaps) + len(told(stored)) - len(gaps) - 1 == most + 100


def test_both_follow_a_change_of_key(stored: Outbox) -> None:
    both = Outboxes(stored)
    Disk(stored).fails()
    both.keep([event("one")])
    another = Identity("plant", "cam-1", PrivateKey.generate(), DIRECTOR.public)
    both.identify(another)
    assert (both.identity, stored.identity) == (another, another)
    both.tick(0.0, link_up=True)
    both.tick(PATIENCE_S, link_up=True)
    assert both.speaking.identity == another
    assert another.key.public != DEVICE_KEY.public


def test_at_the_end_what_can_be_stored_is(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    for mended, expected in ((True, ["one"]), (False, [])):
        path.unlink(missing_ok=True)
        outbox = Outbox(path, ME)
        both = Outboxes(outbox)
        Disk(outbox).fails()
        both.keep([event("one")])
        if mended:
            Disk(outbox).mends()
        both.close()
        again = Outbox(path, ME)
        assert names(again) == expected
        again.close()
