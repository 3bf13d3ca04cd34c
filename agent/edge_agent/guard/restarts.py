"""When a child that died is started again: at once, then after pauses that grow, and not for ever. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Restarts:
    """The restarts of one model so far.

    Args:
        limit: So many within the span; then none until the oldest is a span ago.
        span_s: Seconds.
        first_pause_s: Between the first restart and the second; each pause is four times the one before.
        times_s: When, by the monotonic clock; those of the last span.
    """

    limit: int = 5
    span_s: float = 3600.0
    first_pause_s: float = 1.0
    times_s: tuple[float, ...] = ()

    def after(self, now_s: float) -> Restarts:
        """With one more, now."""
        return replace(self, times_s=(*self._recent(now_s), now_s))

    def wait_s(self, now_s: float) -> float:
        """How long until the next may be; 0 for now."""
        recent = self._recent(now_s)
        if not recent:
            return 0.0
        if len(recent) >= self.limit:
            return recent[0] + self.span_s - now_s
        return max(0.0, recent[-1] + self.first_pause_s * 4.0 ** (len(recent) - 1) - now_s)

    def is_worn_out(self, now_s: float) -> bool:
        """Whether the limit is reached."""
        return len(self._recent(now_s)) >= self.limit

    def _recent(self, now_s: float) -> tuple[float, ...]:
        return tuple(time_s for time_s in self.times_s if now_s - time_s < self.span_s)
