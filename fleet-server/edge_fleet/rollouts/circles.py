"""Rollouts that wait for each other in a circle, and which of them gives way.

A rollout waits for devices that another takes part in, or comes first for. Two that have begun on devices of
each other would wait for ever. Of a circle the one that comes last leaves the devices that it waits for to
those before it: it ends without them, and its own devices are free.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from sqlalchemy import Connection

from edge_fleet.rollouts import rows
from edge_fleet.rollouts.looking import Known, due_of, look
from edge_fleet.rollouts.phases import BEGINNING
from edge_fleet.rollouts.rows import Rollout
from edge_fleet.rollouts.targets import Alike


def leave(
    connection: Connection,
    rollout: Rollout,
    due: Sequence[Alike],
    now_ms: int,
    known_of: Callable[[str], Known],
) -> Sequence[Alike]:
    """The devices that a stage has still to reach, with those marked that it leaves to others.

    Args:
        known_of: What the looks at a rollout at work found.
    """
    others = {some.like.waits_for for some in due if some.like.waits_for}
    if not others:
        return due
    circles = _Circles(connection, now_ms, known_of)
    left = {
        other for other in others if circles.comes_before(other, rollout) and circles.leads(other, rollout.id)
    }
    return [
        replace(some, like=replace(some.like, left_to=some.like.waits_for))
        if some.like.waits_for in left
        else some
        for some in due
    ]


class _Circles:
    """Who waits for whom, read once for each rollout."""

    def __init__(self, connection: Connection, now_ms: int, known_of: Callable[[str], Known]) -> None:
        self._connection, self._now_ms, self._known_of = connection, now_ms, known_of
        self._found: dict[str, frozenset[str]] = {}

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
        if name not in self._found:
            self._found[name] = frozenset(self._waits(name))
        return self._found[name]

    def _waits(self, name: str) -> set[str]:
        known = self._known_of(name)
        found, view = look(self._connection, name, self._now_ms, known.roster)
        if view.position.phase not in BEGINNING:
            return set()
        due = due_of(self._connection, found, self._now_ms, known)
        return {some.like.waits_for for some in due if some.like.waits_for}


def _rank(rollout: Rollout) -> tuple[int, int, str]:
    return rollout.plan.priority, -(rollout.started_ms or 0), rollout.id
