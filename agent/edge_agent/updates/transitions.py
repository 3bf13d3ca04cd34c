"""The slots as a pure state machine: which event may happen in which phase, and where it leads.

Nothing here reads a file or a clock: `updater.py` and `local.py` feed events in, store the new
state, and only then carry the actions out. Acting twice is harmless, so a restart needs no memory
of how far the actions had come: it is just another event. What an event changes is in `effects.py`.
"""

from __future__ import annotations

from dataclasses import replace

from edge_agent.updates.effects import EFFECTS
from edge_agent.updates.slots import Event, Fact, Phase, Slots, Step, TransitionInvalid

MAX_CHECKS = 3  # a bundle whose check takes the whole device down must not be checked for ever

# (phase, event) -> next phase. A pair that is absent is an error; the tests walk the table.
TRANSITIONS: dict[tuple[Phase, Event], Phase] = {
    (Phase.IDLE, Event.ASSIGNED): Phase.IDLE,
    (Phase.STAGED, Event.ASSIGNED): Phase.IDLE,  # the server has changed its mind
    (Phase.TRIAL, Event.ASSIGNED): Phase.IDLE,
    (Phase.IDLE, Event.DOWNLOADING): Phase.IDLE,
    (Phase.IDLE, Event.WAITING): Phase.IDLE,
    (Phase.IDLE, Event.REFUSED): Phase.IDLE,
    (Phase.IDLE, Event.SATISFIED): Phase.IDLE,
    (Phase.IDLE, Event.KEPT): Phase.IDLE,
    (Phase.IDLE, Event.SHADOWED): Phase.IDLE,
    **{(phase, Event.SHADOW_STOPPED): phase for phase in Phase},  # a person may try a bundle meanwhile
    (Phase.IDLE, Event.STAGING): Phase.IDLE,
    (Phase.IDLE, Event.STAGED): Phase.STAGED,
    (Phase.STAGED, Event.CHECKED): Phase.TRIAL,
    (Phase.STAGED, Event.CHECK_FAILED): Phase.IDLE,
    (Phase.STAGED, Event.READIED): Phase.IDLE,  # it is nobody's candidate until it is assigned to run
    (Phase.TRIAL, Event.HEALTHY): Phase.IDLE,
    (Phase.TRIAL, Event.UNHEALTHY): Phase.IDLE,
    (Phase.IDLE, Event.ROLLBACK): Phase.IDLE,
    (Phase.STAGED, Event.ROLLBACK): Phase.IDLE,
    (Phase.TRIAL, Event.ROLLBACK): Phase.IDLE,
    (Phase.IDLE, Event.DAMAGED): Phase.IDLE,
    (Phase.STAGED, Event.DAMAGED): Phase.STAGED,  # of the slot that answers; a candidate fails its check
    (Phase.TRIAL, Event.DAMAGED): Phase.TRIAL,  # of the last good one; a candidate fails its trial
    **{(phase, Event.BARRED): phase for phase in Phase},
    **{(phase, Event.WITHDRAWN): phase for phase in Phase},  # as with damage, a candidate fails
    (Phase.IDLE, Event.STOPPED): Phase.IDLE,
    (Phase.STAGED, Event.STOPPED): Phase.STAGED,
    (Phase.TRIAL, Event.STOPPED): Phase.STAGED,  # nobody's fault: it is tried again
    (Phase.IDLE, Event.RESTARTED): Phase.IDLE,
    (Phase.STAGED, Event.RESTARTED): Phase.STAGED,
    (Phase.TRIAL, Event.RESTARTED): Phase.IDLE,  # a crash or a power cut on trial is a failed trial
}


def step(slots: Slots, event: Event, fact: Fact | None = None) -> Step:
    """The state after an event, and what to do once it is stored.

    Raises:
        TransitionInvalid: This phase does not know this event, or the event lacks its fact.
    """
    target = TRANSITIONS.get((slots.phase, event))
    if target is None:
        raise TransitionInvalid(f"{event} cannot happen in phase {slots.phase}")
    after, actions = EFFECTS[event](slots, fact or Fact())
    return replace(after, phase=target), actions


def beginning(slots: Slots) -> tuple[Event, Fact]:
    """The event that a start of the agent is: a bundle whose check never ends has failed it."""
    if slots.phase is Phase.STAGED and slots.checks >= MAX_CHECKS:
        why = f"the check was begun {slots.checks} times and never ended"
        return Event.CHECK_FAILED, Fact(code="check-unfinished", detail=why)
    return Event.RESTARTED, Fact()
