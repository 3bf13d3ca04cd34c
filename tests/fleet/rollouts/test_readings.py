"""What is read of stored windows for the gates."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from fleet_rows import digest
from rollout_fleet import Fleet, file
from sqlalchemy import Connection, func, select

from edge_contracts.sketch import bin_index
from edge_fleet.evidence import Member
from edge_fleet.reading import Reading
from edge_fleet.rollouts.members import load_members
from edge_fleet.rollouts.readings import Since, want
from edge_fleet.schema import windows


def load_readings(
    connection: Connection, members: Sequence[Member], started_ms: int, most_before: int = 100_000
) -> list[Reading]:
    newest = connection.scalar(select(func.max(windows.c.id))) or 0
    since = Since(connection, want(connection, members, started_ms, most_before), None, newest)
    return [reading for _, found in since.fresh() for reading in found]


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    built = Fleet(file(tmp_path / "fleet.db"))
    built.enrol(*(f"cam-{i}" for i in range(6)), site="lab")
    built.publish("1")
    yield built
    built.store.close()


def test_what_windows_say_of_doubt_noise_and_memory_reaches_the_gates(fleet: Fleet) -> None:
    slow = {"bins": {str(bin_index(80.0)): 9}}
    shadow = {"bundle": digest("1"), "compared": 9, "agreed": 7, "latency_ms": slow}
    lineup = {"sure": 5, "second": 2, "uncertain": 1, "labelled": 4, "correct": 3, "shadow": shadow}
    rollout = fleet.begin("1", "100%")
    device = min(fleet.members(rollout))
    fleet.say(device)
    fleet.report(
        device, digest("1"), lineup=lineup, merged=3, rss_bytes=10, child_rss_bytes=5, temperature_c=61.0
    )
    fleet.report(device, digest("1"), lineup={"role": "second", "sure": 99})
    fleet.report(device, digest("1"), epsilon=0.5)
    with fleet.store.read() as connection:
        members = [row.member for row in load_members(connection, rollout)]
        first, noisy = load_readings(connection, members, 0)
    assert (first.sure, first.second, first.uncertain, first.labelled, first.correct) == (5, 2, 1, 4, 3)
    assert first.shadow_ms.bins == {bin_index(80.0): 9}
    assert (first.shadow, first.compared, first.agreed) == (digest("1"), 9, 7)
    assert (first.merged, first.rss_bytes, first.temperature_c, first.noisy) == (3, 15, 61.0, False)
    assert noisy.noisy


def test_of_the_day_before_a_part_is_read_that_leaves_no_device_out_and_all_since(fleet: Fleet) -> None:
    fleet.publish("2")
    devices = [f"cam-{i}" for i in range(6)]
    for _ in range(50):
        for device in devices:  # in turns: every so-many-th row would be of the same devices
            fleet.report(device, digest("1"))
    fleet.now_ms += 1000
    rollout, started_ms = fleet.begin("2", "100%"), fleet.now_ms
    with fleet.store.read() as connection:
        reached = [row.member for row in load_members(connection, rollout)]
    members = [replace(member, previous=digest("1")) for member in reached]
    for device in devices:
        fleet.report(device, digest("1"), inferences=7)
    with fleet.store.read() as connection:
        everything = load_readings(connection, members, started_ms)
        part = load_readings(connection, members, started_ms, most_before=60)
        newest = connection.scalar(select(func.max(windows.c.id))) or 0
        since = Since(connection, want(connection, members, started_ms, 60), newest, newest)
        again = [r for _, found in since.again({"cam-3": -math.inf}, fresh=True) for r in found]
    assert again == [r for r in part if r.device == "cam-3"], "the same part when they are read again"
    assert len(everything) == 306
    before = Counter(r.device for r in part if r.inferences != 7)
    assert 45 <= before.total() <= 75
    assert all(4 <= before[device] <= 16 for device in devices)
    assert Counter(r.device for r in part if r.inferences == 7) == dict.fromkeys(devices, 1)
