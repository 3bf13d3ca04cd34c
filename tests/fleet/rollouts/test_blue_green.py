"""Rollouts of kind blue-green on a real database: brought first, then switched to at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fleet_rows import digest
from rollout_fleet import Fleet, file, plan

from edge_contracts.errors import FormatInvalid
from edge_contracts.messages import Knows
from edge_contracts.messages import Phase as Told
from edge_fleet.assignment import State
from edge_fleet.rollouts import rows
from edge_fleet.rollouts.parts import Part
from edge_fleet.rollouts.phases import Phase
from edge_fleet.rollouts.view import shown

DEVICES = tuple(f"cam-{i}" for i in range(5))


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    built = Fleet(file(tmp_path / "fleet.db"))
    built.enrol(*DEVICES, knows=(Knows.HOLD,), runs="1", site="lab")
    built.publish("1")
    built.publish("2")
    yield built
    built.store.close()


def begin(fleet: Fleet, *stages: str, **changes: Any) -> str:
    return fleet.begin("2", *(stages or ("100%",)), kind="blue-green", **changes)


def part(fleet: Fleet, rollout: str) -> Part:
    with fleet.store.read() as connection:
        return rows.load(connection, rollout).position.part


def told_to_switch(fleet: Fleet) -> set[str]:
    return {d for d in DEVICES if (row := fleet.assigned(d)) and row.bundle == digest("2") and not row.terms}


def test_nobody_switches_before_the_quorum_and_then_all_do_at_once(fleet: Fleet) -> None:
    rollout = begin(fleet, "100%", quorum=0.8)
    assert all(fleet.assigned(device).terms == {"hold": True} for device in DEVICES)
    for device in DEVICES[:3]:
        fleet.say(device, Told.READY)
    fleet.pass_time(100)
    assert told_to_switch(fleet) == set()
    assert fleet.why(rollout) == "3 of 5 devices of the stage have it ready, 4 needed"
    fleet.say(DEVICES[3], Told.READY)
    fleet.sent.clear()
    fleet.pass_time(1)
    assert (fleet.position(rollout), part(fleet, rollout)) == ((Phase.RUNNING, 0), Part.SWITCH)
    assert told_to_switch(fleet) == set(DEVICES[:4])
    assert set(DEVICES[:4]) <= set(fleet.sent)
    # one that is late switches when it is ready
    fleet.say(DEVICES[4], Told.READY)
    fleet.pass_time(1)
    assert told_to_switch(fleet) == set(DEVICES)
    for device in DEVICES:
        fleet.say(device)
        fleet.report(device, digest("2"))
    fleet.pass_time(1)
    fleet.pass_time(60)
    assert fleet.position(rollout)[0] is Phase.COMPLETED
    assert all(row.member.previous == digest("1") for row in fleet.members(rollout).values())


def test_a_stage_of_its_own_is_brought_before_each_switch(fleet: Fleet) -> None:
    rollout = begin(fleet, "2", "100%")
    for reached in (2, 5):
        assert (len(fleet.members(rollout)), part(fleet, rollout)) == (reached, Part.READY)
        fresh = [d for d, row in fleet.members(rollout).items() if row.member.state is not State.CONFIRMED]
        for word in (Told.READY, Told.CONFIRMED):
            for device in fresh:
                fleet.say(device, word)
                if word is Told.CONFIRMED:
                    fleet.report(device, digest("2"))
            fleet.pass_time(1)
        fleet.pass_time(60)
    assert fleet.position(rollout)[0] is Phase.COMPLETED


def test_neither_rate_nor_cap_spreads_the_switch(fleet: Fleet) -> None:
    rollout = begin(fleet, "100%", quorum=1.0, rate=1, max_in_flight=1)
    for _ in range(len(DEVICES)):
        assert part(fleet, rollout) is Part.READY, "one a minute is brought"
        for device, row in fleet.members(rollout).items():
            if row.state in (State.PENDING, State.OFFERED):
                fleet.say(device, Told.READY)
        fleet.pass_time(61)
    assert told_to_switch(fleet) == set(DEVICES)


def test_an_abort_before_the_switch_leaves_devices_on_what_they_had(fleet: Fleet) -> None:
    rollout = begin(fleet, "100%")
    for device in DEVICES[:2]:
        fleet.say(device, Told.READY)
    fleet.operator.abort(rollout, "anna")
    assert all(fleet.assigned(device).bundle is None for device in DEVICES)
    assert told_to_switch(fleet) == set()


def test_what_fails_before_the_switch_takes_the_release_back_from_all(fleet: Fleet) -> None:
    rollout = begin(fleet, "100%", quorum=0.5)
    for device in DEVICES[:3]:
        fleet.say(device, Told.REFUSED, "golden-mismatch")
    fleet.pass_time(1)
    assert fleet.position(rollout)[0] in (Phase.ROLLING_BACK, Phase.ROLLED_BACK)
    assert told_to_switch(fleet) == set()
    assert all(fleet.assigned(device).bundle == digest("1") for device in DEVICES)


def test_a_recall_after_the_switch_is_as_ever(fleet: Fleet) -> None:
    rollout = begin(fleet, "100%")
    for word in (Told.READY, Told.CONFIRMED):
        for device in DEVICES:
            fleet.say(device, word)
        fleet.pass_time(1)
    fleet.operator.recall(rollout, "anna")
    assert all(fleet.assigned(device).bundle == digest("1") for device in DEVICES)
    for device in DEVICES:
        fleet.say(device)
    fleet.pass_time(1)
    assert fleet.position(rollout)[0] is Phase.ROLLED_BACK


def test_what_was_damaged_while_it_lay_ready_is_brought_again_before_it_is_switched_to(fleet: Fleet) -> None:
    rollout = begin(fleet, "1")
    (device,) = fleet.members(rollout)
    fleet.say(device, Told.RECEIVED, "damaged")
    fleet.pass_time(1)
    assert told_to_switch(fleet) == set()
    fleet.say(device, Told.READY)
    fleet.pass_time(1)
    assert told_to_switch(fleet) == {device}


def test_devices_that_cannot_wait_are_named_and_skipped_or_switched_with_the_others(fleet: Fleet) -> None:
    fleet.enrol("old-1", runs="1", site="lab")
    skips = begin(fleet, "100%")
    assert "old-1" not in fleet.members(skips)
    with fleet.store.read() as connection:
        (left_out,) = shown(connection, skips, fleet.now_ms)["skipped"]
    assert left_out["reason"].startswith("cannot have it ready, and the plan says skip: its agent does not")
    fleet.operator.abort(skips, "anna")
    rollout = begin(fleet, "100%", blue_green={"unable": "switch"})
    assert "old-1" not in fleet.members(rollout)
    for device in DEVICES:
        fleet.say(device, Told.READY)
    fleet.pass_time(1)
    assert "old-1" in fleet.members(rollout) and fleet.assigned("old-1").terms is None


def test_a_rehearsal_can_go_by_way_of_ready(fleet: Fleet) -> None:
    changes: dict[str, Any] = {"kind": "rehearsal", "blue_green": {}}
    rollout = fleet.begin("2", "100%", **changes)
    for word in (Told.READY, Told.CONFIRMED):
        for device in DEVICES:
            fleet.say(device, word)
        fleet.pass_time(1)
    assert fleet.position(rollout)[0] is Phase.ROLLING_BACK


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"kind": "staged", "blue_green": {}}, "kind staged brings nothing first"),
        ({"kind": "rehearsal", "blue_green": {}, "shadow": {}}, "not by both"),
    ],
)
def test_a_plan_that_says_something_else_is_refused(changes: dict[str, Any], told: str) -> None:
    assert plan("2", kind="blue-green").first_part is Part.READY
    with pytest.raises(FormatInvalid, match=told):
        plan("2", **changes)
