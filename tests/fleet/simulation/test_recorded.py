"""The recorded fleet in figures."""

from __future__ import annotations

import numpy as np
import pytest
from fleet_rows import FleetRows, digest

from edge_contracts.messages import Phase as Told
from edge_contracts.sketch import bin_index
from edge_fleet import orders
from edge_fleet.simulation.recorded import NothingRecorded, correlation, describe
from edge_fleet.store import Store


@pytest.fixture
def rows(store: Store) -> FleetRows:
    found = FleetRows(store, lambda: 1_000_000_000)
    found.publish("1", "arm-cpu", "coral-usb")
    found.enrol("a", "b", "c", site="lab")
    found.enrol("t", profile=("coral-usb",))
    return found


def test_a_fleet_is_described_by_what_it_reported(rows: FleetRows) -> None:
    for device, errors in (("a", 0), ("a", 0), ("b", 40), ("b", 40)):
        latency = {str(bin_index(20.0)): 160}
        lineup = {"sure": 90, "uncertain": 10, "labelled": 5, "correct": 4}
        rows.report(
            device, digest("1"), 160, errors=errors, latency=latency, duration_ms=30_000, lineup=lineup
        )
    with rows.store.read() as connection:
        arm, coral = describe(connection, 1_000_000_000).classes
    assert (arm.profile, arm.devices, dict(arm.labels)) == ("arm-cpu", 3, {"site": "lab"})
    assert arm.window_s == 30.0
    assert arm.inferences == 180  # 160 and 200
    assert arm.errors == pytest.approx(80 / 720)
    assert arm.uncertain == pytest.approx(0.1)
    assert arm.labels_per_window == 5
    assert arm.wrong == pytest.approx(0.2)
    assert arm.latency_ms == pytest.approx(20.0, rel=0.03)
    assert arm.between > 0.1
    assert arm.silent == pytest.approx(1 / 3, rel=0.01)
    assert arm.archive_bytes == 1
    assert (coral.profile, coral.devices) == ("coral-usb", 1)


def test_installations_are_those_of_the_last_assignments(rows: FleetRows) -> None:
    rows.report("a", digest("1"))
    with rows.store.write() as connection:
        for device in ("a", "b"):
            orders.issue(connection, device, digest("1"), 1_000_000_000 - 40_000)
    rows.say("a")
    rows.say("b", Told.REFUSED, code="no-space")
    with rows.store.read() as connection:
        arm = describe(connection, 1_000_000_000).classes[0]
    assert arm.install_failures == 0.5
    assert arm.install_s == pytest.approx(40.0)


def test_a_fleet_that_never_reported_cannot_be_described(rows: FleetRows) -> None:
    with rows.store.read() as connection, pytest.raises(NothingRecorded, match="--fleet"):
        describe(connection, 1_000_000_000)


@pytest.mark.parametrize("truth", [0.0, 0.1, 0.5])
def test_the_correlation_of_drawn_clusters_is_found_again(truth: float) -> None:
    random = np.random.default_rng(1)
    rates = np.full(2000, 0.2)
    if truth:
        size = 1 / truth - 1
        rates = random.beta(0.2 * size, 0.8 * size, 2000)
    total = random.integers(5, 60, 2000)
    bad = random.binomial(total, rates)
    assert correlation(bad.tolist(), total.tolist()) == pytest.approx(truth, abs=0.03)


def test_too_little_has_no_correlation() -> None:
    assert correlation([], []) == correlation([1.0], [5.0]) == correlation([0.0, 0.0], [5.0, 5.0]) == 0.0
