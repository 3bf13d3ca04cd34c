"""The A/B slots of one device and its current assignment: state, what can happen, what is to be done.

Two slots are enough for a way back at any moment: while a candidate is written, checked or tried,
the other slot holds what ran before and is not touched. Once a bundle is confirmed, the one before
it stays pinned as the last good one until the next candidate needs its place. Which event leads
where is in `transitions.py`, and what it changes in `effects.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from edge_agent.runtimes.choice import Choice
from edge_contracts.messages import Progress
from edge_contracts.withdrawal import Withdrawn

WITHDRAWN = "withdrawn"  # code of what becomes of a bundle that is


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
