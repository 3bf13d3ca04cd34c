"""What each event changes about the slots, and what is to be done once that is stored. Pure.

Whether it may happen at all, and the phase that it leads to, is decided in `transitions.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeVar

from edge_agent.updates.slots import (
    WITHDRAWN,
    Action,
    Check,
    Erase,
    Event,
    Fact,
    Held,
    Phase,
    Serve,
    Slot,
    Slots,
    Step,
    Tell,
    TransitionInvalid,
)
from edge_contracts.messages import Phase as Report
from edge_contracts.messages import Progress

T = TypeVar("T")


def _assigned(slots: Slots, fact: Fact) -> Step:
    number = _needed(fact.number, "an assignment without its number")
    back = slots.last_good if slots.phase is Phase.TRIAL else slots.active
    # the candidate stays in its slot: the new assignment may name the same bundle again
    after = _without_candidate(slots, back)
    progress = Progress(assignment=number, phase=Report.RECEIVED)
    if fact.era != slots.era:  # what a director of before has withdrawn is withdrawn no longer
        after = replace(after, withdrawn=fact.withdrawn)
    after = replace(after, number=number, era=fact.era, progress=progress)
    return after, (Serve(back), Tell("assigned", assignment=number))


def _downloading(slots: Slots, fact: Fact) -> Step:
    return _report(slots, Report.DOWNLOADING, fact), (Tell("downloading", assignment=slots.number),)


def _waiting(slots: Slots, fact: Fact) -> Step:
    # still downloading to the server, which must not count it as failed; the code says why it stands
    tell = Tell("download-waits", None, slots.number, fact.code, fact.detail)
    return _report(slots, Report.DOWNLOADING, fact), (tell,)


def _refused(slots: Slots, fact: Fact) -> Step:
    tell = Tell("refused", None, slots.number, fact.code, fact.detail)
    return _report(slots, Report.REFUSED, fact), (tell,)


def _satisfied(slots: Slots, fact: Fact) -> Step:
    active = _needed(slots.active, "nothing runs that could satisfy an assignment")
    held = _needed(slots.held.get(active), "the active slot holds nothing")
    counter = max(held.counter, fact.held.counter if fact.held else 0)
    now = replace(held, assignment=slots.number, counter=counter)
    after = replace(slots, held={**slots.held, active: now}, floor=max(slots.floor, counter))
    return _report(after, Report.CONFIRMED, fact), (Tell("confirmed", held.bundle, slots.number),)


def _kept(slots: Slots, fact: Fact) -> Step:
    return _report(slots, Report.CONFIRMED, Fact(detail="keeps what it has")), ()


def _shadowed(slots: Slots, fact: Fact) -> Step:
    held = _needed(fact.held, "which bundle runs as a shadow was not said")
    after = _report(slots, Report.SHADOW, Fact(detail="runs beside what answers"))
    return after, (Tell("shadowed", held.bundle, held.assignment),)


def _shadow_stopped(slots: Slots, fact: Fact) -> Step:
    if slots.progress is None or slots.progress.phase is not Report.SHADOW:
        return slots, ()  # something else is assigned by now
    return _report(slots, Report.ROLLED_BACK, fact), ()


def _staging(slots: Slots, fact: Fact) -> Step:
    # from here on the spare slot may hold anything, so no rollback may lead there
    held = {slot: what for slot, what in slots.held.items() if slot is not slots.spare}
    actions: tuple[Action, ...] = (Erase(slots.spare),)
    gone = slots.bundle_in(slots.spare)
    if gone is not None:
        pinned = ", the last good bundle" if slots.last_good is slots.spare else ""
        why = f"slot {slots.spare}{pinned}: the next bundle needs its place, {slots.active} answers meanwhile"
        actions = (*actions, Tell("cleaned-up", gone, None, "place-needed", why))
    after = replace(slots, held=held, last_good=None)
    if _is_ready(slots, slots.spare):  # a person's bundle takes its place: it is fetched again
        after = _report(after, Report.RECEIVED, Fact(code="place-needed", detail="its slot was needed"))
    return after, actions


def _staged(slots: Slots, fact: Fact) -> Step:
    held = _needed(fact.held, "nothing was staged")
    spare = slots.spare
    after = replace(slots, held={**slots.held, spare: held}, candidate=spare, checks=1)
    # a bundle that was the last good one is pinned no longer: it is the candidate now
    after = replace(after, last_good=None if slots.last_good is spare else slots.last_good)
    if held.assignment is not None:
        after = _report(after, Report.TRIAL, Fact(detail="checked in a child process"))
    return after, (Check(spare), Tell("staged", held.bundle, held.assignment))


def _checked(slots: Slots, fact: Fact) -> Step:
    slot, held = _candidate(slots)
    held = replace(held, choice=fact.choice)
    after = replace(slots, active=slot, last_good=slots.active, held={**slots.held, slot: held}, emptied="")
    if held.assignment is not None:
        after = _report(after, Report.TRIAL, Fact(detail="answers live inputs"))
    return after, (Serve(slot), Tell("trial-started", held.bundle, held.assignment))


def _readied(slots: Slots, fact: Fact) -> Step:
    slot, held = _candidate(slots)
    after = replace(slots, candidate=None, checks=0)
    after = replace(after, held={**slots.held, slot: replace(held, choice=fact.choice)})
    after = _report(after, Report.READY, Fact(detail="checked, waits for the word to switch"))
    return after, (Tell("readied", held.bundle, held.assignment),)


def _check_failed(slots: Slots, fact: Fact) -> Step:
    slot, held = _candidate(slots)
    after = _forget(_without_candidate(slots, slots.active), slot)
    if held.assignment is not None:
        after = _report(after, Report.REFUSED, fact)
    tell = Tell("refused", held.bundle, held.assignment, fact.code, fact.detail)
    return after, (Serve(slots.active), Erase(slot), tell)


def _healthy(slots: Slots, fact: Fact) -> Step:
    _, held = _candidate(slots)
    after = replace(slots, candidate=None, checks=0, floor=max(slots.floor, held.counter))
    left = slots.held.get(slots.last_good) if slots.last_good is not None else None
    if held.assignment is not None and left is not None and held.counter < left.counter:
        after = replace(after, last_good=None)  # the fleet has gone back from it: it is not good any more
    if held.assignment is not None:
        after = _report(after, Report.CONFIRMED, Fact())
    return after, (Tell("confirmed", held.bundle, held.assignment),)


def _unhealthy(slots: Slots, fact: Fact) -> Step:
    slot, held = _candidate(slots)
    back = slots.last_good
    after = _forget(_without_candidate(slots, back), slot)
    if fact.code == WITHDRAWN and back is None:
        after = replace(after, emptied=fact.detail)
    if held.assignment is not None:
        after = _report(after, Report.ROLLED_BACK, fact)
    tell = Tell("rolled-back", held.bundle, held.assignment, fact.code, fact.detail)
    return after, (Serve(back), Erase(slot), tell)


def _rollback(slots: Slots, fact: Fact) -> Step:
    why = Fact(code="operator", detail=fact.detail or "rolled back at the device")
    if slots.phase is Phase.STAGED:
        return _check_failed(slots, why)
    if slots.phase is Phase.TRIAL:
        return _unhealthy(slots, why)
    back = _needed(slots.last_good, "there is no last good bundle to go back to")
    left = slots.held.get(slots.active) if slots.active is not None else None
    after = replace(slots, active=back, last_good=None)
    if left is not None and left.assignment is not None and left.assignment == slots.number:
        after = _report(after, Report.ROLLED_BACK, why)
    bundle, number = (left.bundle, left.assignment) if left is not None else (None, None)
    return after, (Serve(back), Tell("rolled-back", bundle, number, why.code, why.detail))


def _damaged(slots: Slots, fact: Fact) -> Step:
    slot = _needed(fact.slot, "which slot is damaged was not said")
    held = _needed(slots.held.get(slot), f"slot {slot} holds nothing that could be damaged")
    if slot is slots.candidate:
        raise TransitionInvalid("a damaged candidate fails its check")
    after = _forget(slots, slot)
    number = None
    if slot is slots.active:
        after = replace(after, active=slots.last_good, last_good=None)
        is_assigned = held.assignment is not None and held.assignment == slots.number
        if is_assigned and slots.phase is Phase.IDLE:
            # not a final word: the server's next answer to hello has it fetched again
            number = held.assignment
            after = _report(after, Report.RECEIVED, Fact(code=fact.code or "damaged", detail=fact.detail))
    elif _is_ready(slots, slot):
        number = held.assignment
        after = _report(after, Report.RECEIVED, Fact(code=fact.code or "damaged", detail=fact.detail))
    tell = Tell("damaged", held.bundle, number, fact.code or "damaged", fact.detail)
    return after, (Serve(after.active), Erase(slot), tell)


def _barred(slots: Slots, fact: Fact) -> Step:
    return replace(slots, withdrawn=_needed(fact.withdrawn, "what is withdrawn was not said")), ()


def _withdrawn(slots: Slots, fact: Fact) -> Step:
    slot = _needed(fact.slot, "which slot holds a withdrawn bundle was not said")
    held = _needed(slots.held.get(slot), f"slot {slot} holds nothing that could be withdrawn")
    if slot is slots.candidate:
        raise TransitionInvalid("a withdrawn candidate fails its check or its trial")
    after, why = _forget(slots, slot), Fact(code=WITHDRAWN, detail=fact.detail)
    is_newest = held.assignment is not None and held.assignment == slots.number
    if slot is slots.active:
        after = replace(after, active=slots.last_good, last_good=None)
        after = replace(after, emptied=fact.detail if after.active is None else "")
        if is_newest and slots.phase is Phase.IDLE:
            after = _report(after, Report.ROLLED_BACK, why)
    elif _is_ready(slots, slot):
        after = _report(after, Report.REFUSED, why)
    tell = Tell("withdrawn", held.bundle, held.assignment, WITHDRAWN, fact.detail)
    return after, (Serve(after.active), Erase(slot), tell)


def _stopped(slots: Slots, fact: Fact) -> Step:
    after = replace(slots, checks=0)
    if slots.phase is Phase.TRIAL:
        after = replace(after, active=slots.last_good, last_good=None)
    return after, (Tell("stopped"),)


def _restarted(slots: Slots, fact: Fact) -> Step:
    if slots.phase is Phase.TRIAL:
        return _unhealthy(slots, Fact(code="restarted", detail="the agent or the device went down on trial"))
    if slots.phase is Phase.STAGED:
        slot, _ = _candidate(slots)
        return replace(slots, checks=slots.checks + 1), (Serve(slots.active), Check(slot))
    return slots, (Serve(slots.active),)


def _is_ready(slots: Slots, slot: Slot) -> bool:
    """Whether this slot holds what the newest assignment has had brought, and nothing more yet."""
    held, told = slots.held.get(slot), slots.progress
    is_told = told is not None and told.phase is Report.READY
    return is_told and held is not None and held.assignment == slots.number


def _without_candidate(slots: Slots, active: Slot | None) -> Slots:
    """The slots with `active` answering and nothing under way."""
    last_good = slots.last_good if slots.last_good is not active else None
    return replace(slots, active=active, candidate=None, checks=0, last_good=last_good)


def _forget(slots: Slots, slot: Slot) -> Slots:
    """The slots without what one of them held."""
    held = {name: what for name, what in slots.held.items() if name is not slot}
    return replace(slots, held=held, last_good=None if slots.last_good is slot else slots.last_good)


def _report(slots: Slots, phase: Report, fact: Fact) -> Slots:
    """The slots with another progress of the current assignment."""
    progress = Progress(assignment=slots.number, phase=phase, code=fact.code[:64], detail=fact.detail[:500])
    return replace(slots, progress=progress)


def _candidate(slots: Slots) -> tuple[Slot, Held]:
    slot = _needed(slots.candidate, "there is no candidate")
    return slot, _needed(slots.held.get(slot), "the candidate's slot holds nothing")


def _needed(value: T | None, otherwise: str) -> T:
    if value is None:
        raise TransitionInvalid(otherwise)
    return value


EFFECTS: Mapping[Event, Callable[[Slots, Fact], Step]] = {
    Event.ASSIGNED: _assigned,
    Event.DOWNLOADING: _downloading,
    Event.WAITING: _waiting,
    Event.REFUSED: _refused,
    Event.SATISFIED: _satisfied,
    Event.KEPT: _kept,
    Event.SHADOWED: _shadowed,
    Event.SHADOW_STOPPED: _shadow_stopped,
    Event.STAGING: _staging,
    Event.STAGED: _staged,
    Event.CHECKED: _checked,
    Event.CHECK_FAILED: _check_failed,
    Event.READIED: _readied,
    Event.HEALTHY: _healthy,
    Event.UNHEALTHY: _unhealthy,
    Event.ROLLBACK: _rollback,
    Event.DAMAGED: _damaged,
    Event.BARRED: _barred,
    Event.WITHDRAWN: _withdrawn,
    Event.STOPPED: _stopped,
    Event.RESTARTED: _restarted,
}
