"""What devices measured of a bundle: sums by day, and the windows that are in none yet."""

from __future__ import annotations

import pytest
from fleet_rows import FleetRows, digest
from sqlalchemy import delete

from edge_contracts.sketch import bin_index
from edge_fleet import schema
from edge_fleet.lineage.rows import measured, reporting
from edge_fleet.storage.rollups import roll_up
from edge_fleet.store import Store


def test_sums_and_windows_are_counted_once_and_stay_when_windows_go(store: Store) -> None:
    rows = FleetRows(store, lambda: 1_700_000_000_000)
    rows.publish("1")
    rows.enrol("cam-0", "cam-1")
    with store.read() as connection:
        assert measured(connection, digest("1")) is None
    rows.report("cam-0", digest("1"), inferences=400, errors=4)
    with store.write() as connection:
        assert roll_up(connection) == 1
    rows.report("cam-1", digest("1"), inferences=100, errors=1, latency={str(bin_index(50.0)): 100})
    for gone in (False, True):
        with store.write() as connection:
            if gone:
                roll_up(connection)
                connection.execute(delete(schema.windows))
            found = measured(connection, digest("1"))
            assert reporting(connection, digest("1")) == (0 if gone else 2)
        assert found is not None
        assert (found.inferences, found.errors) == (500, 5)
        assert found.latency_p50_ms == pytest.approx(5.0, rel=0.03)
        assert found.latency_p95_ms == pytest.approx(50.0, rel=0.03)
    with store.read() as connection:
        assert measured(connection, digest("2")) is None
