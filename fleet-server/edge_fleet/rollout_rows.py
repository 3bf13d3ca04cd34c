"""Rollouts in the database: reading them, and changing them so that two who do so at once do not mix.

Every change of a rollout's position states the revision that it rests on. Who comes second changes
nothing and is told so. Decisions are in `decision.py`, their order in time in `conductor.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, and_, insert, or_, select, update

from edge_contracts.manifest import Manifest
from edge_contracts.sketch import QuantileSketch
from edge_fleet import selector, targets
from edge_fleet.assignment import State
from edge_fleet.errors import NotFound
from edge_fleet.evidence import BundleFacts, Member, Reading
from edge_fleet.gates import Outcome, Verdict
from edge_fleet.plan import RolloutPlan, parse_plan
from edge_fleet.rollout import WATCHED, Event, Phase, Position
from edge_fleet.schema import (
    assignments,
    bundles,
    devices,
    releases,
    rollout_members,
    rollout_stages,
    rollout_steps,
    rollouts,
    windows,
)

# How far back windows of the release before are looked at: a day has every hour's light and load.
LOOKBACK_MS = 86_400_000


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


@dataclass(frozen=True)
class MemberRow:
    """One device of a rollout with its two assignments.

    Args:
        number, back: Of the assignment that brings the release, and of the one that takes it away.
        back_state: Where the second stands; None when there is none.
        changed_ms: When the assignment in force last changed its state.
        last_seen_ms: When the device last said anything.
    """

    member: Member
    number: int
    back: int | None
    back_state: State | None
    changed_ms: int
    last_seen_ms: int | None


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
        told = [{"gate": v.gate, "outcome": v.outcome, "reason": v.reason} for v in verdicts]
        before = connection.execute(select(rollout_stages.c.verdicts).where(here)).scalar()
        if told != before:
            connection.execute(update(rollout_stages).where(here).values(verdicts=told))
            changed = True
    return changed


def verdicts_of(row: Row[Any]) -> tuple[Verdict, ...]:
    """The verdicts of a row of `rollout_stages`."""
    return tuple(Verdict(v["gate"], Outcome(v["outcome"]), v["reason"]) for v in row.verdicts)


def add_member(
    connection: Connection,
    rollout: str,
    stage: int,
    target: targets.Target,
    previous: str | None,
    number: int,
) -> None:
    """Store that a stage has reached a device with an assignment."""
    connection.execute(
        insert(rollout_members).values(
            rollout=rollout,
            device=target.device,
            stage=stage,
            bundle=target.bundle,
            previous=previous,
            number=number,
        )
    )


def set_back(connection: Connection, rollout: str, device: str, number: int) -> None:
    """Store the assignment that sends a device back."""
    connection.execute(
        update(rollout_members)
        .where(rollout_members.c.rollout == rollout, rollout_members.c.device == device)
        .values(back=number)
    )


def load_members(connection: Connection, rollout: str) -> list[MemberRow]:
    """The devices that a rollout has reached, by stage and id.

    A revoked one takes no part any more: it can neither answer nor be sent back, and holds nothing up.
    """
    forth, back = assignments.alias("forth"), assignments.alias("back")
    own = rollout_members.c
    rows = connection.execute(
        select(
            rollout_members,
            forth.c.phase,
            forth.c.code,
            forth.c.detail,
            forth.c.created_ms,
            forth.c.changed_ms,
            back.c.phase.label("back_phase"),
            back.c.changed_ms.label("back_changed_ms"),
            devices.c.last_seen_ms,
        )
        .join(forth, and_(forth.c.device == own.device, forth.c.number == own.number))
        .outerjoin(back, and_(back.c.device == own.device, back.c.number == own.back))
        .join(devices, devices.c.id == own.device)
        .where(own.rollout == rollout, devices.c.revoked_ms.is_(None))
        .order_by(own.stage, own.device)
    )
    return [
        MemberRow(
            member=Member(
                device=row.device,
                stage=row.stage,
                bundle=row.bundle,
                previous=row.previous,
                state=State(row.phase),
                assigned_s=row.created_ms / 1000,
                code=row.code,
                detail=row.detail,
            ),
            number=row.number,
            back=row.back,
            back_state=None if row.back_phase is None else State(row.back_phase),
            changed_ms=row.changed_ms if row.back is None else row.back_changed_ms,
            last_seen_ms=row.last_seen_ms,
        )
        for row in rows
    ]


def load_release(connection: Connection, name: str, version: str) -> targets.Release:
    """A release's bundles by profile.

    Raises:
        NotFound: It has not been published.
    """
    row = connection.execute(
        select(releases.c.counter).where(releases.c.name == name, releases.c.version == version)
    ).one_or_none()
    if row is None:
        raise NotFound(f"no release {name}@{version}; `edge-fleet release list` shows all")
    found = connection.execute(
        select(bundles.c.profile, bundles.c.digest).where(bundles.c.counter == row.counter)
    )
    return targets.Release(row.counter, {bundle.profile: bundle.digest for bundle in found})


def load_devices(connection: Connection, rollout: str | None = None) -> list[targets.Device]:
    """Every device that may be chosen: enrolled, not revoked.

    Args:
        rollout: The one that chooses; taking part in another makes a device busy.
    """
    own = rollout_members.c
    busy: dict[str, str] = {
        row.device: row.rollout
        for row in connection.execute(
            select(own.device, own.rollout)
            .join(rollouts, rollouts.c.id == own.rollout)
            .where(rollouts.c.phase.in_(list(WATCHED)), own.rollout != (rollout or ""))
        )
    }
    rows = connection.execute(select(devices).where(devices.c.revoked_ms.is_(None)).order_by(devices.c.id))
    return [
        targets.Device(
            id=row.id,
            profile=tuple(row.profile),
            labels=row.labels,
            counter=row.state["counter"] if row.state else 0,
            active=active_bundle(row.state),
            busy=busy.get(row.id),
        )
        for row in rows
    ]


def load_targets(connection: Connection, rollout: Rollout) -> tuple[targets.Target, ...]:
    """What every device that a rollout's selector names would get now, or why it would get nothing."""
    return targets.select(
        rollout.plan,
        selector.parse(rollout.plan.select),
        load_release(connection, rollout.plan.model, rollout.plan.version),
        load_devices(connection, rollout.id),
    )


