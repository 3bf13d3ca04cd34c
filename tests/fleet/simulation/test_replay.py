"""Runs of a plan against made-up devices: who is exposed, and that good releases come through."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edge_fleet.rollouts.decision import Decision
from edge_fleet.rollouts.phases import Event
from edge_fleet.rollouts.plan import RolloutPlan, parse_plan
from edge_fleet.simulation.defects import GOOD, Defect, Kind
from edge_fleet.simulation.description import DeviceClass
from edge_fleet.simulation.draw import SIMULATED
from edge_fleet.simulation.replay import End, Run, replay
from edge_fleet.simulation.study import simulated

QUIET = DeviceClass(profile="arm-cpu", devices=120, errors=0.001, install_failures=0, silent=0)


def plan(gates: dict[str, Any], **changes: Any) -> RolloutPlan:
    return parse_plan(
        {
            "format": "edgefleet.rollout/1",
            "release": "digits@2",
            "stages": ["6", "50%", "100%"],
            "bake_s": 600,
            "gates": gates,
            **changes,
        }
    )


def run(gates: dict[str, Any], defect: Defect = GOOD, of: DeviceClass = QUIET, seed: int = 0) -> Run:
    return replay(plan(gates), [of], defect, np.random.default_rng(seed))


NOON_S = 1_795_780_800.0  # 2026-11-27 12:00 UTC, a Friday
HOUR_S = 3600.0


def by_the_clock(defect: Defect = GOOD, classes: Any = None, **changes: Any) -> Run:
    gates = {"error_rate": 0.02, "install_success": 0.9}
    found = plan(gates, **changes)
    return replay(found, classes or [QUIET], defect, np.random.default_rng(0), start_s=NOON_S)


def test_devices_are_begun_in_their_maintenance_window_and_judged_at_once() -> None:
    at_night = [{"begin": "02:00", "end": "04:00"}]
    found = by_the_clock(windows=at_night, stages=["6", "100%"])
    # 14 hours until 02:00; the second stage begins in the same night
    assert found.end is End.COMPLETED and found.begun == 120
    assert 14 * HOUR_S + 1200 < found.ended_s < 16 * HOUR_S
    caught = by_the_clock(Defect(Kind.ERRORS, 1.0), windows=at_night)
    assert caught.end is End.HALTED and 0 < caught.exposed <= 6
    assert 14 * HOUR_S < caught.ended_s < 14 * HOUR_S + 1200


def test_a_window_is_that_of_the_devices_time_zone() -> None:
    at_night = [{"begin": "02:00", "end": "04:00"}]
    # 02:00 in Tokyo is 17:00 UTC, five hours away; in Berlin, without a label, 01:00 UTC
    tokyo = QUIET.model_copy(update={"labels": {"tz": "Asia/Tokyo"}, "devices": 10})
    berlin = QUIET.model_copy(update={"devices": 10})
    asked: dict[str, Any] = {
        "windows": at_night,
        "time_zone": "Europe/Berlin",
        "stages": ["100%"],
        "bake_s": 0,
    }
    assert 5 * HOUR_S < by_the_clock(classes=[tokyo], **asked).ended_s < 6 * HOUR_S
    assert 13 * HOUR_S < by_the_clock(classes=[berlin], **asked).ended_s < 14 * HOUR_S
    both = by_the_clock(classes=[tokyo, berlin], **asked)
    assert both.begun == 20 and 13 * HOUR_S < both.ended_s < 14 * HOUR_S


def test_a_window_that_shuts_leaves_the_rest_of_a_slow_stage_to_the_next_night() -> None:
    at_night = [{"begin": "02:00", "end": "03:00"}]
    # one a minute: sixty in the first night, sixty in the second
    found = by_the_clock(windows=at_night, rate=1, stages=["100%"])
    assert found.end is End.COMPLETED
    assert 38 * HOUR_S + 59 * 60 < found.ended_s < 40 * HOUR_S


def test_a_slow_rate_is_no_reason_to_give_a_good_release_up() -> None:
    """2,000 devices, one a minute: 33 hours until the last of them is begun."""
    many = QUIET.model_copy(update={"devices": 2000})
    found = by_the_clock(classes=[many], rate=1, stages=["100%"])
    assert found.end is End.COMPLETED and found.begun == 2000


def test_a_deadline_ends_what_waits_and_what_is_slow() -> None:
    waits = by_the_clock(Defect(Kind.ERRORS, 0.03), deadline="2026-11-28T12:00:00Z")
    assert (waits.end, waits.ended_s, waits.exposed) == (End.EXPIRED, 24 * HOUR_S, 6)
    slow = by_the_clock(rate=1, deadline="2026-11-27T13:00:00Z", stages=["100%"])
    assert (slow.end, slow.begun) == (End.EXPIRED, 61)
    late = by_the_clock(deadline="2026-11-27T11:00:00Z")
    assert (late.end, late.begun, late.why) == (End.EXPIRED, 0, "its deadline passed before its start")
    assert by_the_clock(deadline="2026-12-27T11:00:00Z").end is End.COMPLETED


def test_classes_of_one_bundle_are_judged_together() -> None:
    """Two hundred inferences of the bundle are there when each class has a hundred."""
    halves = [QUIET.model_copy(update={"devices": 3, "labels": {"ring": ring}}) for ring in "ab"]
    gate = {"error_rate": {"limit": 0.3, "min_devices": 4}}
    asked = plan(gate, stages=["100%"], quorum=1)
    found = replay(asked, halves, GOOD, np.random.default_rng(0))
    assert found.end is End.COMPLETED, found.why
    apart = [one.model_copy(update={"bundle": str(place)}) for place, one in enumerate(halves)]
    assert replay(asked, apart, GOOD, np.random.default_rng(0)).end is End.WAITS


def test_latencies_of_classes_of_one_bundle_are_judged_together() -> None:
    classes = [QUIET.model_copy(update={"devices": 5, "latency_ms": ms}) for ms in (5.0, 50.0)]
    asked = plan({"latency_p95": 1.5}, stages=["100%"])
    assert replay(asked, classes, GOOD, np.random.default_rng(0)).end is End.COMPLETED
    slow = replay(asked, classes, Defect(Kind.LATENCY, 4.0), np.random.default_rng(0))
    assert slow.end is End.HALTED


def test_what_is_ready_is_switched_at_once_whatever_the_rate() -> None:
    made = plan({"install_success": 0.9}, kind="blue-green", rate=2, stages=["100%"], bake_s=0, quorum=1)
    found = replay(made, [QUIET], GOOD, np.random.default_rng(0))
    # an hour to bring it to 120, two a minute; the switch takes as long as the slowest device
    assert 59.5 * 60 < found.ended_s < 80 * 60


def test_a_good_release_reaches_everybody_and_says_what_it_took() -> None:
    found = run({"error_rate": 0.02, "install_success": 0.9})
    assert (found.end, found.exposed, found.begun, found.stage) == (End.COMPLETED, 120, 120, 2)
    assert found.sent_bytes == 120 * QUIET.archive_bytes
    assert found.ended_s > 3 * 600


@pytest.mark.parametrize("least", [50, 200, 600])
def test_a_good_release_takes_as_long_as_with_a_look_each_second(
    monkeypatch: pytest.MonkeyPatch, least: int
) -> None:
    """The gate passes some windows after the bake; a server looks each second."""
    of = QUIET.model_copy(update={"devices": 6, "window_s": 2.0, "inferences": 8, "install_s": 3.0})
    gates = {"error_rate": {"limit": 0.1, "min_inferences": least}}
    asked = plan(gates, stages=[1, "50%", "100%"], bake_s=15)
    told = replay(asked, [of], GOOD, np.random.default_rng(1))
    monkeypatch.setattr("edge_fleet.simulation.replay._NEAR", 0.0)
    monkeypatch.setattr("edge_fleet.simulation.replay._FAR", 0.0)
    exact = replay(asked, [of], GOOD, np.random.default_rng(1))
    assert told.end is exact.end is End.COMPLETED
    assert exact.ended_s <= told.ended_s <= 1.12 * exact.ended_s + 3


@pytest.mark.parametrize(
    ("gates", "defect"),
    [
        ({"error_rate": 0.02}, Defect(Kind.ERRORS, 0.5)),
        ({"install_success": 0.9}, Defect(Kind.INSTALL, 1.0)),
        ({"latency_p95": 1.5}, Defect(Kind.LATENCY, 4.0)),
        ({"abstain_rate": 0.2}, Defect(Kind.UNCERTAIN, 0.9)),
        ({"fallback_rate": 0.1}, Defect(Kind.SECOND, 0.9)),
        ({"golden_agreement": 0.9}, Defect(Kind.GOLDEN, 0.5)),
        ({"live_accuracy": 0.8}, Defect(Kind.WRONG, 0.9)),
    ],
)
def test_a_large_defect_is_caught_in_the_first_stage_by_its_gate(
    gates: dict[str, Any], defect: Defect
) -> None:
    of = QUIET.model_copy(update={"labels_per_window": 50})
    caught = run(gates, defect, of)
    assert caught.end is End.HALTED, caught.why
    assert caught.exposed <= 6
    assert next(iter(gates)) in caught.why
    assert run(gates, GOOD, of).end is End.COMPLETED


def test_every_simulated_gate_is_drawn_for() -> None:
    of = QUIET.model_copy(update={"labels_per_window": 50})
    limits = {name: 0.5 for name in SIMULATED} | {n: 3.0 for n in ("latency_p95", "latency_p99")}
    limits |= {"latency_p95_ms": 500.0, "latency_p99_ms": 500.0}
    found = run(dict(limits), GOOD, of)
    assert found.end is End.COMPLETED, found.why


def test_a_defect_that_one_device_in_three_shows_is_found_against_the_release_before() -> None:
    ends = [
        run({"error_rate": {"limit": 0.02, "against": "before"}}, Defect(Kind.ERRORS, 0.5, on=0.5), seed=seed)
        for seed in range(5)
    ]
    assert all(end.end is not End.COMPLETED and end.exposed <= 6 for end in ends)


def test_a_world_that_is_bad_for_all_does_not_halt_a_release_held_to_its_control_group() -> None:
    stormy = QUIET.model_copy(update={"errors": 0.2, "devices": 200})
    gates = {"error_rate": {"limit": 0.05, "against": "control"}}
    assert run(gates, GOOD, stormy).end is not End.HALTED
    assert run({"error_rate": 0.02}, GOOD, stormy).end is End.HALTED
    assert run(gates, Defect(Kind.ERRORS, 0.9), stormy).exposed <= 6


def test_a_rollout_that_can_never_be_sure_waits_for_a_person() -> None:
    # 3 % of errors at a limit of 2 %, on six devices
    found = run({"error_rate": 0.02}, Defect(Kind.ERRORS, 0.03))
    assert found.end is End.WAITS
    assert found.exposed == 6
    assert "too few to be certain" in found.why


def test_a_failed_installation_is_no_exposure_and_a_silent_device_no_download() -> None:
    flawed = QUIET.model_copy(update={"install_failures": 0.05, "silent": 0.1})
    found = replay(plan({}, quorum=0.5), [flawed], GOOD, np.random.default_rng(3))
    assert found.end is End.COMPLETED
    assert found.exposed < found.sent_bytes / QUIET.archive_bytes < found.begun == 120


def test_the_same_seed_gives_the_same_run() -> None:
    one, other = (run({"error_rate": 0.02}, Defect(Kind.ERRORS, 0.1), seed=7) for _ in range(2))
    assert one == other


def test_another_products_rule_can_decide() -> None:
    def never(*_: object) -> Decision:
        return Decision(Event.FAILED, "no", ())

    found = replay(plan({}), [QUIET], GOOD, np.random.default_rng(0), judge=never)
    assert (found.end, found.why) == (End.HALTED, "no")


def test_a_control_group_is_reached_last() -> None:
    held = plan(
        {"error_rate": {"limit": 0.1, "against": "control"}}, control="50%", stages=["10", "50%", "100%"]
    )
    of = QUIET.model_copy(update={"devices": 200})
    caught = replay(held, [of], Defect(Kind.ERRORS, 0.9), np.random.default_rng(0))
    assert caught.exposed <= 100
    good = replay(held, [of], GOOD, np.random.default_rng(0))
    assert (good.end, good.begun) == (End.COMPLETED, 200), good.why


def shadow_first(defect: Defect = GOOD, of: DeviceClass = QUIET, **shadow: Any) -> Run:
    gates = {"error_rate": 0.02, "install_success": 0.9, "shadow_agreement": 0.9}
    made = plan(gates, kind="shadow-first", shadow={"bake_s": 1200, **shadow})
    kept, left_out = simulated(made)
    assert left_out == ("shadow_agreement",)
    return replay(kept, [of], defect, np.random.default_rng(0))


def test_a_good_release_comes_through_its_shadows_and_is_downloaded_once() -> None:
    found, staged = shadow_first(), run({"error_rate": 0.02, "install_success": 0.9})
    assert (found.end, found.exposed, found.stage) == (End.COMPLETED, 120, 2)
    assert found.sent_bytes == staged.sent_bytes
    assert found.ended_s > staged.ended_s + 2 * 1200


def test_what_crashes_as_a_shadow_has_answered_nobody() -> None:
    found = shadow_first(Defect(Kind.INSTALL, 1.0))
    assert (found.end, found.exposed, found.stage) == (End.HALTED, 0, 0)


def test_what_errs_on_live_inputs_is_still_caught_after_the_switch() -> None:
    found = shadow_first(Defect(Kind.ERRORS, 0.5))
    assert (found.end, found.stage) == (End.HALTED, 0)
    assert 0 < found.exposed <= 6


def test_a_blue_green_rollout_brings_first_and_exposes_nobody_to_what_crashes_there() -> None:
    gates = {"error_rate": 0.02, "install_success": 0.9}
    made = plan(gates, kind="blue-green", quorum=0.9)
    found = replay(made, [QUIET], GOOD, np.random.default_rng(0))
    assert (found.end, found.exposed, found.sent_bytes) == (End.COMPLETED, 120, 120 * QUIET.archive_bytes)
    bad = replay(made, [QUIET], Defect(Kind.INSTALL, 1.0), np.random.default_rng(0))
    assert (bad.end, bad.exposed, bad.stage) == (End.HALTED, 0, 0)
