"""What a shadow may cost, and when it has cost too much. Pure: times and readings are arguments.

Processor time is rationed: after each inference the shadow rests until its share of one core is kept.
Memory and latency are bounds: above them it is stopped, as after failures that do not end.
"""

from __future__ import annotations

from dataclasses import dataclass

STRIKES = 3  # inferences in a row that are too slow: one may have met a busy moment
FAILURES = 5  # in a row


@dataclass(frozen=True)
class Budget:
    """What it may cost.

    Args:
        cpu_share: Of one core, over time.
        memory_bytes: Resident memory of its process.
        latency_ms: Of one inference.
    """

    cpu_share: float
    memory_bytes: int
    latency_ms: float


class Purse:
    """What a shadow has spent of its budget.

    Args:
        stopped: Why it has to stop: "memory", "latency" or "failing"; "" while it may go on.
    """

    def __init__(self, budget: Budget, now_s: float) -> None:
        """Begin with nothing spent."""
        self._budget = budget
        self._rests_until_s = now_s
        self._slow = self._failures = 0
        self.stopped = ""

    def may_run(self, now_s: float) -> bool:
        """Whether its share of the processor allows an inference now."""
        return not self.stopped and now_s >= self._rests_until_s

    def spend(self, cpu_s: float, now_s: float) -> None:
        """Count processor time that was used just now."""
        began_s = max(self._rests_until_s, now_s - cpu_s)
        self._rests_until_s = began_s + cpu_s / self._budget.cpu_share

    def weigh(self, memory_bytes: int) -> None:
        """Count resident memory."""
        if memory_bytes > self._budget.memory_bytes:
            self.stopped = self.stopped or "memory"

    def answered(self, latency_ms: float) -> None:
        """Count an inference."""
        self._failures = 0
        self._slow = self._slow + 1 if latency_ms > self._budget.latency_ms else 0
        if self._slow >= STRIKES:
            self.stopped = self.stopped or "latency"

    def failed(self) -> None:
        """Count an inference that came to nothing."""
        self._failures += 1
        if self._failures >= FAILURES:
            self.stopped = self.stopped or "failing"
