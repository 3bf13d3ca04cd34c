"""Parting from bundles that the fleet has withdrawn: what happens next to the slots. Pure.

The word is stored first (`slots.Event.BARRED`); each step that follows from it is a step of its own, and
which is next can be told from the state alone. So a device that loses power in between goes on where it was,
before it answers anything.
"""

from __future__ import annotations

from edge_agent.errors import InstallRefused
from edge_agent.updates.slots import WITHDRAWN, Event, Fact, Phase, Slots
from edge_contracts.withdrawal import Withdrawn


def is_newer(word: Withdrawn, slots: Slots) -> bool:
    """Whether a word says more than the one that is stored; an old one that comes again says nothing."""
    return slots.withdrawn is None or word.n > slots.withdrawn.n


def next_parting(slots: Slots) -> tuple[Event, Fact] | None:
    """The next event by which a withdrawn bundle leaves its slot; None when no slot holds one.

    What could be gone back to goes first, so that nothing withdrawn answers for a moment in between.
    """
    for slot in dict.fromkeys((slots.last_good, slots.spare, slots.candidate, slots.active)):
        if slot is None or not slots.is_withdrawn(slots.bundle_in(slot)):
            continue
        fact = Fact(slot=slot, code=WITHDRAWN, detail=slots.why_withdrawn)
        if slot is not slots.candidate:
            return Event.WITHDRAWN, fact
        return (Event.UNHEALTHY if slots.phase is Phase.TRIAL else Event.CHECK_FAILED), fact
    return None


def require_standing(slots: Slots, bundle: str) -> None:
    """See that a bundle may be installed by somebody at the device.

    Raises:
        InstallRefused: The fleet has withdrawn it.
    """
    if slots.is_withdrawn(bundle):
        raise InstallRefused(f"bundle {bundle} was {slots.why_withdrawn}; the fleet must reopen its release")
