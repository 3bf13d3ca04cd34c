"""The devices of a rollout as rows: whom it has reached, with which assignments, and how these stand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, and_, delete, insert, or_, select, update

from edge_fleet import orders
from edge_fleet.assignment import State
from edge_fleet.evidence import Member
from edge_fleet.rollouts.counting import Kind, moved
from edge_fleet.rollouts.parts import part_of
from edge_fleet.rollouts.reached import Left, Reached
from edge_fleet.rollouts.standing import Standing
from edge_fleet.schema import assignments, devices, rollout_members, rollout_skips
from edge_fleet.store import upsert

PORTION = 500  # below every SQLite's limit of variables


def add(
    connection: Connection,
    rollout: str,
    stage: int,
    device: str,
    bundle: str,
    previous: str | None,
    number: int,
) -> None:
    """Store that a stage has reached a device with an assignment."""
    connection.execute(
        insert(rollout_members).values(
            rollout=rollout,
            device=device,
            stage=stage,
            bundle=bundle,
            previous=previous,
            number=number,
        )
    )
    moved(connection, None, Kind(rollout, stage, Standing.ON_ITS_WAY, State.PENDING, previous is not None))


def change(connection: Connection, rollout: str, device: str, **values: Any) -> None:
    """Store what becomes of a device that was reached; names as in `schema/`."""
    connection.execute(
        update(rollout_members)
        .where(rollout_members.c.rollout == rollout, rollout_members.c.device == device)
        .values(**values)
    )
    orders.mark_changed(connection, device)


def begun_since(connection: Connection, rollout: str, since_ms: int) -> tuple[float, ...]:
    """When assignments that bring the release were given after a moment, Unix seconds."""
    own = rollout_members.c
    rows = connection.execute(
        select(assignments.c.created_ms)
        .join(rollout_members, own.device == assignments.c.device)
        .where(
            assignments.c.rollout == rollout,
            own.rollout == rollout,
            assignments.c.created_ms > since_ms,
            or_(own.back.is_(None), assignments.c.number < own.back),
        )
    )
    return tuple(row.created_ms / 1000 for row in rows)


def skip(connection: Connection, rollout: str, device: str, actor: str, why: str, now_ms: int) -> None:
    """Store that an operator leaves a device out."""
    row = {"rollout": rollout, "device": device, "actor": actor, "why": why, "at_ms": now_ms}
    upsert(connection, rollout_skips, row, ("rollout", "device"))


def unskip(connection: Connection, rollout: str, device: str) -> None:
    """Store that it is left out no longer."""
    connection.execute(
        delete(rollout_skips).where(rollout_skips.c.rollout == rollout, rollout_skips.c.device == device)
    )


def skipped(connection: Connection, rollout: str) -> dict[str, str]:
    """Devices that operators left out, with the reason for people."""
    rows = connection.execute(select(rollout_skips).where(rollout_skips.c.rollout == rollout))
    return {row.device: told_of_skip(row.actor, row.why) for row in rows}


def told_of_skip(actor: str, why: str) -> str:
    """That an operator leaves a device out, for people."""
    return f"left out by {actor}" + (f": {why}" if why else "")


def load_members(connection: Connection, rollout: str, among: Sequence[str] | None = None) -> list[Reached]:
    """The devices that a rollout has reached, by stage and id.

    A revoked one takes no part any more: it can neither answer nor be sent back, and holds nothing up.

    Args:
        among: Only those of these; None for all.
    """
    if among is not None and len(among) > PORTION:
        parts = (among[start : start + PORTION] for start in range(0, len(among), PORTION))
        return [row for part in parts for row in load_members(connection, rollout, part)]
    forth, back = assignments.alias("forth"), assignments.alias("back")
    own = rollout_members.c
    rows = connection.execute(
        select(
            rollout_members,
            forth.c.phase,
            forth.c.terms,
            forth.c.code,
            forth.c.detail,
            forth.c.created_ms,
            forth.c.changed_ms,
            back.c.phase.label("back_phase"),
            back.c.changed_ms.label("back_changed_ms"),
            back.c.code.label("back_code"),
            back.c.detail.label("back_detail"),
            devices.c.last_seen_ms,
            devices.c.labels,
        )
        .join(forth, and_(forth.c.device == own.device, forth.c.number == own.number))
        .outerjoin(back, and_(back.c.device == own.device, back.c.number == own.back))
        .join(devices, devices.c.id == own.device)
        .where(
            own.rollout == rollout,
            devices.c.revoked_ms.is_(None),
            *([] if among is None else [own.device.in_(among)]),
        )
        .order_by(own.stage, own.device)
    )
    return [
        Reached(
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
            used=row.retries,
            left=None if row.left_as is None else Left(row.left_as),
            labels=row.labels,
            part=part_of(row.terms),
            back_code=row.back_code or "",
            back_detail=row.back_detail or "",
        )
        for row in rows
    ]
