"""The devices of a rollout as rows: whom it has reached, with which assignments, and how these stand."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, and_, insert, select, update

from edge_fleet.assignment import State
from edge_fleet.evidence import Member
from edge_fleet.rollouts import targets
from edge_fleet.schema import assignments, devices, rollout_members


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
