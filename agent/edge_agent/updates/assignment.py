"""What an assignment asks of this device: a decision, pure.

`agent.py` has checked by then that the director signed it for this device and this topic.
"""

from __future__ import annotations

from dataclasses import dataclass

from edge_agent.updates.slots import WITHDRAWN, Held, Slot, Slots
from edge_contracts.messages import FINAL_PHASES, Assignment


@dataclass(frozen=True)
class Ignore:
    """Nothing to do: a replay, or one that is answered or under way already."""

    reason: str


@dataclass(frozen=True)
class Keep:
    """Nothing is assigned any more: stop what is under way, keep what is confirmed."""


@dataclass(frozen=True)
class Refuse:
    """It must not be begun."""

    code: str
    detail: str


@dataclass(frozen=True)
class Satisfied:
    """What it names is what runs."""

    held: Held


@dataclass(frozen=True)
class Reuse:
    """What it names lies in a slot: no download, but the same trial."""

    slot: Slot
    held: Held


@dataclass(frozen=True)
class Fetch:
    """It must be downloaded, or lies beside the slots."""

    held: Held


Decision = Ignore | Keep | Refuse | Satisfied | Reuse | Fetch


def is_news(assignment: Assignment, slots: Slots, era: int = 0) -> bool:
    """Whether the number is higher than every one before.

    Args:
        era: How often a publisher has said who directs. With each the numbers begin anew, whatever they are:
            a thief of the key of before may have given the highest there is.
    """
    if era != slots.era:
        return True
    if assignment.bundle is None and slots.number < 0:
        return False  # "you have none" is no news to a device that never had one
    return assignment.number > slots.number


def decide(assignment: Assignment, slots: Slots, now_ms: int, busy: bool) -> Decision:
    """What to do about an assignment.

    Args:
        slots: With the assignment taken note of (`Event.ASSIGNED`) when it `is_news`.
        now_ms: The device's clock. A clock that stands before 2020 decides nothing: devices without a
            battery start in 1970, and one that cannot update until its clock is set could not be helped.
        busy: Whether this very assignment is being worked on.
    """
    if assignment.number != slots.number:
        return Ignore(f"number {assignment.number}, the highest seen is {slots.number}")
    if slots.progress is not None and slots.progress.phase in FINAL_PHASES:
        return Ignore(f"answered already: {slots.progress.phase}")
    if busy or slots.candidate is not None:
        return Ignore("under way")
    if assignment.bundle is None or assignment.archive is None:
        return Keep()
    if slots.is_withdrawn(assignment.bundle):
        return Refuse(WITHDRAWN, slots.why_withdrawn)
    if assignment.counter < slots.floor and not assignment.permit_downgrade:
        return Refuse(
            "downgrade",
            f"release counter {assignment.counter} is below {slots.floor}, which was confirmed here, "
            "and the assignment does not permit it",
        )
    held = Held(assignment.bundle, assignment.counter, assignment.number, hold=assignment.hold)
    if slots.bundle_in(slots.active) == assignment.bundle:
        return Satisfied(held)
    if assignment.shadow is not None and slots.bundle_in(slots.active) is None:
        return Refuse("nothing-to-shadow", "no model answers here that the bundle could run beside")
    if assignment.expires_ms and now_ms > CLOCK_IS_SET_MS and assignment.expires_ms < now_ms:
        return Refuse("expired", f"it was to be begun before {assignment.expires_ms} ms, now is {now_ms} ms")
    if slots.bundle_in(slots.spare) == assignment.bundle and assignment.shadow is None:
        return Reuse(slots.spare, held)
    return Fetch(held)


CLOCK_IS_SET_MS = 1_577_836_800_000  # 2020-01-01
