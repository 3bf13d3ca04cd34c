"""The life of a rollout, as a pure state machine.

`engine.py` finds out what happened, `conductor.py` stores the new position and then acts. A rollout at
stage k has reached the devices of stages 0..k; what is undone is undone for all of them, or for
those of stage k alone where the plan says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from edge_fleet.rollouts.parts import Part


class Phase(StrEnum):
    """Where a rollout stands."""

    DRAFT = "draft"
    SCHEDULED = "scheduled"  # started, and waiting for the plan's start_at
    RUNNING = "running"  # the stage's devices are assigned and are installing
    BAKING = "baking"  # they have settled; their telemetry is being watched
    OPEN = "open"  # the last stage has passed; devices that join get the release until the deadline
    PAUSED = "paused"  # by an operator: no further device begins
    HELD = "held"  # a gate failed and the plan says hold: nothing happens until an operator acts
    ROLLING_BACK = "rolling-back"  # every device reached is on its way back
    RETURNING_STAGE = "returning-stage"  # the devices of the stage that failed are on their way back
    ROLLED_BACK = "rolled-back"
    COMPLETED = "completed"
    STOPPED = "stopped"  # by the plan: it goes no further, and devices keep what they have
    ABORTED = "aborted"  # by an operator: devices keep what they have


class Event(StrEnum):
    """What can happen to a rollout."""

    SCHEDULED = "scheduled"
    STARTED = "started"
    SETTLED = "settled"  # every device of the stage has answered or gone silent, and a quorum answered
    SWITCHED = "switched"  # the first part of the stage is done with: its devices are given it to run
    ADVANCED = "advanced"  # the gates passed, or an operator would not wait; there is a next stage
    FINISHED = "finished"  # the same, and there is none
    OPENED = "opened"  # the same, and the plan lets devices join until the deadline
    FAILED = "failed"  # a gate failed: every device goes back
    STAGE_FAILED = "stage-failed"  # a gate failed: the devices of the stage go back
    HELD = "held"  # a gate failed: nothing happens
    EXPIRED = "expired"  # the deadline passed, and the plan says stop
    PAUSED = "paused"
    RESUMED = "resumed"
    ABORTED = "aborted"
    RECALLED = "recalled"  # an operator wants every device back on what it had
    RETURNED = "returned"  # every device is back, or silent with the order waiting for it


_FORWARD = (Phase.RUNNING, Phase.BAKING, Phase.PAUSED)

# (phase, event) -> next phase. A pair that is absent is an error; the tests walk the table.
TRANSITIONS: dict[tuple[Phase, Event], Phase] = {
    (Phase.DRAFT, Event.SCHEDULED): Phase.SCHEDULED,
    (Phase.DRAFT, Event.STARTED): Phase.RUNNING,
    (Phase.DRAFT, Event.ABORTED): Phase.ABORTED,
    (Phase.SCHEDULED, Event.STARTED): Phase.RUNNING,
    (Phase.SCHEDULED, Event.ABORTED): Phase.ABORTED,
    (Phase.SCHEDULED, Event.EXPIRED): Phase.STOPPED,
    **{(phase, Event.SWITCHED): Phase.RUNNING for phase in _FORWARD},
    # from a running or paused stage only by an operator, who does not wait for the bake
    **{(phase, Event.ADVANCED): Phase.RUNNING for phase in _FORWARD},
    **{(phase, Event.FINISHED): Phase.COMPLETED for phase in _FORWARD},
    **{(phase, Event.OPENED): Phase.OPEN for phase in _FORWARD},
    # a pause stops new devices, not the watch over those that already run the release
    **{(phase, Event.FAILED): Phase.ROLLING_BACK for phase in _FORWARD},
    **{(phase, Event.STAGE_FAILED): Phase.RETURNING_STAGE for phase in _FORWARD},
    **{(phase, Event.HELD): Phase.HELD for phase in _FORWARD},
    **{(phase, Event.ABORTED): Phase.ABORTED for phase in _FORWARD},
    **{(phase, Event.RECALLED): Phase.ROLLING_BACK for phase in _FORWARD},
    **{(phase, Event.EXPIRED): Phase.STOPPED for phase in _FORWARD},
    (Phase.RUNNING, Event.SETTLED): Phase.BAKING,
    (Phase.RUNNING, Event.PAUSED): Phase.PAUSED,
    (Phase.BAKING, Event.PAUSED): Phase.PAUSED,
    # always to RUNNING, from where it settles again at once: the bake begins anew
    (Phase.PAUSED, Event.RESUMED): Phase.RUNNING,
    (Phase.OPEN, Event.FAILED): Phase.ROLLING_BACK,
    (Phase.OPEN, Event.STAGE_FAILED): Phase.RETURNING_STAGE,
    (Phase.OPEN, Event.HELD): Phase.HELD,
    (Phase.OPEN, Event.PAUSED): Phase.PAUSED,
    (Phase.OPEN, Event.FINISHED): Phase.COMPLETED,
    (Phase.OPEN, Event.ABORTED): Phase.ABORTED,
    (Phase.OPEN, Event.RECALLED): Phase.ROLLING_BACK,
    # a gate that fails still holds it again at once: no order leads past it
    (Phase.HELD, Event.RESUMED): Phase.RUNNING,
    (Phase.HELD, Event.ABORTED): Phase.ABORTED,
    (Phase.HELD, Event.RECALLED): Phase.ROLLING_BACK,
    (Phase.HELD, Event.EXPIRED): Phase.STOPPED,
    (Phase.HELD, Event.FAILED): Phase.ROLLING_BACK,
    (Phase.HELD, Event.STAGE_FAILED): Phase.RETURNING_STAGE,
    (Phase.ROLLING_BACK, Event.RETURNED): Phase.ROLLED_BACK,
    (Phase.RETURNING_STAGE, Event.RETURNED): Phase.STOPPED,
    (Phase.RETURNING_STAGE, Event.RECALLED): Phase.ROLLING_BACK,
    # some could not go back, and what was in their way is gone: they are told once more
    (Phase.ROLLED_BACK, Event.RECALLED): Phase.ROLLING_BACK,
    # a mind changed later; only devices that no other rollout has taken over since go back
    (Phase.COMPLETED, Event.RECALLED): Phase.ROLLING_BACK,
    (Phase.STOPPED, Event.RECALLED): Phase.ROLLING_BACK,
    (Phase.ABORTED, Event.RECALLED): Phase.ROLLING_BACK,
}

# Devices are on their way back in these.
RETURNING = frozenset({Phase.ROLLING_BACK, Phase.RETURNING_STAGE})
# A failing gate undoes the rollout in these.
GUARDED = frozenset({Phase.RUNNING, Phase.BAKING, Phase.OPEN, Phase.PAUSED})
# The conductor looks after these; the others stand still until an operator acts.
WATCHED = GUARDED | RETURNING | {Phase.SCHEDULED, Phase.HELD}
# Devices are begun in these.
BEGINNING = frozenset({Phase.RUNNING, Phase.OPEN})
ENDED = frozenset({Phase.ROLLED_BACK, Phase.COMPLETED, Phase.STOPPED, Phase.ABORTED})

# What people call the events that they bring about.
ORDERS = {
    Event.STARTED: "start",
    Event.PAUSED: "pause",
    Event.RESUMED: "resume",
    Event.ADVANCED: "advance",
    Event.ABORTED: "abort",
    Event.RECALLED: "rollback",
}
_DONE = {Event.RECALLED: "rolled back"}

NO_STAGE = -1


class TransitionInvalid(ValueError):
    """The event cannot happen in this phase."""


@dataclass(frozen=True)
class Position:
    """Where a rollout stands, and since when.

    Args:
        stage: Index of the stage that was reached, NO_STAGE in DRAFT.
        since_s: When the phase was entered, Unix seconds.
        part: What the devices of the stage are given.
        opened: Whether the last stage has passed and devices may join: a pause does not undo that, a gate
            that fails later does.
    """

    phase: Phase = Phase.DRAFT
    stage: int = NO_STAGE
    since_s: float = 0.0
    part: Part = Part.SWITCH
    opened: bool = False


# Only a stage whose last part is done with is passed, and only one that has a part before it is switched.
_PASSED = frozenset({Event.ADVANCED, Event.FINISHED, Event.OPENED})


def step(position: Position, event: Event, now_s: float, first: Part = Part.SWITCH) -> Position:
    """The position after an event.

    Args:
        first: The part with which a stage begins.

    Raises:
        TransitionInvalid: The table has no such pair, or the part of the stage does not allow it.
    """
    phase = TRANSITIONS.get((position.phase, event))
    if phase is None:
        possible = {ORDERS[e] for p, e in TRANSITIONS if p is position.phase and e in ORDERS}
        told = f"possible: {', '.join(sorted(possible))}" if possible else "its devices are on their way back"
        raise TransitionInvalid(
            f"a rollout that is {position.phase} cannot be {_DONE.get(event, event)}; {told}"
        )
    switched = position.part is Part.SWITCH
    if (event in _PASSED and not switched) or (event is Event.SWITCHED and switched):
        raise TransitionInvalid(f"a stage that is at its part {position.part} cannot be {event}")
    if event in (Event.STARTED, Event.ADVANCED):
        return Position(phase, position.stage + 1, now_s, first)
    part = Part.SWITCH if event is Event.SWITCHED else position.part
    opened = event is Event.OPENED or (position.opened and event is not Event.HELD)
    return Position(phase, position.stage, now_s, part, opened)
