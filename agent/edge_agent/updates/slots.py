"""The A/B slots of one device and its current assignment, as a pure state machine.

Nothing here reads a file or a clock: `agent.py` and `installer.py` feed events in, store the new
state, and only then carry the actions out. Acting twice is harmless, so a restart needs no memory
of how far the actions had come: it is just another event.

Two slots are enough for a way back at any moment: while a candidate is written, checked or tried,
the other slot holds what ran before and is not touched. Once a bundle is confirmed, the one before
it stays pinned as the last good one until the next candidate needs its place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TypeVar

from edge_agent.runtimes.choice import Choice
from edge_contracts.messages import Phase as Report
from edge_contracts.messages import Progress
from edge_contracts.withdrawal import Withdrawn

T = TypeVar("T")
WITHDRAWN = "withdrawn"  # code of what becomes of a bundle that is
MAX_CHECKS = 3  # a bundle whose check takes the whole device down must not be checked for ever


class Slot(StrEnum):
    """A place on the device for one extracted bundle."""

    A = "a"
    B = "b"

    @property
    def other(self) -> Slot:
        """The one that is not this one."""
        return Slot.B if self is Slot.A else Slot.A


class Phase(StrEnum):
    """Where an update stands on this device."""

    IDLE = "idle"  # what answers is confirmed, or nothing answers yet
    STAGED = "staged"  # a candidate lies verified in its slot; the old bundle answers
    TRIAL = "trial"  # the candidate answers, the old bundle is pinned


class Event(StrEnum):
    """What can happen to the slots."""

    ASSIGNED = "assigned"  # the server wants something new
    DOWNLOADING = "downloading"
    WAITING = "waiting"  # the download cannot go on now, and will be tried again
    REFUSED = "refused"  # the assigned bundle cannot be had, read or allowed
    SATISFIED = "satisfied"  # the assigned bundle is the one that runs
    KEPT = "kept"  # the server wants nothing but what is here
    STAGING = "staging"  # the spare slot is about to be written
    STAGED = "staged"  # a verified bundle lies complete in the spare slot
    CHECKED = "checked"  # it opened, agreed and was fast enough in a child process
    CHECK_FAILED = "check-failed"
    READIED = "readied"  # the same as checked, of a bundle that waits in its slot for the word to switch
    HEALTHY = "healthy"  # it has answered long enough
    UNHEALTHY = "unhealthy"
    ROLLBACK = "rollback"  # a person at the device wants the last good one
    DAMAGED = "damaged"  # what a slot holds does not verify any more
    BARRED = "barred"  # the fleet says which bundles are withdrawn
    WITHDRAWN = "withdrawn"  # what a slot holds is one of them
    SHADOWED = "shadowed"  # the assigned bundle runs as a shadow; no slot holds it
    SHADOW_STOPPED = "shadow-stopped"  # it was stopped: over its terms, failing, or gone
    STOPPED = "stopped"  # the agent ends in good order
    RESTARTED = "restarted"  # the agent begins, whatever ended it


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


@dataclass(frozen=True)
class Held:
    """What a slot holds.

    Args:
        bundle: Digest of the manifest.
        counter: Of the release that brought it; 0 for a local install.
        assignment: Number of the assignment that brought it, None for a local install.
        choice: The way of running it that its check settled on, None before.
        hold: Whether it is to wait for another assignment once it is checked.
    """

    bundle: str
    counter: int = 0
    assignment: int | None = None
    choice: Choice | None = None
    hold: bool = False


@dataclass(frozen=True)
class Slots:
    """Everything about updates that must survive a power cut.

    Args:
        held: What lies in each slot that has something complete in it.
        active: The slot that answers; the candidate's while it is on trial.
        candidate: The slot that is being checked or tried.
        last_good: The slot that a rollback goes to, pinned.
        checks: How often the candidate's check was begun.
        floor: Largest release counter that was ever confirmed here.
        number: Highest assignment number seen, -1 for none.
        era: Within which that is so: how often a publisher has said who directs.
        progress: What the server is told about that assignment.
        withdrawn: What the fleet has withdrawn, by its last word; None when it never said a word.
        emptied: Why nothing answers since the last bundle was withdrawn; "" when that is not why.
    """

    phase: Phase = Phase.IDLE
    held: dict[Slot, Held] = field(default_factory=dict)
    active: Slot | None = None
    candidate: Slot | None = None
    last_good: Slot | None = None
    checks: int = 0
    floor: int = 0
    number: int = -1
    progress: Progress | None = None
    withdrawn: Withdrawn | None = None
    emptied: str = ""
    era: int = 0

    @property
    def spare(self) -> Slot:
        """The slot that the next candidate is written to: never the one that answers."""
        return Slot.A if self.active is None else self.active.other

    def bundle_in(self, slot: Slot | None) -> str | None:
        """Digest of what a slot holds."""
        held = self.held.get(slot) if slot is not None else None
        return held.bundle if held is not None else None

    def is_withdrawn(self, bundle: str | None) -> bool:
        """Whether the fleet has withdrawn a bundle."""
        return self.withdrawn is not None and bundle in self.withdrawn.bundles

    @property
    def why_withdrawn(self) -> str:
        """What to say of a bundle that is."""
        reason = self.withdrawn.reason if self.withdrawn is not None else ""
        return "withdrawn by the fleet" + (f": {reason}" if reason else "")


@dataclass(frozen=True)
class Serve:
    """Answer with what this slot holds, or with nothing."""

    slot: Slot | None


@dataclass(frozen=True)
class Check:
    """Open, compare and time what this slot holds, in a child process."""

    slot: Slot


@dataclass(frozen=True)
class Erase:
    """Remove what lies in this slot."""

    slot: Slot


@dataclass(frozen=True)
class Tell:
    """Put an event into the telemetry and report the progress.

    Args:
        event: Its name, such as "confirmed".
        bundle: The bundle that it is about.
    """

    event: str
    bundle: str | None = None
    assignment: int | None = None
    code: str = ""
    detail: str = ""


Action = Serve | Check | Erase | Tell
Step = tuple[Slots, tuple[Action, ...]]


class TransitionInvalid(AssertionError):
    """An event in a phase that does not know it: our own fault, never the network's."""


