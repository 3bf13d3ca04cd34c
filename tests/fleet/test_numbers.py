"""A number is given out once, also by a server that was restored from a backup of before."""

from __future__ import annotations

from pathlib import Path

import pytest
from fleet_streams import Device
from sqlalchemy import Connection, insert, select

from edge_contracts.messages import Phase, Progress
from edge_fleet import numbers, orders, registry, schema
from edge_fleet.assignment import Event, State
from edge_fleet.store import Store

RESTORED_MS = 1_800_000_000_000


@pytest.fixture
def device(store: Store) -> Device:
    return Device(store)


def _says(device: Device, assignment: int, phase: Phase) -> None:
    device.take(device.state("status", progress=Progress(assignment=assignment, phase=phase)))


def _assignments(connection: Connection) -> list[tuple[int, str]]:
    own = schema.assignments.c
    rows = connection.execute(select(own.number, own.phase).order_by(own.number))
    return [(row.number, row.phase) for row in rows]


def test_assignments_of_a_device_are_counted_from_one(store: Store, device: Device) -> None:
    with store.write() as connection:
        assert [orders.issue(connection, device.name, None, n) for n in range(3)] == [1, 2, 3]


def test_after_a_restore_assignments_begin_above_whatever_was_given_out_since_the_backup(
    store: Store, device: Device
) -> None:
    with store.write() as connection:
        orders.issue(connection, device.name, None, 1)
        numbers.leap(connection, RESTORED_MS)
        assert orders.issue(connection, device.name, None, 2) == 1_800_000_001
        numbers.leap(connection, RESTORED_MS - 1_000_000)  # once more, by a clock that is behind
        assert orders.issue(connection, device.name, None, 2) == 1_800_000_002


def test_after_a_restore_releases_begin_a_thousand_further_and_the_first_of_a_fleet_is_one(
    store: Store,
) -> None:
    with store.write() as connection:
        numbers.leap(connection, RESTORED_MS)
        assert numbers.next_release(connection) == 1
        connection.execute(insert(schema.releases).values(counter=7, name="m", version="1", created_ms=1))
        assert numbers.next_release(connection) == 8
        numbers.leap(connection, RESTORED_MS)
        assert numbers.next_release(connection) == 1008


def test_the_next_number_is_above_what_the_device_has_seen(store: Store, device: Device) -> None:
    _says(device, 41, Phase.CONFIRMED)
    with store.write() as connection:
        assert orders.issue(connection, device.name, None, 1) == 42


@pytest.mark.parametrize("stated", [1 << 31, (1 << 32) + 5, numbers.BELIEVED - 1])
def test_a_number_beyond_32_bits_is_one_like_others(store: Store, device: Device, stated: int) -> None:
    _says(device, stated, Phase.CONFIRMED)
    with store.write() as connection:
        assert orders.issue(connection, device.name, None, 1) == stated + 1


@pytest.mark.parametrize("stated", [numbers.BELIEVED, (1 << 63) - 1])
def test_a_device_that_states_a_number_nobody_gave_out_stops_no_rollout(
    store: Store, device: Device, stated: int
) -> None:
    with store.write() as connection:
        orders.issue(connection, device.name, None, 1)
    _says(device, stated, Phase.CONFIRMED)
    with store.write() as connection:
        assert _assignments(connection) == [(1, State.PENDING)]
        assert orders.issue(connection, device.name, None, 2) == 2


def test_an_open_assignment_below_what_the_device_has_seen_is_given_again_above_it(
    store: Store, device: Device
) -> None:
    with store.write() as connection:
        orders.issue(connection, device.name, None, 1)
        orders.note(connection, device.name, 1, Event.SENT, 2)
        before = orders.last_change(connection)
    _says(device, 5, Phase.CONFIRMED)
    with store.read() as connection:
        assert _assignments(connection) == [(6, State.PENDING)]
        assert orders.changed_since(connection, before) == [device.name]
    _says(device, 6, Phase.CONFIRMED)
    with store.read() as connection:
        assert _assignments(connection) == [(6, State.CONFIRMED)]


def test_what_a_device_has_answered_stays_as_it_is_whatever_it_has_seen_since(
    store: Store, device: Device
) -> None:
    with store.write() as connection:
        orders.issue(connection, device.name, None, 1)
    _says(device, 1, Phase.CONFIRMED)
    _says(device, 5, Phase.CONFIRMED)
    with store.read() as connection:
        assert _assignments(connection) == [(1, State.CONFIRMED)]


def test_a_rollout_finds_its_device_under_the_new_number(store: Store, device: Device) -> None:
    digest = "sha256:" + "ab" * 32
    with store.write() as connection:
        registry._create(connection, "m", "1", 1)
        _bundle_and_rollout(connection, digest)
        number = orders.issue(connection, device.name, digest, 1, rollout="r1", stage=0)
        member = {"rollout": "r1", "device": device.name, "stage": 0, "bundle": digest}
        connection.execute(insert(schema.rollout_members).values(**member, number=number))
    _says(device, 9, Phase.ROLLED_BACK)
    with store.read() as connection:
        assert connection.execute(select(schema.rollout_members.c.number)).scalar_one() == 10
        assert _assignments(connection) == [(10, State.PENDING)]
    _says(device, 10, Phase.CONFIRMED)
    with store.read() as connection:
        assert connection.execute(select(schema.rollout_members.c.standing)).scalar_one() == "confirmed"


def _bundle_and_rollout(connection: Connection, digest: str) -> None:
    bundle = {"digest": digest, "counter": 1, "profile": "x86-cpu", "archive": digest, "archive_bytes": 1}
    connection.execute(insert(schema.bundles).values(**bundle, manifest="{}", key_id="k"))
    connection.execute(
        insert(schema.rollouts).values(
            id="r1", counter=1, plan={}, phase="running", stage=0, since_ms=1, created_ms=1, created_by="ada"
        )
    )


def test_a_published_release_has_the_next_counter(store: Store, tmp_path: Path) -> None:
    with store.write() as connection:
        numbers.leap(connection, RESTORED_MS)
        assert registry._create(connection, "m", "1", 1) == 1
        numbers.leap(connection, RESTORED_MS)
        assert registry._create(connection, "m", "2", 1) == 1002
