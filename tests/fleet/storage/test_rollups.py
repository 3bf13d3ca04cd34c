from __future__ import annotations

from typing import Any

import pytest
from fleet_device import SOME_BUNDLE, window
from fleet_streams import Device
from sqlalchemy import select

from edge_contracts.lineup import LineupCounts
from edge_contracts.messages import ScalarCounts
from edge_contracts.sketch import QuantileSketch
from edge_fleet.schema import rollups
from edge_fleet.storage.rollups import DAY_S, FLEET, HOUR_S, MINUTE_S, roll_up, series
from edge_fleet.store import Store

HOUR_MS = 3_600_000
FIRST_MS = 10 * HOUR_MS


def _send(device: Device, received_ms: int, **fields: Any) -> None:
    device.outbox.add(window(**fields))
    device.take(device.telemetry(device.outbox.next_seq - 1, received_ms))


def _roll(store: Store, most: int = 1000) -> int:
    with store.write() as connection:
        return roll_up(connection, most)


def _series(store: Store, step_s: int, device: str = FLEET) -> list[tuple[int, int]]:
    with store.read() as connection:
        return [(row.start_ms, row.inferences) for row in series(connection, step_s, 0, device)]


@pytest.fixture
def devices(store: Store) -> list[Device]:
    found = [Device(store, name) for name in ("d1", "d2")]
    for device in found:
        device.take(device.state())
    return found


def test_windows_add_up_by_hour_and_day_for_each_device_and_by_minute_for_all(
    store: Store, devices: list[Device]
) -> None:
    one, other = devices
    _send(one, FIRST_MS, inferences=10)
    _send(one, FIRST_MS + 59_999, inferences=20)
    _send(one, FIRST_MS + HOUR_MS, inferences=40)
    _send(other, FIRST_MS + 60_000, inferences=5)
    assert _roll(store) == 4 and _roll(store) == 0
    assert _series(store, HOUR_S, "d1") == [(FIRST_MS, 30), (FIRST_MS + HOUR_MS, 40)]
    assert _series(store, HOUR_S, "d2") == [(FIRST_MS, 5)]
    assert _series(store, HOUR_S) == [(FIRST_MS, 35), (FIRST_MS + HOUR_MS, 40)]
    assert _series(store, DAY_S) == [(0, 75)]
    assert _series(store, MINUTE_S) == [(FIRST_MS, 30), (FIRST_MS + 60_000, 5), (FIRST_MS + HOUR_MS, 40)]
    assert _series(store, MINUTE_S, "d1") == []


def test_what_comes_now_is_in_the_hour_and_the_day_in_which_it_came(
    store: Store, devices: list[Device]
) -> None:
    day_ms = 20_454 * 24 * HOUR_MS  # 2026-01-01, 00:00 UTC
    _send(devices[0], day_ms + 23 * HOUR_MS + 3_599_999, inferences=7)
    _roll(store)
    assert _series(store, DAY_S, "d1") == [(day_ms, 7)]
    assert _series(store, HOUR_S, "d1") == [(day_ms + 23 * HOUR_MS, 7)]
    assert _series(store, MINUTE_S) == [(day_ms + 24 * HOUR_MS - 60_000, 7)]


def test_sketches_and_counts_add_up_and_the_largest_is_kept(store: Store, devices: list[Device]) -> None:
    _send(
        devices[0],
        FIRST_MS,
        errors={"oom": 2},
        latency_ms=QuantileSketch(bins={3: 1, 4: 2}),
        scalars=(ScalarCounts(name="x", counts=(1, 2)),),
        rss_bytes=100,
        child_rss_bytes=7,
        cpu_s=0.25,
        temperature_c=50.0,
        drifting=("data-drift",),
    )
    _send(
        devices[0],
        FIRST_MS + 1,
        errors={"nan": 1},
        latency_ms=QuantileSketch(bins={4: 5}),
        scalars=(ScalarCounts(name="x", counts=(10, 20)),),
        rss_bytes=90,
        cpu_s=0.5,
        temperature_c=None,
        merged=3,
    )
    _roll(store, 1), _roll(store, 1)  # in two steps: what is stored is added to
    with store.read() as connection:
        (row,) = series(connection, DAY_S, 0, "d1")
    assert (row.windows, row.errors, row.drifting, row.bundle) == (4, 3, 1, SOME_BUNDLE)
    assert (row.rss_bytes, row.temperature_c, row.cpu_s) == (107, 50.0, 0.75)
    assert (row.labelled, row.correct, row.uncertain) == (0, 0, 0), "no window had a lineup"
    assert row.latency == {"3": 1, "4": 7}
    assert row.scalars == {"x": [11, 22]}


def test_noisy_counts_and_second_models_stay_out(store: Store, devices: list[Device]) -> None:
    _send(devices[0], FIRST_MS, epsilon=1.0, scalars=(ScalarCounts(name="x", counts=(1, 2)),))
    _send(devices[0], FIRST_MS, lineup=LineupCounts(role="second", sure=1), inferences=1_000)
    _roll(store)
    with store.read() as connection:
        (row,) = series(connection, DAY_S, 0)
    assert (row.scalars, row.inferences) == ({}, 10)


def test_a_step_that_is_undone_counts_nothing_and_one_that_is_repeated_counts_once(
    store: Store, devices: list[Device]
) -> None:
    _send(devices[0], FIRST_MS, inferences=10)
    with pytest.raises(ZeroDivisionError), store.write() as connection:
        roll_up(connection)
        raise ZeroDivisionError
    with store.read() as connection:
        assert connection.execute(select(rollups)).all() == []
    assert _roll(store) == 1
    assert _roll(store) == 0
    assert _series(store, DAY_S) == [(0, 10)]
