"""Measuring on rows: each rule finds its own fault, with evidence, and nothing on a healthy fleet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from fleet_rows import FleetRows, digest
from sqlalchemy import insert, select, update

from edge_contracts.digest import short
from edge_contracts.sketch import bin_index
from edge_fleet import schema
from edge_fleet.alerts import findings, of_bundles
from edge_fleet.alerts.findings import PERSONAL_MOST, measure, together
from edge_fleet.alerts.lately import DAY_MS, HOUR_MS, first_id_since
from edge_fleet.alerts.machine import Finding
from edge_fleet.alerts.proof import proof
from edge_fleet.alerts.rows import set_rule
from edge_fleet.alerts.rules import RULES
from edge_fleet.alerts.watch import Watch
from edge_fleet.events import EventBus
from edge_fleet.refusals import AGAIN_MS, Refusals
from edge_fleet.schema.telemetry import CLOCK_IS_WRONG
from edge_fleet.services import Services
from edge_fleet.storage.rollups import roll_up
from edge_fleet.store import Store

EPOCH = "0" * 16
NOW = 10 * DAY_MS
BUNDLE = digest("1")


class Clock:
    def __init__(self) -> None:
        self.ms = NOW

    def __call__(self) -> int:
        return self.ms


class NoDispatch:
    def soon(self, devices: object) -> None:
        raise AssertionError("nobody is assigned anything")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def fleet(store: Store, clock: Clock) -> FleetRows:
    rows = FleetRows(store, clock)
    rows.enrol("d1", "d2")
    rows.publish("1")
    for device in ("d1", "d2"):
        runs(store, device, "1")
    return rows


def bad(store: Store, now_ms: int = NOW) -> dict[tuple[str, str], Finding]:
    """What would raise an alert."""
    with store.read() as connection:
        found = measure(connection, now_ms)
    return {(f.rule, f.subject): f for f in found if f.value >= RULES[f.rule].raise_at}


def add(store: Store, table: str, **values: Any) -> None:
    with store.write() as connection:
        connection.execute(insert(schema.metadata.tables[table]).values(**values))


def envelope(store: Store, seq: int, raw: bytes) -> None:
    where = {"device": "d1", "epoch": EPOCH, "seq": seq, "received_ms": NOW}
    add(store, "envelopes", **where, prev=b"p" * 16, chain=b"c" * 16, raw=raw)


def test_a_healthy_fleet_raises_nothing(fleet: FleetRows, clock: Clock) -> None:
    for ago in (DAY_MS // 2, HOUR_MS // 2, 0):
        clock.ms = NOW - ago
        fleet.report("d1", BUNDLE)
    assert bad(fleet.store) == {}


def test_a_fork_is_proved_by_both_forms(fleet: FleetRows) -> None:
    envelope(fleet.store, 4, b"one")
    add(fleet.store, "forks", device="d1", epoch=EPOCH, seq=4, chain=b"x" * 16, received_ms=NOW, raw=b"other")
    found = bad(fleet.store)["fork", "d1"]
    with fleet.store.read() as connection:
        messages = proof(connection, "d1", found.evidence)
    assert [bytes.fromhex(m["envelope"]) for m in messages] == [b"one", b"other"]


@pytest.mark.parametrize(
    ("rule", "reason", "times"),
    [
        ("bad-signature", "signature-invalid", 1),
        ("replay", "replayed", 3),
        ("fork", "chain-broken", 1),
        ("fork", "two-memories", 1),
    ],
)
def test_a_refused_message_is_kept_as_it_came(fleet: FleetRows, rule: str, reason: str, times: int) -> None:
    refusals = Refusals()
    for number in range(times):
        refusals.count(reason, "d1", "why", NOW, "edge/v1/f/d1/telemetry", f"raw {number}".encode())
    with fleet.store.write() as connection:
        refusals.write(connection)
    found = bad(fleet.store)[rule, "d1"]
    assert found.value == times
    with fleet.store.read() as connection:
        [message] = proof(connection, "d1", found.evidence)
    assert bytes.fromhex(message["envelope"]) == f"raw {times - 1}".encode()
    assert message["topic"] == "edge/v1/f/d1/telemetry"
    assert bad(fleet.store, NOW + 2 * HOUR_MS).keys() <= {("silence", "d1"), ("silence", "d2")}


def test_all_reasons_of_a_device_count_together(fleet: FleetRows) -> None:
    refusals = Refusals()
    for at, reason in enumerate(("signature-invalid", "key-unknown", "key-unknown", "topic-mismatch")):
        refusals.count(reason, "d1", f"case {at}", NOW + at, "t", reason.encode())
    with fleet.store.write() as connection:
        refusals.write(connection)
    found = bad(fleet.store, NOW + 9)["bad-signature", "d1"]
    assert found.value == 4
    assert found.why == (
        "1 refused as topic-mismatch in its name, 2 refused as key-unknown in its name, "
        "1 refused as signature-invalid in its name; the last: case 3"
    )
    assert found.evidence["reason"] == "topic-mismatch"


def test_the_count_of_refused_messages_begins_anew_after_a_quiet_hour(fleet: FleetRows) -> None:
    refusals = Refusals()
    for at_ms in (NOW - AGAIN_MS, NOW - AGAIN_MS + 1, NOW + 1):
        refusals.count("replayed", "d1", "", at_ms, "t", b"x")
        with fleet.store.write() as connection:
            refusals.write(connection)
    with fleet.store.read() as connection:
        [found] = [f for f in measure(connection, NOW + 2) if f.rule == "replay"]
    assert found.value == 1


def test_strangers_leave_no_message_behind(fleet: FleetRows) -> None:
    refusals = Refusals()
    refusals.count("device-unknown", "", "", NOW, "t", b"x")
    with fleet.store.write() as connection:
        refusals.write(connection)
    with fleet.store.read() as connection:
        assert connection.execute(schema.refused_messages.select()).all() == []


def test_a_gap_is_told_with_its_neighbours(fleet: FleetRows) -> None:
    for seq in (2, 5):
        envelope(fleet.store, seq, f"e{seq}".encode())
    gap = {
        "device": "d1",
        "epoch": EPOCH,
        "first_seq": 3,
        "last_seq": 4,
        "records": 20,
        "reason": "outbox full",
    }
    add(fleet.store, "gaps", **gap, received_ms=NOW)
    found = bad(fleet.store)["gap", "d1"]
    assert found.value == 20 and "3-4" in found.why and "outbox full" in found.why
    with fleet.store.read() as connection:
        assert [m["seq"] for m in proof(connection, "d1", found.evidence)] == [2, 5]


def test_a_hole_that_nobody_owns_up_to_is_found(fleet: FleetRows, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = {"device": "d1", "epoch": EPOCH, "chain": b"c" * 16, "started_ms": NOW}
    add(fleet.store, "streams", **stream, high=3, top=3)
    assert bad(fleet.store) == {}
    with fleet.store.write() as connection:
        connection.execute(update(schema.streams).values(top=6))
    envelope = {"device": "d1", "epoch": EPOCH, "prev": b"p" * 16, "chain": b"c" * 16, "raw": b""}
    add(fleet.store, "envelopes", **envelope, seq=6, received_ms=NOW)
    found = bad(fleet.store)["hole", "d1"]
    assert (found.value, found.why) == (
        2,  # what came after it is not missing
        f"envelope 4 of epoch {EPOCH} and 1 more never came, though number 6 did, and the device does "
        "not own up to it",
    )
    add(fleet.store, "envelopes", **envelope, seq=5, received_ms=NOW)
    found = bad(fleet.store)["hole", "d1"]
    assert found.value == 1 and f"envelope 4 of epoch {EPOCH} never came, though number 6" in found.why
    with fleet.store.write() as connection:
        connection.execute(update(schema.streams).values(top=60))
    monkeypatch.setattr(findings, "COUNTED", 1)  # to count all that came since is work without end
    assert bad(fleet.store)["hole", "d1"].value == 1
    monkeypatch.setattr(findings, "COUNTED", 2)
    assert bad(fleet.store)["hole", "d1"].value == 55


def test_a_hole_is_over_an_hour_after_the_device_began_another_epoch_and_when_it_is_put_out(
    fleet: FleetRows,
) -> None:
    """Nobody will ever send what is missing: an alert that cannot end tells nothing."""
    old, new = EPOCH, "1" * 16
    stream = {"device": "d1", "chain": b"c" * 16}
    add(fleet.store, "streams", **stream, epoch=old, started_ms=NOW, high=3, top=6)
    with fleet.store.write() as connection:
        connection.execute(update(schema.devices).where(schema.devices.c.id == "d1").values(epoch=old))
    later = NOW + 100 * HOUR_MS
    assert ("hole", "d1") in bad(fleet.store, later)
    add(fleet.store, "streams", **stream, epoch=new, started_ms=later, high=0, top=0)
    with fleet.store.write() as connection:
        connection.execute(update(schema.devices).where(schema.devices.c.id == "d1").values(epoch=new))
    assert ("hole", "d1") in bad(fleet.store, later + HOUR_MS)
    assert ("hole", "d1") not in bad(fleet.store, later + HOUR_MS + 1)
    with fleet.store.write() as connection:
        connection.execute(update(schema.devices).where(schema.devices.c.id == "d1").values(revoked_ms=NOW))
    assert ("hole", "d1") not in bad(fleet.store, later)


def test_silence_is_counted_in_minutes_and_not_of_revoked_devices(fleet: FleetRows) -> None:
    with fleet.store.write() as connection:
        connection.execute(update(schema.devices).where(schema.devices.c.id == "d2").values(revoked_ms=NOW))
    later = NOW + 16 * 60_000
    found = bad(fleet.store, later)
    assert set(found) == {("silence", "d1")} and found["silence", "d1"].value == 16


def test_drift_is_the_share_of_devices_that_say_so_now(fleet: FleetRows) -> None:
    fleet.report("d1", BUNDLE, drifting=["data-drift"], seq=1)
    fleet.report("d2", BUNDLE)
    found = bad(fleet.store)["drift", BUNDLE]
    assert found.value == 0.5
    assert found.evidence["devices"] == ["d1"] and found.evidence["envelopes"] == [f"d1 {EPOCH}:1"]
    fleet.report("d1", BUNDLE, seq=2)
    assert bad(fleet.store) == {}, "the newest window counts"


def test_drift_is_counted_for_each_model_of_a_device_and_for_an_hour(fleet: FleetRows) -> None:
    other = digest("2")
    fleet.report("d1", BUNDLE, seq=1)
    fleet.report("d1", other, seq=2, drifting=["data-drift"], lineup={"role": "second"})
    with fleet.store.read() as connection:
        found = {one.subject: one.value for one in measure(connection, NOW) if one.rule == "drift"}
        later = {one.subject for one in measure(connection, NOW + HOUR_MS + 1) if one.rule == "drift"}
    assert found == {BUNDLE: 0.0, other: 1.0}
    assert later == set()


def leaves(fleet: FleetRows, device: str) -> None:
    """The device goes on to the next bundle."""
    runs(fleet.store, device, "2")


def is_put_out(fleet: FleetRows, device: str) -> None:
    with fleet.store.write() as connection:
        gone = update(schema.devices).where(schema.devices.c.id == device).values(revoked_ms=NOW)
        connection.execute(gone)


@pytest.mark.parametrize("goes", [leaves, is_put_out])
def test_a_device_that_has_gone_on_or_was_put_out_drifts_no_more(
    fleet: FleetRows, goes: Callable[[FleetRows, str], None]
) -> None:
    fleet.report("d1", BUNDLE, drifting=["data-drift"], seq=1)
    fleet.report("d2", BUNDLE, seq=1)
    assert bad(fleet.store)["drift", BUNDLE].value == 0.5
    goes(fleet, "d1")
    assert ("drift", BUNDLE) not in bad(fleet.store)
    with fleet.store.read() as connection:
        [found] = [one for one in measure(connection, NOW) if one.rule == "drift"]
    assert (found.value, found.why) == (0.0, f"0 of 1 devices with {short(BUNDLE)}: no drift")


def test_a_drift_that_was_taken_back_before_it_fired_never_fires_and_asks_for_no_retraining(
    fleet: FleetRows, clock: Clock
) -> None:
    watch = Watch(Services(fleet.store, EventBus(), NoDispatch(), clock), lambda: True)
    for minute in range(40):
        if minute < 5:
            for device in ("d1", "d2"):
                fleet.report(device, BUNDLE, drifting=["data-drift"], seq=minute)
        if minute == 5:
            for device in ("d1", "d2"):
                leaves(fleet, device)
        watch.round(clock.ms)
        clock.ms += 60_000
    with fleet.store.read() as connection:
        [alert] = connection.execute(select(schema.alerts).where(schema.alerts.c.rule == "drift"))
        of_it = select(schema.alert_steps.c.event).where(schema.alert_steps.c.alert == alert.id)
        steps = list(connection.execute(of_it).scalars())
    assert (alert.phase, steps) == ("resolved", ["calmed"])


def test_a_latency_that_stays_bad_is_not_over_because_the_day_before_became_bad_too(
    fleet: FleetRows, clock: Clock
) -> None:
    """A twentieth of a day that is slow moves the day's own p95: the alert ended within 2.5 hours."""
    watch = Watch(Services(fleet.store, EventBus(), NoDispatch(), clock), lambda: True)
    told: list[tuple[float, str]] = []

    def go(hours: float, ms: float, per_hour: int = 12) -> None:
        for _ in range(round(hours * per_hour)):
            clock.ms += HOUR_MS // per_hour
            for device in ("d1", "d2"):
                fleet.report(device, BUNDLE, latency={str(bin_index(ms)): 400})
            watch.round(clock.ms)
            with fleet.store.read() as connection:
                rows = connection.execute(select(schema.alerts).where(schema.alerts.c.rule == "latency"))
                phases = [row.phase for row in rows]
            if phases and (not told or told[-1][1] != phases[-1]):
                told.append(((clock.ms - NOW) / HOUR_MS, phases[-1]))

    go(24, 5.0, per_hour=1)
    assert told == []
    go(4, 10.0)
    go(20, 10.0, per_hour=1)
    go(4, 10.0)
    assert [phase for _, phase in told] == ["pending", "firing"]
    go(2, 5.0)
    assert [phase for _, phase in told] == ["pending", "firing", "resolved"]
    assert told[-1][0] == pytest.approx(24 + 28 + 1.25, abs=0.1), "the hour is good again, and for 15 minutes"
    with fleet.store.read() as connection:
        rows = connection.execute(select(schema.alerts).where(schema.alerts.c.rule == "latency")).all()
    [alert] = rows
    assert alert.evidence["before_ms"] == pytest.approx(5, rel=0.02)
    assert "5 ms in the day before it became slow" in alert.why.replace("4.98", "5")


