"""Rollouts that wait for each other in a circle, and which of them gives way.

A rollout waits for devices that another takes part in, or comes first for. Two that have begun on devices of
each other would wait for ever. Of a circle the one that comes last leaves the devices that it waits for to
those before it: it ends without them, and its own devices are free.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import Connection

from edge_fleet.rollouts import candidates, rows, targets
from edge_fleet.rollouts.looking import look
from edge_fleet.rollouts.phases import BEGINNING
from edge_fleet.rollouts.rows import Rollout
from edge_fleet.rollouts.targets import Target


def leave(
    connection: Connection, rollout: Rollout, found: Sequence[Target], now_ms: int
) -> tuple[Target, ...]:
    """The targets of a rollout, with those marked that it leaves to rollouts that wait for it."""
    others = {target.waits_for for target in found if target.waits_for}
    circles = _Circles(connection, now_ms)
    left = {
        other for other in others if circles.comes_before(other, rollout) and circles.leads(other, rollout.id)
    }
    return tuple(
        replace(target, left_to=target.waits_for) if target.waits_for in left else target for target in found
    )


class _Circles:
    """Who waits for whom, read once for each rollout."""

    def __init__(self, connection: Connection, now_ms: int) -> None:
        self._connection, self._now_ms = connection, now_ms
        self._known: dict[str, frozenset[str]] = {}

    def comes_before(self, other: str, rollout: Rollout) -> bool:
        """Whether another rollout goes first: by priority, and among equals the one that began first."""
        return _rank(rows.load(self._connection, other)) > _rank(rollout)

    def leads(self, start: str, end: str) -> bool:
        """Whether a rollout waits for another, or for one that does."""
        seen: set[str] = set()
        ahead = [start]
        while ahead:
            one = ahead.pop()
            if one == end:
                return True
            if one not in seen:
                seen.add(one)
                ahead += self._waits_for(one)
        return False

    def _waits_for(self, name: str) -> frozenset[str]:
        """The rollouts for whose devices a rollout waits, to go on with the stage that it is at."""
        if name not in self._known:
            self._known[name] = frozenset(self._waits(name))
        return self._known[name]

    def _waits(self, name: str) -> set[str]:
        found, view = look(self._connection, name, self._now_ms)
        if view.position.phase not in BEGINNING:
            return set()
        stage = view.position.stage
        due = targets.due(
            name,
            view.plan.stages[stage],
            [row.device for row in view.counted],
            candidates.load_targets(self._connection, found, self._now_ms),
            view.plan.held_back(stage),
        )
        return {target.waits_for for target in due if target.waits_for}


def _rank(rollout: Rollout) -> tuple[int, int, str]:
    return rollout.plan.priority, -(rollout.started_ms or 0), rollout.id
