"""What is kept of a rollout's devices between looks is what the database has, whatever happened meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from rollout_fleet import Fleet, Killed, file
from sqlalchemy import delete, event, update

from edge_contracts.messages import Phase as Told
from edge_fleet import orders, schema
from edge_fleet.errors import Conflict
from edge_fleet.rollouts.company import Company
from edge_fleet.rollouts.device_orders import DeviceOrder, order_device
from edge_fleet.rollouts.members import load_members
from edge_fleet.rollouts.reached import Reached
from edge_fleet.rollouts.roster import Roster

SILENCE_S = 300.0
NAMES = [f"cam-{n}" for n in range(6)]
WORDS = (Told.RECEIVED, Told.DOWNLOADING, Told.CONFIRMED, Told.ROLLED_BACK, Told.REFUSED)


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    built = Fleet(file(tmp_path / "fleet.db"))
    built.publish("1")
    built.publish("2")
    built.enrol(*NAMES)
    built.complete("1")
    return built


def look(fleet: Fleet, roster: Roster, rollout: str) -> Company:
    with fleet.store.read() as connection:
        return roster.look(connection, rollout, SILENCE_S, fleet.now_ms / 1000)


def recount(fleet: Fleet, rollout: str) -> list[Reached]:
    with fleet.store.read() as connection:
        return load_members(connection, rollout)


def silent(rows: Company | list[Reached], now_s: float) -> set[str]:
    return {row.device for row in rows if row.silent_at_s(SILENCE_S) < now_s}


def check(fleet: Fleet, roster: Roster, rollout: str) -> None:
    """All but the last word of a device, which is read again only for those that would be silent by it."""
    found, expected = look(fleet, roster, rollout), recount(fleet, rollout)
    assert [replace(row, last_seen_ms=0) for row in found] == [
        replace(row, last_seen_ms=0) for row in expected
    ]
    now_s = fleet.now_ms / 1000
    assert {row.device for row in found.to_suspect} == silent(expected, now_s)


@pytest.mark.parametrize("seed", range(6))
def test_any_interleaving_with_restarts_and_crashes_leaves_what_a_recount_finds(
    fleet: Fleet, seed: int
) -> None:
    random = Random(seed)
    rollout = fleet.begin("2", "50%", "100%")
    roster = Roster()
    late = iter(f"late-{n}" for n in range(100))

    def crash() -> None:
        """A transaction that changes everything and is not committed."""
        with pytest.raises(Killed), fleet.store.write() as connection:
            connection.execute(update(schema.assignments).values(phase="refused", change=orders.NEXT_CHANGE))
            raise Killed

    def give(order: DeviceOrder) -> None:
        with suppress(Conflict):
            order_device(fleet.services, rollout, random.choice(NAMES), order, "anna")

    def hear() -> None:
        with fleet.store.write() as connection:
            here = update(schema.devices).where(schema.devices.c.id == random.choice(NAMES))
            connection.execute(here.values(last_seen_ms=fleet.now_ms))

    def say() -> None:
        device = random.choice(NAMES)
        with suppress(ValueError):  # it takes back what it said
            fleet.say(device, random.choice(WORDS))

    happenings: list[Callable[[], None]] = [
        *(say, say, say, hear, crash),
        lambda: give(DeviceOrder.SKIP),
        lambda: give(DeviceOrder.RETRY),
        lambda: give(DeviceOrder.ROLLBACK),
        lambda: fleet.enrol(next(late)),
        lambda: fleet.pass_time(random.choice((1, 61, 301))),
        lambda: fleet.pass_time(1),
    ]
    for number in range(40):
        random.choice(happenings)()
        if number == 25:
            fleet.revoke(random.choice(NAMES))
        if random.random() < 0.1:
            roster = Roster()  # the server was started again
        if random.random() < 0.7:  # else the look sees more at once
            check(fleet, roster, rollout)
    check(fleet, roster, rollout)
    fleet.store.close()


def test_a_look_reads_only_devices_that_changed(fleet: Fleet) -> None:
    rollout, roster = fleet.begin("2", "100%"), Roster()
    first = look(fleet, roster, rollout)
    read: list[str] = []

    @event.listens_for(fleet.store._readers, "after_cursor_execute")
    def counted(_c: object, _cursor: object, statement: str, values: object, *_: object) -> None:
        if "rollout_members" in statement:
            read.append(str(values))

    assert look(fleet, roster, rollout) is first and read == []
    fleet.say("cam-3")
    second = look(fleet, roster, rollout)
    assert second is not first and len(read) == 1
    assert "cam-3" in read[0] and "cam-2" not in read[0]
    assert [row.device for row in second] == [row.device for row in first]
    fleet.store.close()


def test_changes_are_found_by_their_numbers_and_not_among_all_devices(fleet: Fleet) -> None:
    fleet.begin("2", "100%")
    asked: list[str] = []

    @event.listens_for(fleet.store._readers, "after_cursor_execute")
    def counted(_c: object, _cursor: object, statement: str, *_: object) -> None:
        if "change >" in statement:
            asked.append(statement)

    with fleet.store.read() as connection:
        last = orders.last_change(connection)
        assert orders.changed_since(connection, last) == []
        assert sorted(orders.changed_since(connection, 0)) == NAMES
        plans = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {asked[0]}", (last,)).all()
    assert "USING INDEX assignments_by_change (change>?)" in str(plans)
    fleet.store.close()


def test_a_change_that_is_not_marked_would_not_be_seen(fleet: Fleet) -> None:
    """What the number is for: without it the recount above differs."""
    rollout, roster = fleet.begin("2", "100%"), Roster()
    look(fleet, roster, rollout)
    with fleet.store.write() as connection:
        connection.execute(update(schema.assignments).values(phase="refused"))
    with pytest.raises(AssertionError):
        check(fleet, roster, rollout)
    fleet.store.close()


def test_what_was_worked_out_of_a_company_is_worked_out_once() -> None:
    company, left = Company(), [8, 7]
    for _ in range(2):
        assert company.once("sum", left.pop) == 7
    assert company.once(("sum", 2), left.pop) == 8 and not left


def test_devices_that_an_older_database_does_not_know_are_forgotten(fleet: Fleet) -> None:
    """A backup was restored under the server: what it has is what there is."""
    rollout = fleet.begin("2")
    roster = Roster()
    check(fleet, roster, rollout)
    gone = look(fleet, roster, rollout)[0].device
    with fleet.store.write() as connection:
        connection.execute(delete(schema.rollout_members).where(schema.rollout_members.c.device == gone))
        connection.execute(update(schema.assignments).values(change=1))
    assert gone not in {row.device for row in look(fleet, roster, rollout)}
    check(fleet, roster, rollout)
