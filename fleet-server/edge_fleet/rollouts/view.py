"""A rollout as people see it, in the API, on the command line and in the console."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, select

from edge_fleet.rollouts import part_words
from edge_fleet.rollouts.candidates import load_targets
from edge_fleet.rollouts.members import load_members
from edge_fleet.rollouts.phases import ENDED, RETURNING, Event
from edge_fleet.rollouts.progress import Counts, count
from edge_fleet.rollouts.reached import Reached
from edge_fleet.rollouts.rows import Rollout, load, load_all, verdict_row, verdicts_of
from edge_fleet.rollouts.safety import as_json, time_to_safe
from edge_fleet.rollouts.targets import goal
from edge_fleet.schema import bundles, rollout_stages, rollout_steps

SHOWN_STEPS = 200


def listed(connection: Connection) -> list[dict[str, Any]]:
    """Every rollout in short, newest first."""
    found = load_all(connection)
    counts = count(connection, [rollout.id for rollout in found])
    return [summary(rollout, counts[rollout.id]) for rollout in reversed(found)]


def summary(rollout: Rollout, counts: Counts) -> dict[str, Any]:
    """One rollout in short."""
    return {
        "id": rollout.id,
        "release": rollout.plan.release,
        "select": rollout.plan.select,
        "phase": rollout.position.phase,
        "stage": rollout.position.stage,
        "part": rollout.position.part,
        "stages": [str(stage) for stage in rollout.plan.stages],
        "reached": counts.reached,
        "states": {state: number for state, number in counts.states().items() if number},
        "why": rollout.why,
        "since_ms": round(rollout.position.since_s * 1000),
        "started_ms": rollout.started_ms,
        "created_ms": rollout.created_ms,
        "created_by": rollout.created_by,
    }


def shown(connection: Connection, rollout_id: str, now_ms: int) -> dict[str, Any]:
    """One rollout with its stages, devices, verdicts, skipped devices and history.

    Raises:
        NotFound: There is none.
    """
    rollout = load(connection, rollout_id)
    members = load_members(connection, rollout.id)
    reached = {row.member.device for row in members}
    going = rollout.position.phase not in ENDED | RETURNING
    targets = load_targets(connection, rollout, now_ms) if going else ()
    chosen = [t for t in targets if t.device not in reached]
    counted = [row.device for row in members if row.left is None]
    waiting = sum(target.bundle is not None for target in chosen)
    profiles: dict[str, str] = {
        row.digest: row.profile
        for row in connection.execute(
            select(bundles.c.digest, bundles.c.profile).where(bundles.c.counter == rollout.counter)
        )
    }
    begun = {
        row.stage: row
        for row in connection.execute(select(rollout_stages).where(rollout_stages.c.rollout == rollout.id))
    }
    steps = select(rollout_steps).where(rollout_steps.c.rollout == rollout.id)
    history = connection.execute(steps.order_by(rollout_steps.c.id).limit(SHOWN_STEPS)).all()
    parts = part_words.of_steps(rollout.plan.first_part, (Event(row.event) for row in history))
    here = _part(rollout, members)
    return {
        **summary(rollout, count(connection, [rollout.id])[rollout.id]),
        "plan": rollout.plan.model_dump(mode="json"),
        "stages": [
            {
                "number": index + 1,
                "share": str(stage),
                "target": goal(rollout.id, stage, counted, targets, rollout.plan.held_back(index))
                if going
                else None,
                "begun_ms": begun[index].begun_ms if index in begun else None,
                "part": here if index == rollout.position.stage else None,
                "devices": [_member(row, profiles) for row in members if row.member.stage == index],
                "verdicts": [verdict_row(v) for v in (verdicts_of(begun[index]) if index in begun else ())],
            }
            for index, stage in enumerate(rollout.plan.stages)
        ],
        "waiting": waiting,
        "safety": as_json(time_to_safe(connection, rollout.id, members)),
        "waits": [{"device": t.device, "for": t.wait} for t in chosen if t.wait],
        "skipped": [{"device": t.device, "reason": t.reason} for t in chosen if t.bundle is None],
        "history": [
            {
                "at_ms": row.at_ms,
                "event": row.event,
                "phase": row.phase,
                "stage": row.stage,
                "actor": row.actor,
                "why": row.why,
                "part": part,
            }
            for row, part in zip(history, parts, strict=True)
        ],
    }


def _part(rollout: Rollout, members: list[Reached]) -> dict[str, Any] | None:
    """How far the current stage is with its part, while that is under way; None for stages of one part."""
    position, plan = rollout.position, rollout.plan
    if position.phase in ENDED | RETURNING or position.stage < 0:
        return None
    states = Counter(row.state for row in members if row.left is None and row.member.stage == position.stage)
    found = part_words.tell(plan.first_part, position.part, position.phase, plan.quorum, states)
    return None if found is None else asdict(found)


def _member(row: Reached, profiles: dict[str, str]) -> dict[str, Any]:
    member = row.member
    return {
        "device": member.device,
        "profile": profiles.get(member.bundle),
        "bundle": member.bundle,
        "previous": member.previous,
        "part": row.part,
        "state": member.state,
        "code": member.code,
        "detail": member.detail,
        "back": row.back_state,
        "left": row.left,
        "retries": dict(row.used),
        "assigned_ms": round(member.assigned_s * 1000),
        "last_seen_ms": row.last_seen_ms,
    }
