"""Time to safe: how long it took until the devices that a rollout sends back said that they are back.

From the moment when the order to go back was stored, by the server's clock, to the moment when the
device's own word arrived. What it took to notice comes before that: the evidence, and up to a tick.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, select

from edge_fleet.assignment import State
from edge_fleet.rollouts.answers import RolloutSafety
from edge_fleet.rollouts.phases import RETURNING
from edge_fleet.rollouts.reached import Reached
from edge_fleet.schema import rollout_steps


@dataclass(frozen=True)
class Safety:
    """How a way back went, or goes.

    Args:
        began_ms: When the order to go back was stored.
        why: What it was given for.
        seconds: Until each device was back, by device; those with nothing to go back to left out.
        states: Of the devices that are not back: on their way, silent, or unable.
    """

    began_ms: int
    why: str
    seconds: Mapping[str, float]
    states: Mapping[str, State]

    @property
    def median_s(self) -> float | None:
        """Half of those that are back were back by then."""
        return statistics.median(self.seconds.values()) if self.seconds else None

    @property
    def p95_s(self) -> float | None:
        """Of those that are back, 95 % were back by then."""
        found = sorted(self.seconds.values())
        return found[max(0, -(-len(found) * 95 // 100) - 1)] if found else None

    @property
    def last_s(self) -> float | None:
        """The last of those that are back was back by then."""
        return max(self.seconds.values(), default=None)


def time_to_safe(connection: Connection, rollout: str, reached: Sequence[Reached]) -> Safety | None:
    """How the last way back of a rollout went; None when there was none."""
    row = connection.execute(
        select(rollout_steps.c.at_ms, rollout_steps.c.why)
        .where(rollout_steps.c.rollout == rollout, rollout_steps.c.phase.in_(list(RETURNING)))
        .order_by(rollout_steps.c.id.desc())
        .limit(1)
    ).first()
    if row is None:
        return None
    back = [one for one in reached if one.back is not None and one.member.previous is not None]
    return Safety(
        began_ms=row.at_ms,
        why=row.why,
        seconds={
            one.device: max(0.0, (one.changed_ms - row.at_ms) / 1000)
            for one in back
            if one.back_state is State.CONFIRMED
        },
        states={one.device: one.state for one in back if one.back_state is not State.CONFIRMED},
    )


def as_json(found: Safety | None) -> RolloutSafety | None:
    """For the API."""
    if found is None:
        return None
    return {
        "began_ms": found.began_ms,
        "why": found.why,
        "back": len(found.seconds),
        "not_back": dict(sorted(found.states.items())),
        "median_s": found.median_s,
        "p95_s": found.p95_s,
        "last_s": found.last_s,
        "devices": {device: round(value, 3) for device, value in sorted(found.seconds.items())},
    }
