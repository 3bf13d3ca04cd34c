"""The life of a rollout: every pair of the table, and those that are not in it."""

from __future__ import annotations

import itertools

import pytest

from edge_fleet.rollouts.parts import Part
from edge_fleet.rollouts.phases import (
    ENDED,
    GUARDED,
    NO_STAGE,
    TRANSITIONS,
    WATCHED,
    Event,
    Phase,
    Position,
    TransitionInvalid,
    step,
)

BEFORE = {Event.SWITCHED: Part.SHADOW}


@pytest.mark.parametrize(("phase", "event"), list(itertools.product(Phase, Event)))
def test_every_pair_is_in_the_table_or_refused(phase: Phase, event: Event) -> None:
    before = Position(phase, stage=1, since_s=10.0, part=BEFORE.get(event, Part.SWITCH))
    if (phase, event) in TRANSITIONS:
        after = step(before, event, 20.0)
        assert after.phase is TRANSITIONS[phase, event]
        assert after.since_s == 20.0
    else:
        word = "rolled back" if event is Event.RECALLED else event
        with pytest.raises(TransitionInvalid, match=f"{phase} cannot be {word}"):
            step(before, event, 20.0)


def test_a_rollout_walks_through_its_stages() -> None:
    position = Position()
    assert position.stage == NO_STAGE
    for event, phase, stage in (
        (Event.STARTED, Phase.RUNNING, 0),
        (Event.SETTLED, Phase.BAKING, 0),
        (Event.ADVANCED, Phase.RUNNING, 1),
        (Event.SETTLED, Phase.BAKING, 1),
        (Event.FINISHED, Phase.COMPLETED, 1),
    ):
        position = step(position, event, 1.0)
        assert (position.phase, position.stage) == (phase, stage)


def test_only_a_start_and_an_advance_begin_a_stage() -> None:
    for (phase, event), _ in TRANSITIONS.items():
        begun = step(Position(phase, 3, part=BEFORE.get(event, Part.SWITCH)), event, 0.0).stage
        assert begun == (4 if event in (Event.STARTED, Event.ADVANCED) else 3)


def test_a_stage_with_two_parts_is_switched_before_it_is_passed() -> None:
    position = step(Position(), Event.STARTED, 1.0, Part.SHADOW)
    for event, phase, stage, part in (
        (Event.SETTLED, Phase.BAKING, 0, Part.SHADOW),
        (Event.PAUSED, Phase.PAUSED, 0, Part.SHADOW),
        (Event.RESUMED, Phase.RUNNING, 0, Part.SHADOW),
        (Event.SETTLED, Phase.BAKING, 0, Part.SHADOW),
        (Event.SWITCHED, Phase.RUNNING, 0, Part.SWITCH),
        (Event.SETTLED, Phase.BAKING, 0, Part.SWITCH),
        (Event.ADVANCED, Phase.RUNNING, 1, Part.SHADOW),
    ):
        position = step(position, event, 1.0, Part.SHADOW)
        assert (position.phase, position.stage, position.part) == (phase, stage, part)


@pytest.mark.parametrize("event", [Event.ADVANCED, Event.FINISHED, Event.OPENED])
def test_no_stage_is_passed_from_its_first_part_and_none_is_switched_twice(event: Event) -> None:
    with pytest.raises(TransitionInvalid, match="at its part shadow"):
        step(Position(Phase.BAKING, 0, 0.0, Part.SHADOW), event, 1.0)
    with pytest.raises(TransitionInvalid, match="at its part switch"):
        step(Position(Phase.BAKING, 0, 0.0, Part.SWITCH), Event.SWITCHED, 1.0)


def test_nothing_settles_while_it_is_paused_or_held() -> None:
    for phase in (Phase.PAUSED, Phase.HELD):
        assert (phase, Event.SETTLED) not in TRANSITIONS
    assert (Phase.HELD, Event.ADVANCED) not in TRANSITIONS


def test_a_failed_gate_counts_wherever_devices_run_it_on_watch() -> None:
    for event, phase in (
        (Event.FAILED, Phase.ROLLING_BACK),
        (Event.STAGE_FAILED, Phase.RETURNING_STAGE),
        (Event.HELD, Phase.HELD),
    ):
        assert {TRANSITIONS[p, event] for p in GUARDED} == {phase}


def test_a_paused_rollout_bakes_anew() -> None:
    paused = step(Position(Phase.BAKING, 1, 0.0), Event.PAUSED, 5.0)
    assert step(paused, Event.RESUMED, 9.0) == Position(Phase.RUNNING, 1, 9.0)


def test_every_phase_is_reached_from_a_draft() -> None:
    reached, frontier = {Phase.DRAFT}, [Phase.DRAFT]
    while frontier:
        phase = frontier.pop()
        for (source, _), target in TRANSITIONS.items():
            if source is phase and target not in reached:
                reached.add(target)
                frontier.append(target)
    assert reached == set(Phase)


def test_what_nobody_watches_changes_only_by_an_operator() -> None:
    by_operator = {Event.SCHEDULED, Event.STARTED, Event.ABORTED, Event.RECALLED}
    for phase in set(Phase) - WATCHED:
        assert {e for p, e in TRANSITIONS if p is phase} <= by_operator


# the table once more, a line for each phase: what is lost there or added is seen here
FORWARD = (
    "advanced running, switched running, finished completed, opened open, failed rolling-back, "
    "stage-failed returning-stage, held held, aborted aborted, recalled rolling-back, expired stopped"
)
LINES = {
    "draft": "scheduled scheduled, started running, aborted aborted",
    "scheduled": "started running, aborted aborted, expired stopped",
    "running": f"{FORWARD}, settled baking, paused paused",
    "baking": f"{FORWARD}, paused paused",
    "paused": f"{FORWARD}, resumed running",
    "open": "failed rolling-back, stage-failed returning-stage, held held, paused paused, "
    "finished completed, aborted aborted, recalled rolling-back",
    "held": "resumed running, aborted aborted, recalled rolling-back, expired stopped, "
    "failed rolling-back, stage-failed returning-stage",
    "rolling-back": "returned rolled-back",
    "returning-stage": "returned stopped, recalled rolling-back",
    "rolled-back": "recalled rolling-back",
    "completed": "recalled rolling-back",
    "stopped": "recalled rolling-back",
    "aborted": "recalled rolling-back",
}


def test_what_can_become_of_a_rollout_is_this_and_nothing_else() -> None:
    found: dict[str, set[str]] = {}
    for (before, event), after in TRANSITIONS.items():
        found.setdefault(before.value, set()).add(f"{event.value} {after.value}")
    assert found == {phase: set(line.split(", ")) for phase, line in LINES.items()}


def test_a_rollout_has_ended_when_nobody_looks_after_it_and_it_has_begun() -> None:
    assert set(Phase) - WATCHED - {Phase.DRAFT} == ENDED
