"""What is done while the disk takes no new state: the model of before answers, and the disk is asked again.

An event that cannot be stored has not happened: nothing is switched on, erased or begun for it. Going back is
the exception. The next start would go back too, by the state that is on the disk; a model that has failed
its trial must not answer until somebody mends the disk. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from edge_agent.updates.slots import Event, Fact, Slot, Slots, Tell
from edge_agent.updates.transitions import step
from edge_contracts.messages import FINAL_PHASES

RETRY_S = 5.0  # each attempt writes to a disk that may be flash
DISK = "home-invalid"

# After these a start from the state of before comes to the same model by itself.
GOING_BACK = frozenset(
    {Event.RESTARTED, Event.UNHEALTHY, Event.CHECK_FAILED, Event.DAMAGED, Event.WITHDRAWN, Event.BARRED}
)


def meanwhile(slots: Slots, events: Iterable[tuple[Event, Fact]]) -> Slots | None:
    """The slots that events which wait for the disk will lead to, where what answers then may answer now.

    None where they lead to something new.

    Args:
        slots: As they are stored.
    """
    for event, fact in events:
        if event not in GOING_BACK:
            return None
        slots, _ = step(slots, event, fact)
    return slots if slots.active is None or slots.active is not slots.candidate else None


@dataclass
class Unstored:
    """Whether the disk takes the state now.

    Args:
        reason: Why not; "" when it does.
        since_s: Since when it does not.
        again_s: When it is asked again.
        serves: The slot that answers ahead of what is stored, if any.
    """

    reason: str = ""
    since_s: float = 0.0
    again_s: float = 0.0
    serves: Slot | None = None

    def is_due(self, now_s: float) -> bool:
        """Whether it is to be asked again; if so, it is not for a while."""
        if self.reason and now_s < self.again_s:
            return False
        self.again_s = now_s + RETRY_S
        return True

    def failed(self, reason: str, now_s: float) -> bool:
        """It does not; whether that is news."""
        is_news = reason != self.reason
        if not self.reason:
            self.since_s = now_s
        self.reason = reason
        return is_news

    def mended(self, now_s: float) -> Tell | None:
        """It does; what to tell of how it was."""
        if not self.reason:
            return None
        tell = Tell(
            "disk-failed", None, None, DISK, f"for {now_s - self.since_s:.0f} s until now: {self.reason}"
        )
        self.reason, self.again_s, self.serves = "", 0.0, None
        return tell

    def reported(self, slots: Slots) -> Slots:
        """The slots, with an assignment that waits for the disk saying so."""
        told = slots.progress
        if not self.reason or told is None or told.phase in FINAL_PHASES:
            return slots
        waits = told.model_copy(update={"code": DISK, "detail": self.reason[:500]})
        return replace(slots, progress=waits)
