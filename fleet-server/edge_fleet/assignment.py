"""The life of one assignment, as a pure state machine fed by what the device says and by silence.

A device reports with snapshots, of which some are lost: it may be seen to jump from OFFERED to
CONFIRMED. What it can never do is take back a refusal.
"""

from __future__ import annotations

from enum import StrEnum

from edge_contracts import messages


class State(StrEnum):
    """Where an assignment stands, as the server knows it."""

    PENDING = "pending"  # stored, not yet sent
    OFFERED = "offered"  # sent, or seen by the device
    DOWNLOADING = "downloading"
    TRIAL = "trial"
    SHADOW = "shadow"  # it was assigned as a shadow, and runs as one
    READY = "ready"  # it was to be brought and not switched to, and lies there
    CONFIRMED = "confirmed"
    ROLLED_BACK = "rolled-back"  # by the device itself
    REFUSED = "refused"
    UNREACHABLE = "unreachable"  # silent for longer than the plan allows: neither good nor bad


class Event(StrEnum):
    """What can happen to an assignment."""

    SENT = "sent"
    RECEIVED = "received"
    DOWNLOADING = "downloading"
    TRIAL = "trial"
    SHADOW = "shadow"
    READY = "ready"
    CONFIRMED = "confirmed"
    ROLLED_BACK = "rolled-back"
    REFUSED = "refused"
    SILENT = "silent"


_TOLD = {
    Event.RECEIVED: State.OFFERED,
    Event.DOWNLOADING: State.DOWNLOADING,
    Event.TRIAL: State.TRIAL,
    Event.SHADOW: State.SHADOW,
    Event.READY: State.READY,
    Event.CONFIRMED: State.CONFIRMED,
    Event.ROLLED_BACK: State.ROLLED_BACK,
    Event.REFUSED: State.REFUSED,
}
OPEN = (State.PENDING, State.OFFERED, State.DOWNLOADING, State.TRIAL, State.UNREACHABLE)

# (state, event) -> next state. A pair that is absent is an error; the tests walk the table.
TRANSITIONS: dict[tuple[State, Event], State] = {
    # an open assignment becomes whatever the device says: snapshots may skip steps, and a device
    # that was interrupted begins again
    **{(state, event): told for state in OPEN for event, told in _TOLD.items()},
    (State.PENDING, Event.SENT): State.OFFERED,
    # sent again: nothing new, and a device that had fallen silent must speak before it counts
    **{(state, Event.SENT): state for state in OPEN if state is not State.PENDING},
    **{(state, Event.SILENT): State.UNREACHABLE for state in OPEN},
    # snapshots repeat the last word
    (State.CONFIRMED, Event.CONFIRMED): State.CONFIRMED,
    (State.SHADOW, Event.SHADOW): State.SHADOW,
    (State.ROLLED_BACK, Event.ROLLED_BACK): State.ROLLED_BACK,
    (State.REFUSED, Event.REFUSED): State.REFUSED,
    # it misbehaved after it was confirmed, and the device went back by itself
    (State.CONFIRMED, Event.ROLLED_BACK): State.ROLLED_BACK,
    (State.SHADOW, Event.ROLLED_BACK): State.ROLLED_BACK,
    (State.READY, Event.READY): State.READY,
    # what lay ready was damaged, or its place was needed: it is brought again
    (State.READY, Event.RECEIVED): State.OFFERED,
    (State.READY, Event.DOWNLOADING): State.DOWNLOADING,
    (State.READY, Event.TRIAL): State.TRIAL,
    (State.READY, Event.REFUSED): State.REFUSED,
}

ANSWERED = frozenset({State.CONFIRMED, State.ROLLED_BACK, State.REFUSED, State.SHADOW, State.READY})
FAILED = frozenset({State.ROLLED_BACK, State.REFUSED})
WITHDRAWN = "withdrawn"  # code of a device that was told to part from it: it has done as it was told
SETTLED = ANSWERED | {State.UNREACHABLE}

EVENT_OF: dict[messages.Phase, Event] = {
    messages.Phase.RECEIVED: Event.RECEIVED,
    messages.Phase.DOWNLOADING: Event.DOWNLOADING,
    messages.Phase.TRIAL: Event.TRIAL,
    messages.Phase.SHADOW: Event.SHADOW,
    messages.Phase.READY: Event.READY,
    messages.Phase.CONFIRMED: Event.CONFIRMED,
    messages.Phase.ROLLED_BACK: Event.ROLLED_BACK,
    messages.Phase.REFUSED: Event.REFUSED,
}


class TransitionInvalid(ValueError):
    """The event cannot happen in this state."""


def step(state: State, event: Event) -> State:
    """The state after an event.

    Raises:
        TransitionInvalid: The table has no such pair, such as a device that takes back a refusal.
    """
    following = TRANSITIONS.get((state, event))
    if following is None:
        raise TransitionInvalid(f"an assignment that is {state} cannot become {event}")
    return following