def test_a_latency_of_a_bundle_that_every_device_has_left_is_over(fleet: FleetRows, clock: Clock) -> None:
    clock.ms = NOW - DAY_MS // 2
    fleet.report("d1", BUNDLE)
    clock.ms = NOW
    fleet.report("d1", BUNDLE, latency={str(bin_index(10.0)): 400})
    assert ("latency", BUNDLE) in bad(fleet.store)
    for device in ("d1", "d2"):
        leaves(fleet, device)
    assert ("latency", BUNDLE) not in bad(fleet.store)
    with fleet.store.read() as connection:
        found = [one for one in measure(connection, NOW, [("latency", BUNDLE)]) if one.rule == "latency"]
    assert [one.value for one in found] == [0.0], "and an open alert is told so"


@pytest.mark.parametrize(("errors", "burns"), [(0, False), (3, False), (5, True)])
def test_errors_beyond_the_promise_burn_the_budget(fleet: FleetRows, errors: int, burns: bool) -> None:
    fleet.report("d1", BUNDLE, inferences=400 - errors, errors=errors)  # 1 % is promised
    assert (("error-budget", BUNDLE) in bad(fleet.store)) == burns
    if burns:
        found = bad(fleet.store)["error-budget", BUNDLE]
        assert found.value == pytest.approx(1.25) and found.evidence["devices"] == ["d1"]
        assert "5 of 400" in found.why and "1.00% are allowed" in found.why


