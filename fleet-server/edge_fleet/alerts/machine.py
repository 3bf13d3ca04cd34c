"""The life of an alert, as a pure state machine, and what a round of findings makes of all of them.

Nothing here reads a row or a clock: `findings.py` measures, `rows.py` stores, `watch.py` does it again
and again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from edge_fleet.alerts.rules import Rule
from edge_fleet.errors import Conflict


class Phase(StrEnum):
    """Where an alert stands."""

    PENDING = "pending"  # bad, but not for long enough
    FIRING = "firing"
    ACKNOWLEDGED = "acknowledged"  # somebody looks after it
    SILENCED = "silenced"  # nobody is told until a stated time
    RESOLVED = "resolved"  # good for long enough; the end


class Event(StrEnum):
    """What happens to an alert."""

    HELD = "held"  # it was bad for long enough
    CALMED = "calmed"  # it was good for long enough
    ACKNOWLEDGED = "acknowledged"
    SILENCED = "silenced"
    EXPIRED = "expired"  # the silence is over, and it is still bad


# (phase, event) -> next phase. A pair that is absent is refused; the tests walk the table.
TRANSITIONS: dict[tuple[Phase, Event], Phase] = {
    (Phase.PENDING, Event.HELD): Phase.FIRING,
    (Phase.PENDING, Event.CALMED): Phase.RESOLVED,
    (Phase.FIRING, Event.CALMED): Phase.RESOLVED,
    (Phase.FIRING, Event.ACKNOWLEDGED): Phase.ACKNOWLEDGED,
    (Phase.FIRING, Event.SILENCED): Phase.SILENCED,
    (Phase.ACKNOWLEDGED, Event.CALMED): Phase.RESOLVED,
    (Phase.ACKNOWLEDGED, Event.SILENCED): Phase.SILENCED,
    (Phase.SILENCED, Event.CALMED): Phase.RESOLVED,
    (Phase.SILENCED, Event.ACKNOWLEDGED): Phase.ACKNOWLEDGED,
    (Phase.SILENCED, Event.SILENCED): Phase.SILENCED,  # for longer, or for less long
    (Phase.SILENCED, Event.EXPIRED): Phase.FIRING,
}


_WHY_NOT = {
    Phase.PENDING: "it may end before it fires; nobody was told of it yet",
    Phase.FIRING: "it is still bad",
    Phase.ACKNOWLEDGED: "somebody looks after it already",
    Phase.SILENCED: "nobody is told of it until then",
    Phase.RESOLVED: "it is over",
}


@dataclass(frozen=True)
class Finding:
    """What was measured of one subject under one rule.

    Args:
        subject: A device, a bundle's digest, or "fleet".
        why: One line: what was found and what was expected.
        evidence: Small and flat; what proves it is named there.
    """

    rule: str
    subject: str
    value: float
    why: str
    evidence: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Alert:
    """One alert.

    Args:
        id: None before it is stored.
        since_ms: When it was first bad.
        calm_ms: Since when it has been good, None while it is bad.
        fired_ms: When it began to fire; None when it never did.
        silenced_ms: Until when it is silenced.
    """

    rule: str
    subject: str
    level: str
    phase: Phase
    value: float
    why: str
    evidence: Mapping[str, Any]
    since_ms: int
    calm_ms: int | None = None
    fired_ms: int | None = None
    silenced_ms: int | None = None
    id: int | None = None


@dataclass(frozen=True)
class Decision:
    """What becomes of an alert: its new form, and the event that changed its phase, if one did."""

    alert: Alert
    event: Event | None = None


def step(phase: Phase, event: Event) -> Phase:
    """The next phase.

    Raises:
        Conflict: The event cannot happen in this phase.
    """
    after = TRANSITIONS.get((phase, event))
    if after is None:
        raise Conflict(f"an alert that is {phase} cannot be {event}: {_WHY_NOT[phase]}")
    return after


def evaluate(
    alerts: Iterable[Alert], findings: Sequence[Finding], rules: Mapping[str, Rule], now_ms: int
) -> list[Decision]:
    """What a round of findings makes of the open alerts, and which new ones it opens.

    Args:
        alerts: Those that are not resolved.
    """
    measured = {(one.rule, one.subject): one for one in findings}
    decisions: list[Decision] = []
    for alert in alerts:
        finding = measured.pop((alert.rule, alert.subject), None)
        decisions += _follow(alert, finding, rules.get(alert.rule), now_ms)
    for finding in measured.values():
        rule = rules.get(finding.rule)
        if rule is not None and rule.enabled and finding.value >= rule.raise_at:
            fresh = Alert(
                rule.name,
                finding.subject,
                rule.level,
                Phase.PENDING,
                finding.value,
                finding.why,
                finding.evidence,
                since_ms=now_ms,
            )
            decisions += _follow(fresh, finding, rule, now_ms)
    return decisions


def _follow(alert: Alert, finding: Finding | None, rule: Rule | None, now_ms: int) -> list[Decision]:
    """One alert through one round; at most one change of phase, the rest next time."""
    if rule is None or not rule.enabled:
        return [_moved(replace(alert, why="its rule is not in force any more"), Event.CALMED, now_ms)]
    bad = _is_bad(alert, finding, rule)
    if finding is not None and finding.value >= rule.raise_at:  # the last bad case is kept as the evidence
        alert = replace(alert, value=finding.value, why=finding.why, evidence=finding.evidence)
    calm_ms = None if bad else alert.calm_ms if alert.calm_ms is not None else now_ms
    alert = replace(alert, calm_ms=calm_ms)
    if calm_ms is not None and (now_ms - calm_ms >= 1000 * rule.calm_s or alert.phase is Phase.PENDING):
        return [_moved(alert, Event.CALMED, now_ms)]
    if alert.phase is Phase.PENDING and now_ms - alert.since_ms >= 1000 * rule.pending_s:
        return [_moved(alert, Event.HELD, now_ms)]
    if alert.phase is Phase.SILENCED and alert.silenced_ms is not None and now_ms >= alert.silenced_ms:
        return [_moved(replace(alert, silenced_ms=None), Event.EXPIRED, now_ms)]
    return [Decision(alert)]


def _is_bad(alert: Alert, finding: Finding | None, rule: Rule) -> bool:
    was_bad = alert.calm_ms is None
    if finding is None:
        return was_bad if rule.on_evidence else False
    if finding.value >= rule.raise_at:
        return True
    return False if finding.value <= rule.clear_at else was_bad


def _moved(alert: Alert, event: Event, now_ms: int) -> Decision:
    phase = step(alert.phase, event)
    fired = now_ms if event is Event.HELD else alert.fired_ms
    return Decision(replace(alert, phase=phase, fired_ms=fired), event)
