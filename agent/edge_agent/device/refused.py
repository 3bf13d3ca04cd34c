"""Whether the broker is there and refuses this device, as one does that was revoked. Pure.

A broker that starts may refuse everybody for some seconds, before it has its accounts: a refusal counts when
it was repeated, and has stood for a while.
"""

from __future__ import annotations

from dataclasses import dataclass

from edge_agent.device.words import ago, moment

STANDS_S, OFTEN = 60.0, 3
ADVICE = (
    "answers go on; ask whoever runs the fleet whether this device was revoked; to join again, make a token "
    "(edge-fleet token create), then: edge-agent enroll --force"
)


@dataclass(frozen=True)
class Refusal:
    """What the broker has done since the link was up last.

    Args:
        since_ms: When it first refused this device.
        count: How often it has.
        reason: Why there is no connection at this moment; it may be another one.
    """

    since_ms: int
    count: int
    reason: str
    now_s: float

    @property
    def stands(self) -> bool:
        """Whether a person should do something about it."""
        return self.count >= OFTEN and self.now_s - self.since_ms / 1000 >= STANDS_S

    def __str__(self) -> str:
        """Since when, how often, and what was said last."""
        for_s = self.now_s - self.since_ms / 1000
        times = f"{self.count} times" if self.count > 1 else "once"
        return f"since {moment(self.since_ms)} ({ago(for_s)}), {times}; now: {self.reason}"


def read_refusal(link_up: bool, link_reason: str, since_ms: int, count: int, now_s: float) -> Refusal | None:
    """What the running agent says of it; None where the broker has not refused this device."""
    if link_up or not count:
        return None
    return Refusal(since_ms, count, link_reason, now_s)
