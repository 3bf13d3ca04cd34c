"""Reading what a look at a rollout rests on; see `engine.View`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection

from edge_fleet.evidence import Member, StageEvidence
from edge_fleet.rollouts import candidates, readings, rows
from edge_fleet.rollouts.engine import View, moves_devices
from edge_fleet.rollouts.members import begun_since
from edge_fleet.rollouts.pace import MINUTE_S
from edge_fleet.rollouts.permission import barred
from edge_fleet.rollouts.phases import Event, step
from edge_fleet.rollouts.pool import Pool
from edge_fleet.rollouts.readings import SeenReadings
from edge_fleet.rollouts.roster import Roster
from edge_fleet.rollouts.rows import Rollout
from edge_fleet.rollouts.targets import Alike


@dataclass(frozen=True)
class Known:
    """What the looks at one rollout found; a look takes in what changed since."""

    roster: Roster = field(default_factory=Roster)
    readings: SeenReadings = field(default_factory=SeenReadings)
    pool: Pool = field(default_factory=Pool)


def look(
    connection: Connection, rollout: str, now_ms: int, roster: Roster | None = None
) -> tuple[Rollout, View]:
    """A rollout as it is stored, and as the engine sees it.

    Args:
        roster: What the looks before found of its devices; without it all of them are read.

    Raises:
        NotFound: There is none.
    """
    found = rows.load(connection, rollout)
    begun: tuple[float, ...] = ()
    if found.plan.rate is not None:
        begun = begun_since(connection, rollout, now_ms - round(MINUTE_S * 1000))
    roster = Roster() if roster is None else roster
    reached = roster.look(connection, rollout, found.plan.silence_s, now_ms / 1000)
    forbidden = barred(connection, found, now_ms / 1000)
    return found, View(found.id, found.plan, found.position, reached, begun, found.why, forbidden)


def look_for(connection: Connection, rollout: Rollout, event: Event, now_ms: int) -> View:
    """A rollout for an order: with its devices only where the event may give them another.

    Raises:
        TransitionInvalid: The event cannot happen in its phase.
    """
    position = step(rollout.position, event, now_ms / 1000, rollout.plan.first_part)
    if moves_devices(rollout.plan, position.phase):
        return look(connection, rollout.id, now_ms)[1]
    return View(rollout.id, rollout.plan, rollout.position, why=rollout.why)


def due_of(connection: Connection, rollout: Rollout, now_ms: int, known: Known) -> list[Alike]:
    """The devices that its stage has still to reach, by what they get or wait for.

    Args:
        known: Its roster has looked in this transaction.
    """
    return known.pool.due(connection, rollout, now_ms, known.roster.rows)


def evidence_of(
    connection: Connection, rollout: Rollout, members: Sequence[Member], seen: SeenReadings | None = None
) -> StageEvidence:
    """What is known about these devices of a rollout that has been started.

    Args:
        seen: What the looks before have seen; it sees more by this one.
    """
    started_ms = rollout.started_ms
    assert started_ms is not None, f"rollout {rollout.id} has not been started"
    seen = seen or SeenReadings()
    with seen.look(connection, members, started_ms) as arrived:
        return seen.gathering.look(
            members,
            arrived,
            readings.load_facts(connection, seen.bundles),
            rollout.position.stage,
            started_ms / 1000,
            candidates.count_bundles(connection, rollout.counter),
        )