@dataclass(frozen=True)
class Fact:
    """What an event brings with it; each event reads only what it needs.

    Args:
        number, era: Of the assignment (ASSIGNED).
        held: What was staged (STAGED).
        slot: Which slot is damaged (DAMAGED).
        choice: What the check settled on (CHECKED).
        withdrawn: All that is withdrawn (BARRED; ASSIGNED where another era begins).
        code, detail: The reason, for everything that goes wrong.
    """

    number: int | None = None
    era: int = 0
    held: Held | None = None
    slot: Slot | None = None
    choice: Choice | None = None
    withdrawn: Withdrawn | None = None
    code: str = ""
    detail: str = ""


def step(slots: Slots, event: Event, fact: Fact | None = None) -> Step:
    """The state after an event, and what to do once it is stored.

    Raises:
        TransitionInvalid: This phase does not know this event, or the event lacks its fact.
    """
    target = TRANSITIONS.get((slots.phase, event))
    if target is None:
        raise TransitionInvalid(f"{event} cannot happen in phase {slots.phase}")
    after, actions = _EFFECTS[event](slots, fact or Fact())
    return replace(after, phase=target), actions


def beginning(slots: Slots) -> tuple[Event, Fact]:
    """The event that a start of the agent is: a bundle whose check never ends has failed it."""
    if slots.phase is Phase.STAGED and slots.checks >= MAX_CHECKS:
        why = f"the check was begun {slots.checks} times and never ended"
        return Event.CHECK_FAILED, Fact(code="check-unfinished", detail=why)
    return Event.RESTARTED, Fact()


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


_EFFECTS: dict[Event, Callable[[Slots, Fact], Step]] = {
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
