"""The gates by name. To add one, write a function that judges one bundle, and decorate it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edge_fleet.assignment import State
from edge_fleet.evidence import Group, StageEvidence
from edge_fleet.gates.verdict import Against, Budget, Finding, GateLimit, Outcome, Verdict

Judge = Callable[[StageEvidence, GateLimit, Budget], Verdict]
JudgeGroup = Callable[[Group, GateLimit, Budget], Finding]
JudgeStage = Callable[[StageEvidence, GateLimit, Budget], Finding]


@dataclass(frozen=True)
class Gate:
    """A registered gate.

    Args:
        unit: What the limit is, for people.
        lowest, highest: Limits that make sense.
        default: Limit of a plan that names no gates; None: only asked when named.
        against: What it can be held against; the first is its default.
        of_shadow: Whether it speaks of shadows only, before they are switched.
    """

    name: str
    unit: str
    lowest: float
    highest: float
    default: float | None
    against: tuple[Against, ...]
    _judge: Judge
    of_shadow: bool = False

    def judge(self, evidence: StageEvidence, allowed: GateLimit, budget: Budget | None = None) -> Verdict:
        """Ask it; what it is held against is filled in."""
        if not evidence.members:
            return Verdict(self.name, Outcome.WAIT, "no device has been reached yet")
        if allowed.against is None:
            allowed = allowed.model_copy(update={"against": self.against[0]})
        return self._judge(evidence, allowed, budget or Budget())


GATES: dict[str, Gate] = {}
HAVE_IT = frozenset({State.CONFIRMED, State.SHADOW, State.READY})


def gate(
    name: str,
    unit: str,
    lowest: float,
    highest: float,
    default: float | None = None,
    against: tuple[Against, ...] = ("limit",),
    of_shadow: bool = False,
) -> Callable[[JudgeGroup], JudgeGroup]:
    """Register a gate that judges every bundle by itself: one FAIL fails, one WAIT waits, all must pass.

    One class of device can be broken while the others hide it in a total. A bundle that no device
    has kept is not asked: `install_success` and the quorum speak of it.
    """

    def register(judge: JudgeGroup) -> JudgeGroup:
        def verdict(evidence: StageEvidence, allowed: GateLimit, budget: Budget) -> Verdict:
            asked = [
                (group, judge(group, allowed, budget))
                for group in evidence.groups
                if any(member.state in HAVE_IT for member in group.members) or group.attempts
            ]
            if not asked:
                return Verdict(name, Outcome.WAIT, "no device has confirmed the release yet")
            numbers = tuple(
                {"profile": group.profile, "outcome": str(found.outcome), **found.numbers}
                for group, found in asked
            )
            for outcome in (Outcome.FAIL, Outcome.WAIT, Outcome.PASS):
                told = [f"{group.profile}: {f.reason}" for group, f in asked if f.outcome is outcome]
                if told:
                    return Verdict(name, outcome, "; ".join(told), numbers)
            raise AssertionError("a gate gave an answer that is none of the three")

        GATES[name] = Gate(name, unit, lowest, highest, default, against, verdict, of_shadow)
        return judge

    return register


def stage_gate(
    name: str, unit: str, lowest: float, highest: float, default: float | None = None
) -> Callable[[JudgeStage], JudgeStage]:
    """Register a gate that judges all reached devices together."""

    def register(judge: JudgeStage) -> JudgeStage:
        def verdict(evidence: StageEvidence, allowed: GateLimit, budget: Budget) -> Verdict:
            found = judge(evidence, allowed, budget)
            numbers = ({"outcome": str(found.outcome), **found.numbers},) if found.numbers else ()
            return Verdict(name, found.outcome, found.reason, numbers)

        GATES[name] = Gate(name, unit, lowest, highest, default, ("limit",), verdict)
        return judge

    return register
