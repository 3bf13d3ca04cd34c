"""What a rollout does next: settle, bake, go on, go back, or wait."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from edge_contracts.sketch import Baseline
from edge_fleet.assignment import State
from edge_fleet.evidence import BundleFacts, Member, StageEvidence
from edge_fleet.gates import Outcome
from edge_fleet.gathering import gather
from edge_fleet.reading import Reading
from edge_fleet.rollouts.decision import Decision, decide, decide_return, passes
from edge_fleet.rollouts.parts import Part
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
    many = {f"d{n:02}": State.REFUSED for n in range(40)}
    told = "refused to go back: d00 (no-space), d01, d02, d03, d04 and 35 more"
    assert decide_return(many, codes={"d00": "no-space"}) == (Event.RETURNED, told)


def test_devices_whose_former_release_was_withdrawn_keep_this_one_and_a_person_is_told_what_to_do() -> None:
    event, why = decide_return({"a": State.REFUSED, "b": State.CONFIRMED}, codes={"a": "withdrawn", "b": ""})
    assert event is Event.RETURNED
    assert why == (
        "refused to go back: a (withdrawn); what they ran before is withdrawn, so they keep this release: "
        "withdraw it too, or roll another out"
    )
    assert "withdraw" not in decide_return({"a": State.REFUSED}, codes={"a": "no-space"})[1]


def test_as_many_as_one_line_takes_are_all_named_and_no_more_are_spoken_of() -> None:
    five = {f"d{n}": State.REFUSED for n in range(5)}
    assert decide_return(five) == (Event.RETURNED, "refused to go back: d0, d1, d2, d3, d4")


def test_a_stage_that_has_passed_is_named_by_its_number_and_the_last_one_so() -> None:
    found = decide(plan(), BAKING, seen([State.CONFIRMED]), 160.0)
    assert (found.event, found.why) == (Event.ADVANCED, "stage 1 of 2 passed its gates")
    last = decide(plan(stages=["100%"]), BAKING, seen([State.CONFIRMED]), 160.0)
    assert (last.event, last.why) == (Event.FINISHED, "the last stage passed its gates")


def test_a_rollout_that_is_open_says_for_whom() -> None:
    joining = plan(join="until-deadline", deadline="2030-01-01T00:00:00Z")
    found = decide(joining, Position(Phase.OPEN, 1, 100.0), seen([State.CONFIRMED]), 160.0)
    assert (found.event, found.why) == (None, "open for devices that join, until the deadline")


def test_a_device_that_is_told_to_go_back_once_more_is_on_its_way() -> None:
    event, why = decide_return({"a": State.REFUSED, "b": State.CONFIRMED}, again={"a"})
    assert (event, why) == (None, "1 of 2 devices are on their way back")


SHADOW_RUNNING = Position(Phase.RUNNING, 0, 100.0, Part.SHADOW)
SHADOW_BAKING = Position(Phase.BAKING, 0, 100.0, Part.SHADOW)
READYING = Position(Phase.RUNNING, 0, 100.0, Part.READY)


def shadows(**changes: Any) -> RolloutPlan:
    gates = {"shadow_agreement": 0.9, "error_rate": {"limit": 0.05, "min_inferences": 100}}
    return plan(kind="shadow-first", gates=gates, **changes)


def told(decision: Decision) -> tuple[Event | None, str]:
    return decision.event, decision.why


@pytest.mark.parametrize(
    ("states", "waiting", "expected"),
    [
        (
            [State.READY, State.OFFERED, State.OFFERED],
            0,
            (None, "1 of 3 devices of the stage have it ready, 2 needed"),
        ),
        (
            [State.READY, State.READY, State.OFFERED],
            0,
            (Event.SWITCHED, "2 of 3 devices of the stage have it ready: all are told to switch"),
        ),
        ([State.READY, State.OFFERED], 1, (None, "1 of 3 devices of the stage have it ready, 2 needed")),
        (
            [State.READY],
            1,
            (Event.SWITCHED, "1 of 2 devices of the stage have it ready: all are told to switch"),
        ),
    ],
)
def test_a_quorum_that_has_it_ready_is_told_to_switch(
    states: list[State], waiting: int, expected: tuple[Event | None, str]
) -> None:
    waits = {"its window": waiting}
    assert told(decide(plan(kind="blue-green"), READYING, seen(states), 101.0, waits)) == expected


def test_a_stage_that_nobody_can_have_ready_is_switched_as_it_is() -> None:
    blue = plan(kind="blue-green")
    why = "none of the 2 devices of the stage can wait with it"
    assert told(decide(blue, READYING, seen([]), 101.0, direct=2)) == (Event.SWITCHED, why)
    second = dataclasses.replace(READYING, stage=1)
    earlier = dataclasses.replace(seen([State.CONFIRMED]), stage=1)
    assert told(decide(blue, second, earlier, 101.0)) == (Event.SWITCHED, "nothing to bring")


@pytest.mark.parametrize("kind", ["staged", "shadow-first", "blue-green"])
def test_a_stage_that_names_nobody_where_nobody_was_reached_waits_for_its_canaries(kind: str) -> None:
    made = shadows() if kind == "shadow-first" else plan(kind=kind)
    first = {"staged": RUNNING, "shadow-first": SHADOW_RUNNING, "blue-green": READYING}[kind]
    event, why = told(decide(made, first, seen([]), 101.0))
    assert event is None
    assert why.endswith(" names no device yet: one that comes to be is begun, `advance` goes on without")
    assert why.startswith("stage 1 (")
    # those that wait for their window, or another rollout, are there
    assert "names no device" not in decide(made, first, seen([]), 101.0, {"its window": 1}).why


def test_shadows_settle_before_they_are_watched() -> None:
    assert decide(shadows(), SHADOW_RUNNING, seen([State.SHADOW]), 101.0).event is Event.SETTLED
    assert decide(shadows(), SHADOW_RUNNING, seen([State.OFFERED]), 101.0).event is None
    earlier = dataclasses.replace(seen([State.CONFIRMED]), stage=1)
    second = dataclasses.replace(SHADOW_RUNNING, stage=1)
    assert decide(shadows(), second, earlier, 101.0).event is Event.SETTLED
    why = "none of the 1 devices of the stage can run a shadow: the plan says switch"
    assert told(decide(shadows(), SHADOW_RUNNING, seen([]), 101.0, direct=1)) == (Event.SWITCHED, why)
    assert decide(shadows(), SHADOW_RUNNING, seen([State.SHADOW]), 101.0, direct=1).event is Event.SETTLED


def test_shadows_are_watched_for_their_time_and_until_a_quorum_has_compared() -> None:
    # without a gate that waits: what a quorum is, not what it has seen
    agreed = shadows(shadow={"bake_s": 30})
    two = seen([State.SHADOW, State.SHADOW, State.SHADOW])
    assert told(decide(agreed, SHADOW_BAKING, two, 129.9)) == (None, "shadows are watched for 30 s")
    why = "0 of 3 devices report compared answers, 2 needed"
    assert told(decide(agreed, SHADOW_BAKING, two, 130.0)) == (None, why)
    one = dataclasses.replace(two, comparing=frozenset({"cam-0", "cam-9"}))
    assert decide(agreed, SHADOW_BAKING, one, 130.0).why.startswith("1 of 3 devices")
    both = dataclasses.replace(two, comparing=frozenset({"cam-0", "cam-1"}))
    decision = decide(agreed, SHADOW_BAKING, both, 130.0)
    assert decision.event is None
    assert decision.why.startswith("shadow_agreement waits: ")
    assert "error_rate" not in decision.why, "of what has not answered anything yet"


def test_shadows_that_pass_their_gates_are_switched_whatever_other_gates_wait_for() -> None:
    rehearsed = plan(kind="rehearsal", stages=["100%"], shadow={})
    compared = dataclasses.replace(seen([State.SHADOW]), comparing=frozenset({"cam-0"}))
    decision = decide(rehearsed, SHADOW_BAKING, compared, 160.0)
    assert told(decision) == (Event.SWITCHED, "the shadows of stage 1 of 1 passed their gates")
    assert [verdict.outcome for verdict in decision.verdicts] == [Outcome.WAIT]


def test_after_the_switch_nobody_waits_for_what_shadows_say_and_for_all_else() -> None:
    enough, few = (seen([State.CONFIRMED], windows=w, inferences=i) for w, i in ((8, 100), (1, 9)))
    assert decide(shadows(), BAKING, enough, 160.0).event is Event.ADVANCED
    decision = decide(shadows(), BAKING, few, 160.0)
    assert decision.event is None
    assert decision.why.startswith("error_rate waits: ") and "shadow" not in decision.why


def test_a_rehearsal_goes_back_when_it_has_settled_and_not_before() -> None:
    rehearsed = plan(kind="rehearsal", stages=["100%"])
    event, why = told(decide(rehearsed, RUNNING, seen([State.CONFIRMED]), 101.0))
    assert event is Event.FAILED
    assert why.startswith("a rehearsal, as if a gate had failed; 1 of 1")
    assert decide(rehearsed, RUNNING, seen([State.TRIAL]), 101.0).event is None
    by_stage = plan(kind="rehearsal", stages=["100%"], on_failure="rollback-stage")
    assert decide(by_stage, RUNNING, seen([State.CONFIRMED]), 101.0).event is Event.STAGE_FAILED
    event, why = told(
        decide(
            plan(kind="rehearsal", stages=["100%"], shadow={}), SHADOW_RUNNING, seen([State.SHADOW]), 101.0
        )
    )
    assert event is Event.SWITCHED
    assert why.startswith("a rehearsal, as if the shadows had passed their gates; 1 of 1")


@pytest.mark.parametrize(
    ("action", "event"),
    [("rollback-rollout", Event.FAILED), ("rollback-stage", Event.STAGE_FAILED), ("hold", Event.HELD)],
)
def test_a_failed_gate_does_what_the_plan_says(action: str, event: Event) -> None:
    failing = seen([State.CONFIRMED], 0, 50, 8)
    assert decide(plan(on_failure=action), RUNNING, failing, 101.0).event is event


def test_what_devices_wait_for_is_counted_the_most_frequent_first() -> None:
    waits = {"a retry": 1, "its window": 2}
    assert told(decide(plan(), RUNNING, seen([State.CONFIRMED]), 101.0, waits)) == (
        None,
        "3 devices of the stage wait: 2 for its window, 1 for a retry",
    )


def test_while_devices_can_be_begun_nothing_else_happens_but_a_failure() -> None:
    assert told(decide(plan(), RUNNING, seen([State.CONFIRMED]), 101.0, begins=True)) == (None, "")
    failing = seen([State.CONFIRMED], 0, 50, 8)
    assert decide(plan(), RUNNING, failing, 101.0, begins=True).event is Event.FAILED


def test_gates_are_told_in_the_order_of_their_names() -> None:
    both = plan(gates={"install_success": 0.5, "error_rate": {"limit": 0.05, "min_inferences": 100}})
    verdicts = decide(both, BAKING, seen([State.CONFIRMED]), 160.0).verdicts
    assert [verdict.gate for verdict in verdicts] == ["error_rate", "install_success"]


@pytest.mark.parametrize(
    ("stage", "part", "changes", "event"),
    [
        (0, Part.SWITCH, {}, Event.ADVANCED),
        (1, Part.SWITCH, {}, Event.FINISHED),
        (1, Part.SWITCH, {"join": "until-deadline", "deadline": "2030-01-01T00:00:00Z"}, Event.OPENED),
        (0, Part.READY, {}, Event.SWITCHED),
        (1, Part.SHADOW, {}, Event.SWITCHED),
    ],
)
def test_a_part_of_a_stage_is_passed_by_this_word(
    stage: int, part: Part, changes: dict[str, str], event: Event
) -> None:
    assert passes(plan(**changes), Position(Phase.BAKING, stage, 0.0, part)) is event
