"""What is read of stored windows for the gates."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fleet_rows import digest
from rollout_fleet import Fleet, file

from edge_contracts.sketch import bin_index
from edge_fleet.rollouts.members import load_members
from edge_fleet.rollouts.readings import load_readings


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