def active_bundle(state: Mapping[str, Any] | None) -> str | None:
    """Digest of what a device runs, by its own last word."""
    return state["active"]["bundle"] if state and state.get("active") else None


def known_bundles(connection: Connection, digests: Iterable[str]) -> frozenset[str]:
    """Those of some bundles that have been published here."""
    return frozenset(
        connection.execute(select(bundles.c.digest).where(bundles.c.digest.in_(list(digests)))).scalars()
    )


def load_facts(connection: Connection, digests: Iterable[str]) -> dict[str, BundleFacts]:
    """What the gates need of some bundles' manifests."""
    facts = {}
    for row in connection.execute(select(bundles).where(bundles.c.digest.in_(list(digests)))):
        manifest = Manifest.model_validate_json(row.manifest)
        facts[row.digest] = BundleFacts(
            row.digest, row.profile, manifest.baseline, manifest.gates.latency_p95_ms
        )
    return facts


def load_readings(connection: Connection, members: Sequence[Member], started_ms: int) -> list[Reading]:
    """Windows that may be evidence: of the new bundles, and of the previous ones for a day before."""
    new = sorted({member.bundle for member in members})
    old = sorted({member.previous for member in members if member.previous} - set(new))
    rows = connection.execute(
        select(windows).where(
            or_(
                and_(windows.c.bundle.in_(new), windows.c.received_ms >= started_ms),
                and_(windows.c.bundle.in_(old), windows.c.received_ms >= started_ms - LOOKBACK_MS),
            )
        )
    )
    return [reading_of(row) for row in rows]


def reading_of(row: Row[Any]) -> Reading:
    """The numbers of a row of `windows`."""
    return Reading(
        device=row.device,
        bundle=row.bundle,
        received_s=row.received_ms / 1000,
        inferences=row.inferences,
        errors=row.errors,
        refused=row.refused,
        latency_ms=QuantileSketch(bins={int(index): count for index, count in row.latency.items()}),
        scalars={name: tuple(counts) for name, counts in row.scalars.items()},
        golden_total=row.golden_total,
        golden_agree=row.golden_agree,
    )


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
        plan=parse_plan(row.plan, f"plan of rollout {row.id}"),
        counter=row.counter,
        position=Position(Phase(row.phase), row.stage, row.since_ms / 1000),
        started_ms=row.started_ms,
        why=row.why,
        created_ms=row.created_ms,
        created_by=row.created_by,
        revision=row.revision,
    )
