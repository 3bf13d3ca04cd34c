"""The recorded fleet in figures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fleet_rows import FleetRows, digest
from sqlalchemy import update

from edge_contracts.messages import Phase as Told
from edge_contracts.sketch import bin_index
from edge_fleet import orders
from edge_fleet.lineage.resolution import Need
from edge_fleet.lineage.rows import set_software_needs
from edge_fleet.rollouts.plan import RolloutPlan, parse_plan
from edge_fleet.schema import bundles
from edge_fleet.simulation.recorded import NothingRecorded, correlation, describe
from edge_fleet.simulation.report import UNKNOWN, as_dict, lines
from edge_fleet.simulation.study import study
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


@pytest.mark.parametrize("code", ["crash", "golden-mismatch", "withdrawn", "downgrade"])
def test_what_failed_for_the_releases_own_sake_is_no_failure_of_a_good_one(
    rows: FleetRows, code: str
) -> None:
    rows.report("a", digest("1"))
    for device, at_ms in (("a", 40_000), ("b", 30_000), ("b", 20_000)):
        with rows.store.write() as connection:
            orders.issue(connection, device, digest("1"), 1_000_000_000 - at_ms)
        rows.say(device, *((Told.REFUSED, code) if at_ms == 20_000 else ()))
    with rows.store.read() as connection:
        arm = describe(connection, 1_000_000_000).classes[0]
    assert arm.install_failures == 0.0
    assert arm.install_s == pytest.approx(35.0)


def test_a_fleet_that_never_reported_cannot_be_described(rows: FleetRows) -> None:
    with rows.store.read() as connection, pytest.raises(NothingRecorded, match="--fleet"):
        describe(connection, 1_000_000_000)


def plan(**changes: Any) -> RolloutPlan:
    base = {"format": "edgefleet.rollout/1", "release": "digits@2", "stages": ["100%"]}
    return parse_plan({**base, **changes})


def publish_larger(rows: FleetRows, archive_bytes: int) -> None:
    """Release 2 for arm-cpu, of so many bytes."""
    rows.publish("2")
    with rows.store.write() as connection:
        larger = update(bundles).where(bundles.c.digest == digest("2"))
        connection.execute(larger.values(archive_bytes=archive_bytes))


def test_devices_that_a_release_leaves_out_are_not_described_for_its_plan_but_counted(
    rows: FleetRows,
) -> None:
    publish_larger(rows, 5000)
    rows.enrol("e", profile=("rpi5", "arm-cpu"), site="lab")  # the nearest bundle for it is arm-cpu's
    rows.enrol("f", runs="2")
    for device, kernel in (("a", "6.1.0"), ("b", "5.4.0"), ("c", "5.4.0"), ("e", "6.6.1")):
        rows.report(device, digest("1"), 400, software={"kernel": kernel}, errors=40 if kernel < "6" else 0)
    with rows.store.write() as connection:
        set_software_needs(connection, [Need("litert", "kernel", "6.0")], "anna", 0)
    with rows.store.read() as connection:
        found = describe(connection, 1_000_000_000, plan())
    assert [(one.profile, one.devices, one.archive_bytes) for one in found.classes] == [
        ("arm-cpu", 1, 5000),
        ("rpi5", 1, 5000),
    ]
    assert found.classes[0].errors == 0.0  # those of devices that get nothing are none of its own
    assert found.without == {
        "no artifact of the bundle for arm-cpu runs there: int8: litert needs kernel >= 6.0, "
        "the device has 5.4.0": 2,
        "no bundle for coral-usb; the release has arm-cpu": 1,
        "runs it already": 1,
    }
    studied = study(plan(gates={"error_rate": 0.02}), found, sizes=(1.0,), runs=2, workers=1)
    assert studied.devices == 2
    assert studied.rows[0].sent_bytes <= 10_000 and studied.rows[1].exposed_most <= 2
    assert "left out, 2: no artifact of the bundle for arm-cpu runs there" in "\n".join(lines(studied))
    assert as_dict(studied)["without"] == found.without


def test_a_plan_that_names_single_devices_is_described_by_them(rows: FleetRows) -> None:
    publish_larger(rows, 5000)
    rows.report("a", digest("1"))
    named = plan(select="device=a|b")
    with rows.store.read() as connection:
        found = describe(connection, 1_000_000_000, named)
    assert [one.devices for one in found.classes] == [2] and found.without == {}
    assert study(named, found, sizes=(1.0,), runs=1, workers=1).devices == 2


def test_a_stage_that_names_single_devices_or_a_profile_they_build_on_reaches_them(rows: FleetRows) -> None:
    publish_larger(rows, 5000)
    rows.enrol("e", profile=("rpi5", "arm-cpu"), site="lab")
    for device in ("a", "b", "c", "e"):
        rows.report(device, digest("1"), 400)
    asked = plan(stages=["device=b", "profile=arm-cpu"], gates={"error_rate": 0.02})
    with rows.store.read() as connection:
        found = describe(connection, 1_000_000_000, asked)
    assert {(one.profile, one.devices, one.named) for one in found.classes} == {
        ("arm-cpu", 1, ("device=b", "profile=arm-cpu")),
        ("arm-cpu", 2, ("profile=arm-cpu",)),
        ("rpi5", 1, ("profile=arm-cpu",)),
    }
    assert {one.bundle for one in found.classes} == {digest("2")}
    studied = study(asked, found, sizes=(1.0,), runs=3, workers=1)
    assert studied.empty == ()
    assert studied.rows[0].exposed_most == 4 and studied.rows[1].exposed_most == 1


def test_a_plan_with_windows_is_described_by_time_zone(rows: FleetRows) -> None:
    publish_larger(rows, 5000)
    rows.enrol("far", site="lab", tz="Asia/Tokyo")
    rows.report("a", digest("1"))
    with rows.store.read() as connection:
        windows = [{"begin": "02:00", "end": "04:00"}]
        found = describe(connection, 1_000_000_000, plan(windows=windows)).classes
        assert len(describe(connection, 1_000_000_000, plan()).classes) == 1
    assert sorted((dict(one.labels).get("tz", ""), one.devices) for one in found) == [
        ("", 3),
        ("Asia/Tokyo", 1),
    ]


def test_labels_that_no_stage_asks_for_make_no_class_and_too_many_classes_are_refused(
    rows: FleetRows,
) -> None:
    rows.publish("2")
    for number in range(101):
        rows.enrol(f"n-{number}", serial=str(number), ring="first" if number < 5 else "later")
    rows.report("n-1", digest("1"))
    with rows.store.read() as connection:
        found = describe(connection, 1_000_000_000, plan(stages=["ring=first", "100%"]))
        with pytest.raises(NothingRecorded, match="103 classes"):
            describe(connection, 1_000_000_000)
    assert sorted((dict(one.labels).get("ring"), one.devices) for one in found.classes if one.labels) == [
        ("first", 5),
        ("later", 96),
    ]


def test_a_plan_whose_release_reaches_nobody_cannot_be_described(rows: FleetRows) -> None:
    rows.report("a", digest("1"))
    rows.publish("2", "other")
    with rows.store.read() as connection:
        with pytest.raises(NothingRecorded, match="digits@2 would reach no device: 3: no bundle for arm-cpu"):
            describe(connection, 1_000_000_000, plan(select="site=lab"))
        with pytest.raises(NothingRecorded, match="none matches 'site=moon'"):
            describe(connection, 1_000_000_000, plan(select="site=moon"))


def test_of_a_release_that_is_not_published_nobody_is_known_to_be_left_out(rows: FleetRows) -> None:
    rows.report("a", digest("1"))
    with rows.store.read() as connection:
        found = describe(connection, 1_000_000_000, plan())
    assert found.without is None and found.devices == 4
    studied = study(plan(), found, sizes=(1.0,), runs=1, workers=1)
    assert UNKNOWN in lines(studied)


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
