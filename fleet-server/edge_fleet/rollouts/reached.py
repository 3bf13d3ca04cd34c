"""A device that a rollout has reached: its two assignments, and what was tried. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from edge_fleet.assignment import FAILED, SETTLED, State
from edge_fleet.evidence import Member
from edge_fleet.rollouts.parts import PREPARED, Part
from edge_fleet.rollouts.retries import Cause, Retries, cause_back, used_back

# A device that speaks but does not get on with its assignment is given longer than a silent one.
STALLED_FACTOR = 4


class Left(StrEnum):
    """How an operator took a device out of a rollout."""

    SKIPPED = "skipped"  # it is not given the release, or is told to keep what it has
    SENT_BACK = "sent-back"  # it had the release, and goes back


@dataclass(frozen=True)
class Reached:
    """One device of a rollout.

    Args:
        number, back: Of the assignment that brings the release, and of the one that takes it away.
        back_state: Where the second stands; None when there is none.
        back_code, back_detail: The device's own word for why it stands so; "" when all is well.
        changed_ms: When the assignment in force last changed its state.
        last_seen_ms: When the device last said anything.
        used: Retries so far, by cause; those of the way back under names of their own.
        left: Set when an operator took it out: it counts for nothing any more.
        labels: Of the device.
        part: What it was given for, by the assignment that brings the release.
    """

    member: Member
    number: int
    back: int | None = None
    back_state: State | None = None
    changed_ms: int = 0
    last_seen_ms: int | None = None
    used: Mapping[str, int] = field(default_factory=dict)
    left: Left | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    part: Part = Part.SWITCH
    back_code: str = ""
    back_detail: str = ""

    @property
    def device(self) -> str:
        """Its id."""
        return self.member.device

    @property
    def state(self) -> State:
        """Of the assignment in force."""
        return self.member.state if self.back_state is None else self.back_state

    @property
    def in_flight(self) -> bool:
        """Whether the release is on its way to it."""
        return self.back is None and self.left is None and self.member.state not in SETTLED

    def silent_at_s(self, silence_s: float) -> float:
        """When it counts as silent, if nothing more is heard of it; infinite when it is not waited for."""
        if self.state in SETTLED or self.left is not None:
            return math.inf
        quiet_since = max(self.changed_ms, self.last_seen_ms or 0)
        return min(quiet_since / 1000 + silence_s, self.changed_ms / 1000 + STALLED_FACTOR * silence_s)

    def cause(self, retries: Retries) -> Cause | None:
        """The budget from which it may be tried again; None when it did not fail, or may not."""
        if self.back is not None or self.left is not None or self.member.state not in FAILED:
            return None
        return retries.cause(self.member.code, self.used)

    def due_s(self, retries: Retries) -> float:
        """When it may be tried again, after a failure with a cause."""
        used = self.used if self.back is None else used_back(self.used)
        return retries.due_s(self.changed_ms / 1000, used)

    @property
    def is_stuck(self) -> bool:
        """Whether it was told to go back and did not: it refused, or could not."""
        return self.back_state in FAILED

    @property
    def cause_back(self) -> Cause | None:
        """Why it did not go back, where it is told to once more; None otherwise."""
        return cause_back(self.back_code, self.used) if self.is_stuck and self.left is None else None

    @property
    def prepared(self) -> bool:
        """Whether it has the release lying there or running beside, and can be switched to it."""
        return self.back is None and self.left is None and self.member.state is PREPARED.get(self.part)
