"""Rollouts in the database: reading them, and changing them so that two who do so at once do not mix.

Every change of a rollout's position states the revision that it rests on. Who comes second changes
nothing and is told so. Decisions are in `decision.py`, their order in time in `conductor.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from edge_fleet.errors import NotFound
from edge_fleet.gates import Outcome, Verdict
from edge_fleet.rollouts.answers import GateVerdict
from edge_fleet.rollouts.parts import Part
from edge_fleet.rollouts.phases import Event, Phase, Position
from edge_fleet.rollouts.plan import RolloutPlan, parse_plan
from edge_fleet.schema import rollout_stages, rollout_steps, rollouts


class RolloutChanged(Exception):
    """Somebody else has changed the rollout since it was read."""


@dataclass(frozen=True)
class Rollout:
    """One rollout as it is stored.

    Args:
        counter: Of the release.
        why: What it waits for, or why it ended.
    """

    id: str
    plan: RolloutPlan
    counter: int
    position: Position
    started_ms: int | None
    why: str
    created_ms: int
    created_by: str
    revision: int


def create(connection: Connection, plan: RolloutPlan, counter: int, actor: str, now_ms: int) -> str:
    """Store a new rollout as a draft; returns its id: r1, r2, ..."""
    taken = {row.id for row in connection.execute(select(rollouts.c.id))}
    number = len(taken) + 1  # rollouts are never deleted
    connection.execute(
        insert(rollouts).values(
            id=f"r{number}",
            plan=plan.model_dump(mode="json"),
            counter=counter,
            phase=Phase.DRAFT,
            stage=Position().stage,
            since_ms=now_ms,
            created_ms=now_ms,
            created_by=actor,
        )
    )
    return f"r{number}"


def load(connection: Connection, rollout: str) -> Rollout:
    """A rollout by its id.

    Raises:
        NotFound: There is none.
    """
    row = connection.execute(select(rollouts).where(rollouts.c.id == rollout)).one_or_none()
    if row is None:
        raise NotFound(f"no rollout {rollout!r:.80}; `edge-fleet rollout list` shows all")
    return _rollout(row)


def load_all(connection: Connection, phases: Iterable[Phase] = tuple(Phase)) -> list[Rollout]:
    """All rollouts in these phases, oldest first."""
    rows = connection.execute(
        select(rollouts)
        .where(rollouts.c.phase.in_(list(phases)))
        .order_by(rollouts.c.created_ms, rollouts.c.id)
    )
    return [_rollout(row) for row in rows]


def load_these(connection: Connection, ids: Sequence[str]) -> list[Rollout]:
    """Rollouts by their ids, in any order; a screenful at a time."""
    return [_rollout(row) for row in connection.execute(select(rollouts).where(rollouts.c.id.in_(ids)))]


def load_ids(connection: Connection, phases: Iterable[Phase]) -> list[str]:
    """Ids of the rollouts in these phases, oldest first."""
    ids = select(rollouts.c.id).where(rollouts.c.phase.in_(list(phases)))
    return list(connection.execute(ids.order_by(rollouts.c.created_ms, rollouts.c.id)).scalars())


def move(
    connection: Connection, rollout: Rollout, position: Position, event: Event, actor: str, why: str
) -> None:
    """Store a new position and the step that led there.

    Raises:
        RolloutChanged: It is no longer what `rollout` says.
    """
    at_ms = round(position.since_s * 1000)
    values: dict[str, Any] = {
        "phase": position.phase,
        "stage": position.stage,
        "since_ms": at_ms,
        "part": position.part,
        "opened": position.opened,
        "why": why,
        "revision": rollout.revision + 1,
    }
    if event is Event.STARTED:
        values["started_ms"] = at_ms
    _claim(connection, rollout)
    connection.execute(update(rollouts).where(rollouts.c.id == rollout.id).values(**values))
    connection.execute(
        insert(rollout_steps).values(
            rollout=rollout.id,
            at_ms=at_ms,
            event=event,
            phase=position.phase,
            stage=position.stage,
            actor=actor,
            why=why,
        )
    )
    if event in (Event.STARTED, Event.ADVANCED):
        connection.execute(
            insert(rollout_stages).values(
                rollout=rollout.id, stage=position.stage, begun_ms=at_ms, verdicts=[]
            )
        )


def explain(connection: Connection, rollout: Rollout, why: str, verdicts: Sequence[Verdict] | None) -> bool:
    """Store what a rollout waits for and what its gates say; the position stays.

    Returns:
        Whether that was news; otherwise nothing is written.

    Raises:
        RolloutChanged: It is no longer what `rollout` says.
    """
    here = (rollout_stages.c.rollout == rollout.id) & (rollout_stages.c.stage == rollout.position.stage)
    _claim(connection, rollout)
    changed = why != rollout.why
    if changed:
        connection.execute(update(rollouts).where(rollouts.c.id == rollout.id).values(why=why))
    if verdicts is not None:
        told = [verdict_row(v) for v in verdicts]
        before = connection.execute(select(rollout_stages.c.verdicts).where(here)).scalar()
        if told != before:
            connection.execute(update(rollout_stages).where(here).values(verdicts=told))
            changed = True
    return changed


def verdicts_of(row: Row[Any]) -> tuple[Verdict, ...]:
    """The verdicts of a row of `rollout_stages`."""
    return tuple(
        Verdict(v["gate"], Outcome(v["outcome"]), v["reason"], tuple(v.get("evidence", ())))
        for v in row.verdicts
    )


def verdict_row(verdict: Verdict) -> GateVerdict:
    """A verdict as it is stored and shown."""
    return {
        "gate": verdict.gate,
        "outcome": verdict.outcome,
        "reason": verdict.reason,
        "evidence": [dict(row) for row in verdict.evidence],
    }


def touch(connection: Connection, rollout: Rollout) -> None:
    """Make every look at this rollout that has been begun come second.

    Raises:
        RolloutChanged: It is no longer what `rollout` says.
    """
    _claim(connection, rollout)
    here = update(rollouts).where(rollouts.c.id == rollout.id)
    connection.execute(here.values(revision=rollout.revision + 1))


def _claim(connection: Connection, rollout: Rollout) -> None:
    """Make sure that the rollout is still what was read, and stays so until the transaction ends."""
    revision = connection.execute(
        select(rollouts.c.revision).where(rollouts.c.id == rollout.id).with_for_update()
    ).scalar_one()
    if revision != rollout.revision:
        raise RolloutChanged(f"rollout {rollout.id} has changed since it was read")


def _rollout(row: Row[Any]) -> Rollout:
    return Rollout(
        id=row.id,
        plan=parse_plan(row.plan, f"plan of rollout {row.id}", is_stored=True),
        counter=row.counter,
        position=Position(Phase(row.phase), row.stage, row.since_ms / 1000, Part(row.part), row.opened),
        started_ms=row.started_ms,
        why=row.why,
        created_ms=row.created_ms,
        created_by=row.created_by,
        revision=row.revision,
    )
