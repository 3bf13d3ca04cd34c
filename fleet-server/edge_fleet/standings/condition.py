"""How a device is doing, in one word and one line. Pure; what needs attention comes first.

Which devices are judged when is `work.py`; who asks for them is `find.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from edge_contracts.sketch import Drift
from edge_fleet.assignment import FAILED, State
from edge_fleet.gates import FALSE_ALARM, binomial_tail
from edge_fleet.reading import Exposure

SILENT_AFTER_S = 300.0
ERROR_SHARE = 0.02  # what a rollout's own gate allows by default


class Health(StrEnum):
    """In the order in which they need a person."""

    FAILING = "failing"
    SILENT = "silent"
    DRIFTING = "drifting"
    UPDATING = "updating"
    IDLE = "idle"
    OK = "ok"
    REVOKED = "revoked"


ORDER = tuple(Health)
URGENT = (Health.FAILING, Health.SILENT, Health.DRIFTING)


@dataclass(frozen=True)
class Condition:
    """The word and its reason."""

    health: Health
    reason: str


def condition(
    now_s: float,
    last_seen_s: float | None,
    revoked: bool,
    assignment: State | None,
    recent: Exposure,
    drifts: Sequence[Drift],
    told: Sequence[str] = (),
) -> Condition:
    """Judge one device.

    Args:
        last_seen_s: Unix seconds, None when it never spoke.
        assignment: Where its newest assignment stands, None when it has none.
        recent: Its latest windows of the model that it runs.
        drifts: Of the same windows.
        told: Kinds of drift that the device found itself, by its newest window.
    """
    if revoked:
        return Condition(Health.REVOKED, "put out of the fleet")
    if assignment in FAILED:
        return Condition(Health.FAILING, f"its last assignment was {assignment}")
    bad = recent.errors + recent.refused
    if bad and binomial_tail(bad, recent.attempts, ERROR_SHARE) < FALSE_ALARM:
        return Condition(Health.FAILING, f"{bad} of {recent.attempts} inferences without an answer")
    if last_seen_s is None:
        return Condition(Health.SILENT, "enrolled, never heard")
    if now_s - last_seen_s > SILENT_AFTER_S:
        return Condition(Health.SILENT, f"nothing heard for {SILENT_AFTER_S / 60:.0f} minutes or more")
    drifting = [one for one in drifts if one.drifted]
    if drifting:
        worst = max(drifting, key=lambda one: one.distance)
        return Condition(Health.DRIFTING, f"{worst.name} is {worst.distance:.2f} from its baseline")
    if told:
        return Condition(Health.DRIFTING, f"it found {' and '.join(told)} itself")
    if assignment in (State.PENDING, State.OFFERED, State.DOWNLOADING, State.TRIAL):
        return Condition(Health.UPDATING, f"its assignment is {assignment}")
    if not recent.inferences:
        return Condition(Health.IDLE, "no inference lately")
    return Condition(Health.OK, "answers, and its numbers fit")
