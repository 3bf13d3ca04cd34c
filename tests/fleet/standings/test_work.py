"""Keeping standings true: who is looked at when, and that nobody else is."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

import pytest
from fleet_rows import FITS, WRONG, FleetRows, digest
from sqlalchemy import select, update

from edge_contracts.messages import Phase as Told
from edge_fleet import orders, schema
from edge_fleet.enrol import revoke
from edge_fleet.events import EventBus
from edge_fleet.giving_way import GivingWay
from edge_fleet.services import Services
from edge_fleet.standings.condition import SILENT_AFTER_S
from edge_fleet.standings.due import LONGEST_MS, RECHECK_MS, recheck_ms
from edge_fleet.standings.work import PORTION, Standings
from edge_fleet.store import Store

START_MS = 1_700_000_000_000


@dataclass
class Fleet:
    """A store, a clock, and the work on its standings."""

    store: Store
    now_ms: int = START_MS
    told: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rows = FleetRows(self.store, lambda: self.now_ms)
        self.work = Standings(Services(self.store, EventBus(), NobodyWaits(), lambda: self.now_ms))

    def settled(self, device: str = "cam") -> Any:
        """The row of a device, after everything that is due was done."""
        self.work.catch_up(self.now_ms)
        return self.row(device)

    def row(self, device: str = "cam") -> Any:
        with self.store.read() as connection:
            query = select(schema.standings).where(schema.standings.c.device == device)
            return connection.execute(query).one_or_none()

    def runs(self, device: str, version: str, **more: str) -> None:
        """The device says what it runs, as a status would."""
        active = {"bundle": digest(version), "name": "digits", "version": version, **more}
        with self.store.write() as connection:
            connection.execute(
                update(schema.devices)
                .where(schema.devices.c.id == device)
                .values(state={"active": active, "counter": 1}, last_seen_ms=self.now_ms)
            )

    def report(self, device: str = "cam", version: str = "1", **changes: Any) -> None:
        self.rows.report(device, digest(version), **changes)
        with self.store.write() as connection:
            connection.execute(
                update(schema.devices).where(schema.devices.c.id == device).values(last_seen_ms=self.now_ms)
            )


class NobodyWaits:
    """No assignments leave here."""

    def soon(self, devices: Any) -> None:
        """Nothing."""


@pytest.fixture
def fleet(store: Store) -> Fleet:
    """One device with a model that works."""
    made = Fleet(store)
    made.rows.publish("1")
    made.rows.publish("2")
    made.rows.enrol("cam", site="lab")
    made.runs("cam", "1", runtime="litert 2.3.0")
    made.report()
    return made


def test_a_new_device_is_taken_up_with_all_that_is_known_of_it(fleet: Fleet) -> None:
    row = fleet.settled()
    assert (row.health, row.model, row.bundle, row.profile) == ("ok", "digits 1", digest("1"), "arm-cpu")
    assert (row.inferences, row.faults, row.degraded, row.since_ms) == (400, 0, 0, START_MS)
    assert row.p95_ms == pytest.approx(5.0, rel=0.03)
    assert row.distance == 0 and row.furthest == "input:x:mean"
    assert row.words.split("\n") == ["cam", "arm-cpu", "site=lab", "digits 1", digest("1"), "litert 2.3.0"]


def test_one_that_is_well_is_left_alone_until_it_is_due(fleet: Fleet) -> None:
    fleet.settled()
    fleet.now_ms += 1_000
    fleet.report(inferences=100)
    assert fleet.settled().judged_ms == START_MS, "a good window says nothing new"
    fleet.now_ms = START_MS + RECHECK_MS
    row = fleet.settled()
    assert (row.judged_ms, row.inferences) == (fleet.now_ms, 500)


def test_a_bad_window_is_looked_at_at_once(fleet: Fleet) -> None:
    fleet.settled()
    fleet.now_ms += 31_000
    fleet.report(errors=200)
    row = fleet.settled()
    assert row.health == "failing" and "200 of 1000 inferences" in row.reason
    assert row.since_ms == fleet.now_ms
    judged = row.judged_ms
    fleet.now_ms += 1_000
    fleet.report(errors=200)
    assert fleet.settled().judged_ms == judged, "and then not with each further one"


def test_drift_that_the_device_found_itself_counts_at_once(fleet: Fleet) -> None:
    fleet.settled()
    fleet.now_ms += 31_000
    fleet.report(drifting=["data-drift"], scalars={"input:x:mean": FITS})
    row = fleet.settled()
    assert (row.health, row.reason) == ("drifting", "it found data-drift itself")


def test_drift_that_only_the_server_sees_is_found_when_it_is_due(fleet: Fleet) -> None:
    fleet.settled()
    fleet.now_ms += RECHECK_MS
    fleet.report(inferences=2000, scalars={"input:x:mean": [5 * count for count in WRONG]})
    row = fleet.settled()
    assert row.health == "drifting" and row.distance > 0.5


def test_silence_is_found_by_the_clock_and_ends_with_a_word(fleet: Fleet) -> None:
    fleet.settled()
    fleet.now_ms += int(1000 * SILENT_AFTER_S) + 1
    silent = fleet.settled()
    assert (silent.health, silent.since_ms) == ("silent", fleet.now_ms)
    fleet.now_ms += 86_400_000
    assert fleet.settled().since_ms == silent.since_ms, "since when does not move"
    before = fleet.row().judged_ms
    fleet.now_ms += 86_400_000
    assert fleet.settled().judged_ms == before, "of one that says nothing there is nothing to find out"
    fleet.report()
    assert fleet.settled().health == "ok"


def test_an_order_and_what_becomes_of_it_are_seen_at_once(fleet: Fleet) -> None:
    fleet.settled()
    fleet.now_ms += 1
    with fleet.store.write() as connection:
        orders.issue(connection, "cam", digest("2"), fleet.now_ms)
    assert fleet.settled().health == "updating"
    fleet.now_ms += 1
    fleet.rows.say("cam", Told.REFUSED, "digest-mismatch")
    row = fleet.settled()
    assert (row.health, row.reason) == ("failing", "its last assignment was refused")


def test_one_that_is_revoked_is_seen_at_once_and_never_again(fleet: Fleet) -> None:
    fleet.settled()
    with fleet.store.write() as connection:
        revoke(connection, "cam", "anna", fleet.now_ms)
    assert fleet.settled().health == "revoked"
    fleet.now_ms += 30 * 86_400_000
    assert fleet.settled().judged_ms == START_MS


def test_a_large_fleet_is_taken_up_in_portions_and_news_tell_of_changes(fleet: Fleet) -> None:
    fleet.rows.enrol(*(f"many-{n:04}" for n in range(PORTION + 5)))
    assert fleet.work.round(fleet.now_ms), "there is more to do"
    fleet.work.catch_up(fleet.now_ms)
    assert not fleet.work.round(fleet.now_ms)
    with fleet.store.read() as connection:
        assert len(connection.execute(select(schema.standings.c.device)).all()) == PORTION + 6


def test_a_server_that_starts_again_goes_on_where_it_was(fleet: Fleet) -> None:
    fleet.settled()
    fleet.now_ms += 31_000
    fleet.report(errors=500)
    again = Fleet(fleet.store, fleet.now_ms)
    assert again.settled().health == "failing"


def test_windows_of_a_second_model_do_not_count(fleet: Fleet) -> None:
    """It sees only what another model was unsure of."""
    fleet.now_ms += 31_000
    fleet.report(errors=500, lineup={"role": "second"})
    assert fleet.settled().health == "ok"


def test_before_each_round_the_work_gives_way_to_messages_that_wait(fleet: Fleet) -> None:
    stop, told = threading.Event(), list[str]()

    class Way(GivingWay):
        def rest(self, stop: threading.Event) -> None:
            told.append(f"rests before {fleet.row()}")
            stop.set()

        def up_to_date(self) -> None:
            told.append("up to date")

    services = Services(fleet.store, EventBus(), NobodyWaits(), lambda: fleet.now_ms)
    Standings(services, Way(lambda: 0)).run(stop)
    assert told[0] == "rests before None"
    assert fleet.row() is not None
    Standings(services, Way(lambda: 0)).run(stop)
    assert told[-1] == "up to date"


def test_a_large_fleet_is_looked_at_less_often_and_its_good_windows_are_no_news(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [recheck_ms(n) for n in (1, 12_000, 20_000, 100_000)] == [
        RECHECK_MS,
        RECHECK_MS,
        200_000,
        LONGEST_MS,
    ]
    monkeypatch.setattr("edge_fleet.standings.work.recheck_ms", lambda _: LONGEST_MS)
    fleet.settled()
    for _ in range(4):
        fleet.now_ms += 60_000
        fleet.report()
        assert fleet.settled().judged_ms == START_MS
    fleet.now_ms = START_MS + LONGEST_MS + 1
    assert fleet.settled().judged_ms == fleet.now_ms