def test_a_manifest_that_cannot_be_read_has_the_usual_budget_and_ends_nothing(fleet: FleetRows) -> None:
    with fleet.store.write() as connection:
        connection.execute(update(schema.bundles).values(manifest="{}"))
    fleet.report("d1", BUNDLE, inferences=300, errors=100)
    assert "1.00% are allowed" in bad(fleet.store)["error-budget", BUNDLE].why


def test_what_is_summed_up_burns_as_its_windows_did_and_is_counted_once(fleet: FleetRows) -> None:
    fleet.report("d1", BUNDLE, inferences=200, errors=2)
    with fleet.store.write() as connection:
        assert roll_up(connection) == 1
    fleet.report("d2", BUNDLE, inferences=196, errors=6)
    found = bad(fleet.store)["error-budget", BUNDLE]
    assert "8 of 404" in found.why and found.evidence["devices"] == ["d2", "d1"]
    with fleet.store.write() as connection:
        roll_up(connection)
    assert bad(fleet.store)["error-budget", BUNDLE].why == found.why
    assert ("error-budget", BUNDLE) not in bad(fleet.store, NOW + HOUR_MS + 60_000)


def test_of_very_many_windows_single_devices_are_looked_for_among_the_newest(
    fleet: FleetRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet.report("d1", BUNDLE, inferences=100, errors=50, drifting=["data-drift"])
    fleet.report("d2", BUNDLE, inferences=100, errors=5)
    monkeypatch.setattr(of_bundles, "NEWEST", 0)
    monkeypatch.setattr(of_bundles, "LATEST", 0)
    found = bad(fleet.store)
    assert found["error-budget", BUNDLE].evidence["devices"] == ["d2"]
    assert "55 of 255" in found["error-budget", BUNDLE].why, "counted are all"
    assert ("drift", BUNDLE) not in found


def test_wrong_clocks_are_found_by_their_own_index(fleet: FleetRows) -> None:
    fleet.report("d1", BUNDLE, clock_step_ms=7_200_000)
    with fleet.store.read() as connection:
        if connection.dialect.name != "sqlite":
            pytest.skip("PostgreSQL plans by statistics: one row is read as it is")
        statement = f"EXPLAIN QUERY PLAN SELECT id FROM windows WHERE received_ms >= ? AND {CLOCK_IS_WRONG}"
        plan = connection.exec_driver_sql(statement, (1,)).one()
    assert "windows_by_wrong_clock" in plan[3]
    assert ("clock", "d1") in bad(fleet.store)


def test_errors_that_have_stopped_burn_no_more(fleet: FleetRows, clock: Clock) -> None:
    clock.ms = NOW - HOUR_MS // 2
    fleet.report("d1", BUNDLE, inferences=400, errors=100)
    clock.ms = NOW
    fleet.report("d1", BUNDLE, inferences=400)
    assert bad(fleet.store) == {}


def test_a_bundle_that_became_slow_is_compared_with_the_day_before(fleet: FleetRows, clock: Clock) -> None:
    clock.ms = NOW - DAY_MS // 2
    fleet.report("d1", BUNDLE)  # 5 ms
    clock.ms = NOW
    fleet.report("d1", BUNDLE, latency={str(bin_index(10.0)): 400})
    assert bad(fleet.store)["latency", BUNDLE].value == pytest.approx(2, rel=0.1)


def test_a_fraction_of_a_millisecond_more_is_as_usual(fleet: FleetRows, clock: Clock) -> None:
    clock.ms = NOW - DAY_MS // 2
    fleet.report("d1", BUNDLE, latency={str(bin_index(0.2)): 400})
    clock.ms = NOW
    fleet.report("d1", BUNDLE, latency={str(bin_index(1.0)): 400})
    assert bad(fleet.store) == {}
    fleet.report("d1", BUNDLE, latency={str(bin_index(2.0)): 4000})
    assert bad(fleet.store)["latency", BUNDLE].value == pytest.approx(10, rel=0.1)


def test_few_latencies_are_no_evidence(fleet: FleetRows, clock: Clock) -> None:
    clock.ms = NOW - DAY_MS // 2
    fleet.report("d1", BUNDLE)
    clock.ms = NOW
    fleet.report("d1", BUNDLE, latency={str(bin_index(10.0)): 99})
    assert bad(fleet.store) == {}


@pytest.mark.parametrize("code", ["no-space", "outbox-unwritable"])
def test_a_disk_that_takes_nothing_and_a_clock_that_jumps_are_told(fleet: FleetRows, code: str) -> None:
    event = {"name": "refused", "code": code, "detail": "needs 5 MB", "time_ms": 1}
    add(fleet.store, "events", device="d1", epoch=EPOCH, seq=1, received_ms=NOW, **event)
    fleet.report("d2", BUNDLE, clock_step_ms=-90_000)
    found = bad(fleet.store)
    assert "needs 5 MB" in found["low-disk", "d1"].why
    assert found["clock", "d2"].value == 90 and "jumped by -90 s" in found["clock", "d2"].why
    fleet.report("d1", BUNDLE, end_ms=NOW + 120_000)
    assert "120 s ahead" in bad(fleet.store)["clock", "d1"].why


def test_very_many_devices_become_one_alert_and_open_ones_are_followed_alone() -> None:
    found = [Finding("silence", f"d{n}", 15.0 + n, "quiet") for n in range(PERSONAL_MOST + 2)]
    kept = together(found, frozenset({("silence", "d3")}))
    assert [f.subject for f in kept] == ["d3", "fleet"]
    assert kept[1].evidence["count"] == PERSONAL_MOST + 1 and kept[1].value == PERSONAL_MOST + 16
    assert len(together(found[:PERSONAL_MOST], frozenset())) == PERSONAL_MOST


def test_devices_that_are_not_bad_enough_are_not_counted_among_very_many() -> None:
    """Of a fleet that reports every ten minutes many are quiet for six; one is silent."""
    quiet = [Finding("silence", f"d{n}", 6.0, "quiet") for n in range(5 * PERSONAL_MOST)]
    silent = Finding("silence", "cam-1", 16.0, "silent")
    assert together([*quiet, silent], frozenset()) == [*quiet, silent], "of which only one raises an alert"
    short = {"silence": replace(RULES["silence"], raise_at=6.0)}
    [fleet] = together([*quiet, silent], frozenset(), short)
    assert (fleet.subject, fleet.evidence["count"]) == ("fleet", 5 * PERSONAL_MOST + 1)


def test_the_first_row_of_an_hour_is_found_by_halving(fleet: FleetRows, clock: Clock) -> None:
    with fleet.store.read() as connection:
        assert first_id_since(connection, schema.windows, 0) == 0
    for minute in range(20):
        clock.ms = NOW + minute
        fleet.report("d1", BUNDLE)
    with fleet.store.read() as connection:
        rows = connection.execute(schema.windows.select()).all()
        for wanted in (0, NOW, NOW + 7, NOW + 19):
            first = first_id_since(connection, schema.windows, wanted)
            assert first == min(row.id for row in rows if row.received_ms >= wanted)
        assert first_id_since(connection, schema.windows, NOW + 99) == max(row.id for row in rows) + 1


def runs(store: Store, device: str, version: str) -> None:
    """A device's last word: what answers there."""
    state = {"counter": 0, "active": {"bundle": digest(version)}, "knows": []}
    with store.write() as connection:
        connection.execute(update(schema.devices).where(schema.devices.c.id == device).values(state=state))


@pytest.mark.parametrize("rule", ["drift", "error-budget", "latency"])
def test_what_is_wrong_with_a_bundle_is_over_when_every_device_has_left_it(
    fleet: FleetRows, rule: str
) -> None:
    open_ones = [(rule, BUNDLE)]
    for device in ("d1", "d2"):
        runs(fleet.store, device, "1")
    with fleet.store.read() as connection:
        assert measure(connection, NOW, open_ones) == [], "silent devices have not become well"
    runs(fleet.store, "d1", "2")
    with fleet.store.read() as connection:
        assert measure(connection, NOW, open_ones) == [], "one has it still"
    runs(fleet.store, "d2", "2")
    with fleet.store.read() as connection:
        [found] = measure(connection, NOW, open_ones)
        assert measure(connection, NOW) == [], "nothing is said of what is not open"
    assert (found.rule, found.subject, found.value) == (rule, BUNDLE, 0.0)


def test_a_device_that_was_put_out_keeps_no_alert_of_its_bundle_open(fleet: FleetRows) -> None:
    runs(fleet.store, "d1", "1")
    runs(fleet.store, "d2", "2")
    with fleet.store.write() as connection:
        gone = update(schema.devices).where(schema.devices.c.id == "d1").values(revoked_ms=NOW)
        connection.execute(gone)
        assert [one.value for one in measure(connection, NOW, [("drift", BUNDLE)])] == [0.0]


def test_a_release_that_was_taken_back_for_its_errors_leaves_no_alert_behind(
    fleet: FleetRows, clock: Clock
) -> None:
    services = Services(fleet.store, EventBus(), NoDispatch(), clock)
    watch, minute = Watch(services, lambda: True), 60_000

    def phases() -> list[str]:
        with fleet.store.read() as connection:
            rows = connection.execute(select(schema.alerts.c.phase).where(schema.alerts.c.subject == BUNDLE))
            return list(rows.scalars())

    runs(fleet.store, "d1", "1")
    runs(fleet.store, "d2", "2")
    for _ in range(3):
        fleet.report("d1", BUNDLE, inferences=200, errors=100)
        watch.round(clock.ms)
        clock.ms += minute
    assert phases() == ["firing"]
    runs(fleet.store, "d1", "2")
    for _ in range(30):
        watch.round(clock.ms)
        clock.ms += minute
    assert phases() == ["resolved"]


@pytest.mark.parametrize(("raise_at", "clear_at", "after_s", "fires"), [(0.5, 0.1, 31, 1), (0.5, 0.1, 29, 0)])
def test_a_silence_is_as_long_as_the_rule_says_however_short(
    fleet: FleetRows, clock: Clock, raise_at: float, clear_at: float, after_s: int, fires: int
) -> None:
    services = Services(fleet.store, EventBus(), NoDispatch(), clock)
    watch = Watch(services, lambda: True)
    with fleet.store.write() as connection:
        set_rule(connection, "silence", {"raise_at": raise_at, "clear_at": clear_at}, "anna", NOW)
        connection.execute(update(schema.devices).where(schema.devices.c.id == "d2").values(revoked_ms=NOW))
    watch.round(clock.ms)
    clock.ms += after_s * 1000
    watch.round(clock.ms)
    with fleet.store.read() as connection:
        rows = connection.execute(select(schema.alerts.c.rule, schema.alerts.c.phase)).all()
    assert [tuple(row) for row in rows] == [("silence", "firing")] * fires
