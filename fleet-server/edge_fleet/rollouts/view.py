"""A rollout as people see it, in the API, on the command line and in the console."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from sqlalchemy import Connection, select

from edge_fleet.assignment import State
from edge_fleet.rollouts import part_words
from edge_fleet.rollouts.answers import (
    RolloutDevices,
    RolloutHead,
    RolloutInFull,
    RolloutMember,
    RolloutSafety,
    RolloutStage,
    RolloutStep,
    RolloutSummary,
)
from edge_fleet.rollouts.members import load_members
from edge_fleet.rollouts.outlook import Outlook, left_out
from edge_fleet.rollouts.part_words import Progress
from edge_fleet.rollouts.phases import ENDED, RETURNING, Event, Phase
from edge_fleet.rollouts.progress import Counts, Place, Wanted, count, page, silent, way_back
from edge_fleet.rollouts.reached import Reached
from edge_fleet.rollouts.rows import Rollout, load, load_all, verdict_row, verdicts_of
from edge_fleet.rollouts.safety import as_json, time_to_safe
from edge_fleet.rollouts.targets import Target
from edge_fleet.schema import bundles, rollout_stages, rollout_steps

SHOWN_STEPS = 200
MOST_SHOWN = 100  # devices, unless another number is asked for


def listed(connection: Connection) -> list[RolloutSummary]:
    """Every rollout in short, newest first."""
    found = load_all(connection)
    counts = count(connection, [rollout.id for rollout in found])
    return [summary(rollout, counts[rollout.id]) for rollout in reversed(found)]


def summary(rollout: Rollout, counts: Counts) -> RolloutSummary:
    """One rollout in short."""
    return {**_head(rollout, counts), "stages": [str(stage) for stage in rollout.plan.stages]}


def _head(rollout: Rollout, counts: Counts) -> RolloutHead:
    return {
        "id": rollout.id,
        "release": rollout.plan.release,
        "select": rollout.plan.select,
        "phase": rollout.position.phase,
        "stage": rollout.position.stage,
        "part": rollout.position.part,
        "reached": counts.reached,
        "states": {state: number for state, number in counts.states().items() if number},
        "why": rollout.why,
        "since_ms": round(rollout.position.since_s * 1000),
        "started_ms": rollout.started_ms,
        "created_ms": rollout.created_ms,
        "created_by": rollout.created_by,
    }


@dataclass(frozen=True)
class _Fleet:
    """What is told of devices.

    Args:
        members: Reached, by stage and name.
        goals: Devices that each stage will have reached in all; None when it is over.
        waiting: Devices that are still to be reached.
        without: Those that get nothing now, or have to wait.
    """

    members: list[Reached]
    goals: Sequence[int | None]
    waiting: int
    without: Sequence[Target]
    safety: RolloutSafety | None


def shown(connection: Connection, rollout_id: str, now_ms: int, most: int = MOST_SHOWN) -> RolloutInFull:
    """One rollout with its stages, devices, verdicts, skipped devices and history.

    Args:
        most: Devices that are told, and as many of those without it, each with the number of all beside
            (`next`, `left_out`, `waits_for`).

    Raises:
        NotFound: There is none.
    """
    rollout = load(connection, rollout_id)
    counts = count(connection, [rollout.id])[rollout.id]
    told, seen = _fleet(connection, rollout, counts, now_ms, most)
    last = told.members[-1] if most < counts.reached and told.members else None
    quiet, few = silent(connection, rollout.id)
    return {
        **_head(rollout, counts),
        "plan": rollout.plan,
        "stages": _stages(connection, rollout, told, _part(rollout, counts)),
        "silent": {"count": quiet, "few": list(few)},
        "waiting": told.waiting,
        "safety": told.safety,
        "waits": [{"device": t.device, "for": t.wait} for t in told.without if t.wait],
        "skipped": [{"device": t.device, "reason": t.reason} for t in told.without if t.bundle is None],
        "next": None if last is None else Place(last.member.stage, last.device).cursor,
        "left_out": [{"why": why, "devices": number} for why, number in seen.without.most_common()],
        "waits_for": [{"for": what, "devices": number} for what, number in seen.waits.most_common()],
        "history": _history(connection, rollout),
    }


def _stages(
    connection: Connection, rollout: Rollout, told: _Fleet, here: Progress | None
) -> list[RolloutStage]:
    """The stages with what their gates said.

    Args:
        here: How far the current one is with its part.
    """
    profiles = profiles_of(connection, rollout)
    query = select(rollout_stages).where(rollout_stages.c.rollout == rollout.id)
    begun = {row.stage: row for row in connection.execute(query)}
    return [
        {
            "number": index + 1,
            "share": str(stage),
            "target": told.goals[index],
            "begun_ms": begun[index].begun_ms if index in begun else None,
            "part": here if index == rollout.position.stage else None,
            "devices": [member(row, profiles) for row in told.members if row.member.stage == index],
            "verdicts": [verdict_row(v) for v in (verdicts_of(begun[index]) if index in begun else ())],
        }
        for index, stage in enumerate(rollout.plan.stages)
    ]


def _history(connection: Connection, rollout: Rollout) -> list[RolloutStep]:
    """What was done with it, and by whom."""
    steps = select(rollout_steps).where(rollout_steps.c.rollout == rollout.id)
    history = connection.execute(steps.order_by(rollout_steps.c.id).limit(SHOWN_STEPS)).all()
    parts = part_words.of_steps(rollout.plan.first_part, (Event(row.event) for row in history))
    return [
        {
            "at_ms": row.at_ms,
            "event": Event(row.event),
            "phase": Phase(row.phase),
            "stage": row.stage,
            "actor": row.actor,
            "why": row.why,
            "part": part,
        }
        for row, part in zip(history, parts, strict=True)
    ]


def devices_page(
    connection: Connection, rollout_id: str, wanted: Wanted, most: int, after: str = "", offset: int = 0
) -> RolloutDevices:
    """Some devices of a rollout, by stage and name, and where the next begin.

    Args:
        after: The cursor that came with the devices before.
        offset: Counted off instead of a cursor.

    Raises:
        NotFound: There is no such rollout.
        RequestInvalid: It is no cursor of ours.
    """
    rollout = load(connection, rollout_id)
    begin = Place.parse(after) if after else None
    found = page(connection, rollout.id, wanted, offset, most + 1, begin)
    names = [row["device"] for row in found.rows[:most]]
    profiles = profiles_of(connection, rollout)
    rows = load_members(connection, rollout.id, names) if names else []
    last = rows[-1] if len(found.rows) > most else None
    return {
        "total": found.total,
        "more": found.more,
        "devices": [{"stage": row.member.stage, **member(row, profiles)} for row in rows],
        "next": None if last is None else Place(last.member.stage, last.device).cursor,
    }


def _fleet(
    connection: Connection, rollout: Rollout, counts: Counts, now_ms: int, most: int
) -> tuple[_Fleet, Outlook]:
    """A few devices, and all of those that are not reached, counted by the database."""
    names = [row["device"] for row in page(connection, rollout.id, Wanted(), 0, most).rows] if most else []
    members = load_members(connection, rollout.id, names) if names else []
    safety: RolloutSafety | None = None
    if counts.reached <= most:
        safety = as_json(time_to_safe(connection, rollout.id, members))
    elif (back := way_back(connection, rollout.id)) is not None:
        safety = {
            "began_ms": back.began_ms,
            "why": back.why,
            "back": back.back,
            "not_back": {device: State(state) for device, state in back.few},
            "not_back_devices": back.not_back,
            "median_s": back.median_s,
            "p95_s": back.p95_s,
            "last_s": back.last_s,
            "devices": {},
        }
    if rollout.position.phase in ENDED | RETURNING:
        return _Fleet(members, [None] * len(rollout.plan.stages), 0, (), safety), Outlook(0, 0, 0, ())
    known = list(accumulate(counts.states(index).total() for index in range(len(rollout.plan.stages))))
    seen, without = left_out(connection, rollout, now_ms, 0, most, known[-1])
    # a stage that is past gets no more, whatever those after it have reached
    past = max(0, rollout.position.stage)
    return _Fleet(members, (*known[:past], *seen.stages[past:]), seen.reaches, without, safety), seen


def profiles_of(connection: Connection, rollout: Rollout) -> dict[str, str]:
    """Profile by the digest of a bundle of the release."""
    query = select(bundles.c.digest, bundles.c.profile).where(bundles.c.counter == rollout.counter)
    return {row.digest: row.profile for row in connection.execute(query)}


def _part(rollout: Rollout, counts: Counts) -> Progress | None:
    """How far the current stage is with its part, while that is under way; None for stages of one part."""
    position, plan = rollout.position, rollout.plan
    if position.phase in ENDED | RETURNING or position.stage < 0:
        return None
    states = counts.states(position.stage)
    return part_words.tell(plan.first_part, position.part, position.phase, plan.quorum, states)


def member(row: Reached, profiles: dict[str, str]) -> RolloutMember:
    """One device as it is told."""
    own = row.member
    return {
        "device": own.device,
        "profile": profiles.get(own.bundle),
        "bundle": own.bundle,
        "previous": own.previous,
        "part": row.part,
        "state": own.state,
        "code": own.code,
        "detail": own.detail,
        "back": row.back_state,
        "back_code": row.back_code,
        "back_detail": row.back_detail,
        "left": row.left,
        "retries": dict(row.used),
        "assigned_ms": round(own.assigned_s * 1000),
        "last_seen_ms": row.last_seen_ms,
    }
