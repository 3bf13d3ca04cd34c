"""The life of a rollout, as a pure state machine.

`decision.py` finds out what happened, `conductor.py` stores the new position and then acts. A
rollout at stage k has reached the devices of stages 0..k; whatever is undone is undone for all of
them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Phase(StrEnum):
    """Where a rollout stands."""

    DRAFT = "draft"
    RUNNING = "running"  # the stage's devices are assigned and are installing
    BAKING = "baking"  # they have settled; their telemetry is being watched
    PAUSED = "paused"  # by an operator: no further stage begins
    ROLLING_BACK = "rolling-back"  # every device reached is on its way back
    ROLLED_BACK = "rolled-back"
    COMPLETED = "completed"
    ABORTED = "aborted"  # by an operator: devices keep what they have


class Event(StrEnum):
    """What can happen to a rollout."""

    STARTED = "started"
    SETTLED = "settled"  # every device of the stage has answered or gone silent, and a quorum answered
    ADVANCED = "advanced"  # the gates passed and there is a next stage
    FINISHED = "finished"  # the gates passed and there is none
    FAILED = "failed"  # a gate failed
    PAUSED = "paused"
    RESUMED = "resumed"
    ABORTED = "aborted"
    RECALLED = "recalled"  # an operator wants every device back on what it had
    RETURNED = "returned"  # every device is back, or silent with the order waiting for it


# (phase, event) -> next phase. A pair that is absent is an error; the tests walk the table.
TRANSITIONS: dict[tuple[Phase, Event], Phase] = {
    (Phase.DRAFT, Event.STARTED): Phase.RUNNING,
    (Phase.DRAFT, Event.ABORTED): Phase.ABORTED,
    (Phase.RUNNING, Event.SETTLED): Phase.BAKING,
    (Phase.RUNNING, Event.FAILED): Phase.ROLLING_BACK,
    (Phase.RUNNING, Event.PAUSED): Phase.PAUSED,
    (Phase.RUNNING, Event.ABORTED): Phase.ABORTED,
    (Phase.RUNNING, Event.RECALLED): Phase.ROLLING_BACK,
    (Phase.BAKING, Event.ADVANCED): Phase.RUNNING,
    (Phase.BAKING, Event.FINISHED): Phase.COMPLETED,
    (Phase.BAKING, Event.FAILED): Phase.ROLLING_BACK,
    (Phase.BAKING, Event.PAUSED): Phase.PAUSED,
    (Phase.BAKING, Event.ABORTED): Phase.ABORTED,
    (Phase.BAKING, Event.RECALLED): Phase.ROLLING_BACK,
    # a pause stops new devices, not the watch over those that already run the release
    (Phase.PAUSED, Event.FAILED): Phase.ROLLING_BACK,
    # always to RUNNING, from where it settles again at once: the bake begins anew
    (Phase.PAUSED, Event.RESUMED): Phase.RUNNING,
    (Phase.PAUSED, Event.ABORTED): Phase.ABORTED,
    (Phase.PAUSED, Event.RECALLED): Phase.ROLLING_BACK,
    (Phase.ROLLING_BACK, Event.RETURNED): Phase.ROLLED_BACK,
    # a mind changed later; only devices that no other rollout has taken over since go back
    (Phase.COMPLETED, Event.RECALLED): Phase.ROLLING_BACK,
    (Phase.ABORTED, Event.RECALLED): Phase.ROLLING_BACK,
}

# The conductor looks after these; the others stand still until an operator acts.
WATCHED = frozenset({Phase.RUNNING, Phase.BAKING, Phase.PAUSED, Phase.ROLLING_BACK})
# A failing gate undoes the rollout in these.
GUARDED = frozenset({Phase.RUNNING, Phase.BAKING, Phase.PAUSED})

NO_STAGE = -1


class TransitionInvalid(ValueError):
    """The event cannot happen in this phase."""


@dataclass(frozen=True)
class Position:
    """Where a rollout stands, and since when.

    Args:
        stage: Index of the stage that was reached, NO_STAGE in DRAFT.
        since_s: When the phase was entered, Unix seconds.
    """

    phase: Phase = Phase.DRAFT
    stage: int = NO_STAGE
    since_s: float = 0.0


def step(position: Position, event: Event, now_s: float) -> Position:
    """The position after an event.

    Raises:
        TransitionInvalid: The table has no such pair.
    """
    phase = TRANSITIONS.get((position.phase, event))
    if phase is None:
        possible = ", ".join(sorted(e for p, e in TRANSITIONS if p is position.phase)) or "nothing"
        raise TransitionInvalid(f"a rollout that is {position.phase} cannot be {event}; possible: {possible}")
    begins_stage = event in (Event.STARTED, Event.ADVANCED)
    return Position(phase, position.stage + 1 if begins_stage else position.stage, now_s)
