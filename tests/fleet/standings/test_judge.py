"""Baselines are read once, and those of releases that are past are not kept for ever."""

from __future__ import annotations

import pytest
from fleet_rows import FleetRows, digest

from edge_fleet.standings import judge
from edge_fleet.standings.judge import Baselines
from edge_fleet.store import Store


def test_baselines_of_bundles_that_nobody_runs_any_more_are_forgotten(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judge, "MOST_BUNDLES", 3)
    rows = FleetRows(store, lambda: 1_700_000_000_000)
    versions = [str(number) for number in range(9)]
    for version in versions:
        rows.publish(version)
    baselines = Baselines()
    with store.read() as connection:
        for version, before in zip(versions[1:], versions[:-1], strict=True):
            asked = {digest(version), digest(before)}
            found = baselines.of(connection, asked)
            assert asked <= found.keys()
            assert len(found) <= 3 + len(asked)
