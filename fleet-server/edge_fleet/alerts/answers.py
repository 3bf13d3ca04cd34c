"""What is said of an alert: the types of what `rows.py` and `listing.py` find."""

from __future__ import annotations

from typing import Any, NotRequired

from typing_extensions import TypedDict

from edge_fleet.alerts.machine import Event, Phase
from edge_fleet.model import Instant


class AlertSummary(TypedDict):
    """Something that the server found wrong.

    Args:
        subject: A device, a bundle's digest, or "fleet".
        level: "warning" or "critical".
        value: Of the last bad case, in `unit`, as are `why` and `evidence`.
        evidence: The figures that it rests on; names as in docs/alerts.md.
        since_ms: When it was first bad.
        calm_ms: Since when it has been good; null while it is bad.
        fired_ms: When it began to fire; null when it never did.
        silenced_ms: Until when nobody is told; null when it is not silenced.
        changed_ms: When its phase changed.
        said: The rule in one line; "" of a rule that there is no more.
        unit: Of `value`; "" of a rule that there is no more.
    """

    id: int
    rule: str
    subject: str
    level: str
    phase: Phase
    value: float
    why: str
    evidence: dict[str, Any]
    since_ms: Instant
    calm_ms: Instant | None
    fired_ms: Instant | None
    silenced_ms: Instant | None
    changed_ms: Instant
    said: str
    unit: str


class AlertStep(TypedDict):
    """One step of an alert's history.

    Args:
        phase: After it.
        actor: "alerts", or who ordered it.
    """

    at_ms: Instant
    event: Event
    phase: Phase
    actor: str
    why: str


class AlertProof(TypedDict):
    """A message that an alert rests on.

    Args:
        topic: That a refused message came on.
        seq: Number of a stored envelope.
        envelope: As it came, in hex.
    """

    what: str
    topic: NotRequired[str]
    seq: NotRequired[int]
    envelope: str


class AlertInFull(AlertSummary):
    """An alert with its history, oldest first, and the messages that prove it.

    Args:
        proof: None where the evidence is figures only.
    """

    history: list[AlertStep]
    proof: list[AlertProof]
