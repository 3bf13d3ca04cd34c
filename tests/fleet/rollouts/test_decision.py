"""What a rollout does next: settle, bake, go on, go back, or wait."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from edge_contracts.sketch import Baseline
from edge_fleet.assignment import State
from edge_fleet.evidence import BundleFacts, Member, StageEvidence
from edge_fleet.gathering import gather
from edge_fleet.reading import Reading
from edge_fleet.rollouts.decision import decide, decide_return
from edge_fleet.rollouts.phases import Event, Phase, Position
from edge_fleet.rollouts.plan import RolloutPlan, parse_plan

NEW = "sha256:new"
FACTS = {NEW: BundleFacts(NEW, "arm-cpu", Baseline(samples=0), 50.0)}


def plan(**changes: Any) -> RolloutPlan:
    return parse_plan(
        {
            "format": "edgefleet.rollout/1",
            "release": "digits@2",
            "stages": ["1", "100%"],
            "bake_s": 60,
            "quorum": 0.5,
            "gates": {"error_rate": {"limit": 0.05, "min_inferences": 100}},
            **changes,
        }
    )


def seen(states: list[State], inferences: int = 100, errors: int = 0, windows: int = 1) -> StageEvidence:
    members = [Member(f"cam-{i}", 0, NEW, None, state, 0.0) for i, state in enumerate(states)]
    readings = [
        Reading(m.device, NEW, 10.0, inferences, errors=errors)
        for m in members
        for _ in range(windows)
        if m.state is State.CONFIRMED and inferences + errors
    ]
    return gather(members, readings, FACTS, 0, 0.0)


RUNNING, BAKING = Position(Phase.RUNNING, 0, 100.0), Position(Phase.BAKING, 0, 100.0)


@pytest.mark.parametrize(
    ("states", "event"),
    [
        ([State.CONFIRMED], Event.SETTLED),
        ([State.CONFIRMED, State.TRIAL], None),
        ([State.CONFIRMED, State.PENDING], None),
        ([State.CONFIRMED, State.UNREACHABLE], Event.SETTLED),  # one of two is the quorum
        ([State.CONFIRMED, State.UNREACHABLE, State.UNREACHABLE], None),
        ([State.UNREACHABLE], None),
        ([State.REFUSED, State.CONFIRMED], Event.SETTLED),  # an answer, if not a good one
    ],
)
def test_a_stage_settles_when_nobody_is_on_the_way_and_a_quorum_answered(
    states: list[State], event: Event | None
) -> None:
    assert decide(plan(), RUNNING, seen(states), 101.0).event is event


def test_a_stage_bakes_for_its_time() -> None:
    assert decide(plan(), BAKING, seen([State.CONFIRMED]), 159.9).event is None
    assert decide(plan(), BAKING, seen([State.CONFIRMED]), 160.0).event is Event.ADVANCED


def test_the_last_stage_finishes() -> None:
    last = dataclasses.replace(BAKING, stage=1)
    assert decide(plan(), last, seen([State.CONFIRMED]), 160.0).event is Event.FINISHED


def test_a_waiting_gate_holds_the_stage_however_long_it_takes() -> None:
    decision = decide(plan(), BAKING, seen([State.CONFIRMED], inferences=99), 1e9)
    assert decision.event is None
    assert "error_rate waits: arm-cpu: 0 of 99 inferences" in decision.why


@pytest.mark.parametrize("phase", [Phase.RUNNING, Phase.BAKING, Phase.PAUSED])
def test_a_failing_gate_undoes_the_rollout_at_once(phase: Phase) -> None:
    decision = decide(plan(), Position(phase, 0, 100.0), seen([State.CONFIRMED], 0, 50, 8), 101.0)
    assert decision.event is Event.FAILED
    assert decision.why.startswith("error_rate: arm-cpu: 400 of 400")


def test_a_paused_rollout_does_not_go_on() -> None:
    paused = Position(Phase.PAUSED, 0, 0.0)
    assert decide(plan(), paused, seen([State.CONFIRMED]), 1e9).event is None


def test_devices_that_report_nothing_are_not_a_quorum() -> None:
    states = [State.CONFIRMED, State.UNREACHABLE, State.UNREACHABLE]
    decision = decide(plan(gates={}), BAKING, seen(states), 1e9)
    assert decision.event is None
    assert "1 of 3 devices report inferences, 2 needed" in decision.why


def test_a_failed_device_is_not_waited_for() -> None:
    assert decide(plan(gates={}), BAKING, seen([State.CONFIRMED, State.REFUSED]), 1e9).event is Event.ADVANCED


def test_a_stage_that_adds_no_device_does_not_bake() -> None:
    evidence = dataclasses.replace(seen([State.CONFIRMED]), stage=1)
    assert decide(plan(), Position(Phase.RUNNING, 1, 100.0), evidence, 100.0).event is Event.SETTLED
    assert decide(plan(), Position(Phase.BAKING, 1, 100.0), evidence, 100.0).event is Event.FINISHED


@pytest.mark.parametrize("phase", [Phase.DRAFT, Phase.COMPLETED, Phase.ROLLING_BACK])
def test_a_rollout_that_does_not_go_forward_has_no_such_decision(phase: Phase) -> None:
    with pytest.raises(AssertionError, match="does not go forward"):
        decide(plan(), Position(phase), seen([]), 0.0)


def test_a_return_is_complete_when_nobody_is_on_the_way() -> None:
    assert decide_return({"a": State.CONFIRMED, "b": State.DOWNLOADING})[0] is None
    assert decide_return({"a": State.CONFIRMED}) == (Event.RETURNED, "every device is back")
    assert decide_return({}) == (Event.RETURNED, "every device is back")


def test_a_return_names_the_devices_that_did_not_come() -> None:
    event, why = decide_return({"a": State.UNREACHABLE, "b": State.REFUSED, "c": State.CONFIRMED})
    assert event is Event.RETURNED
    assert why == "silent, the order to go back waits for: a; refused to go back: b"
