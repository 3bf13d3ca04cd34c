"""The assignments as rows: giving a device a new one, and noting what becomes of it.

The table of states is in `assignment.py`. Sending is `dispatch.py`'s work: a row that is PENDING has
not been sent yet, so a crash between the two loses nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Row, bindparam, func, insert, select, update

from edge_contracts.messages import Progress
from edge_fleet import assignment
from edge_fleet.assignment import EVENT_OF, Event, State
from edge_fleet.numbers import BELIEVED, next_assignment
from edge_fleet.rollouts.standing import stand
from edge_fleet.schema import assignments, rollout_members
from edge_fleet.standings.due import touch

# of a row that changes: numbers are in the order of commits, because there is one writer at a time (0080)
NEXT_CHANGE = select(func.coalesce(func.max(assignments.c.change), 0) + 1).scalar_subquery()

# built once: what a device says is looked up a thousand times a second, and building costs as much as asking
_HERE = (assignments.c.device == bindparam("device_")) & (assignments.c.number == bindparam("number_"))
_FIND = select(assignments.c.phase, assignments.c.code, assignments.c.detail).where(_HERE)
_CHANGE = (
    update(assignments)
    .where(_HERE)
    .values(
        phase=bindparam("phase"),
        code=bindparam("code"),
        detail=bindparam("detail"),
        changed_ms=bindparam("changed_ms"),
        change=NEXT_CHANGE,
    )
)


def issue(
    connection: Connection,
    device: str,
    bundle: str | None,
    now_ms: int,
    *,
    rollout: str | None = None,
    stage: int | None = None,
    permit_downgrade: bool = False,
    expires_ms: int = 0,
    terms: Mapping[str, Any] | None = None,
) -> int:
    """Give a device a new assignment, which replaces the one before.

    Args:
        bundle: Digest of a published bundle, or None: keep what you have.
        expires_ms: When it must not be begun any more; 0 for never.
        terms: On which it is given, when not to run it.

    Returns:
        Its number.
    """
    number = next_assignment(connection, device)
    connection.execute(
        insert(assignments).values(
            device=device,
            number=number,
            bundle=bundle,
            rollout=rollout,
            stage=stage,
            permit_downgrade=permit_downgrade,
            expires_ms=expires_ms,
            terms=None if terms is None else dict(terms),
            phase=State.PENDING,
            created_ms=now_ms,
            changed_ms=now_ms,
            change=NEXT_CHANGE,
        )
    )
    touch(connection, device, now_ms)
    return number


def mark_changed(connection: Connection, device: str) -> None:
    """Note that something about a device changed that rollouts look at, besides its assignments."""
    stand(connection, device)
    connection.execute(update(assignments).where(assignments.c.device == device).values(change=NEXT_CHANGE))


def last_change(connection: Connection) -> int:
    """Number of the last change of any assignment."""
    return int(connection.execute(select(func.max(assignments.c.change))).scalar() or 0)


def changed_since(connection: Connection, change: int) -> list[str]:
    """Devices whose assignments changed after that change."""
    # told apart here: asked for each device once, SQLite goes through all of them by name
    query = select(assignments.c.device).where(assignments.c.change > change)
    return list(dict.fromkeys(connection.execute(query).scalars()))


def newest(connection: Connection, device: str) -> Row[Any] | None:
    """The assignment that counts for a device, or None when it never had one."""
    return connection.execute(
        select(assignments)
        .where(assignments.c.device == device)
        .order_by(assignments.c.number.desc())
        .limit(1)
    ).one_or_none()


def note(
    connection: Connection,
    device: str,
    number: int,
    event: Event,
    now_ms: int,
    code: str = "",
    detail: str = "",
) -> State | None:
    """Note an event of one assignment.

    Returns:
        Its state afterwards, or None when there is no such assignment.

    Raises:
        assignment.TransitionInvalid: The event cannot happen in its state.
    """
    row = connection.execute(_FIND, {"device_": device, "number_": number}).one_or_none()
    if row is None:
        return None
    state = assignment.step(State(row.phase), event)
    if (state, code, detail) != (row.phase, row.code, row.detail):
        told = {"phase": state, "code": code, "detail": detail, "changed_ms": now_ms}
        connection.execute(_CHANGE, {"device_": device, "number_": number, **told})
        stand(connection, device)
        touch(connection, device, now_ms)
    return state


def note_progress(connection: Connection, device: str, progress: Progress, now_ms: int) -> State | None:
    """Note what a device says of one of its assignments; the same word twice changes nothing.

    Raises:
        assignment.TransitionInvalid: It takes back what it said, such as a refusal.
    """
    state = note(
        connection,
        device,
        progress.assignment,
        EVENT_OF[progress.phase],
        now_ms,
        progress.code,
        progress.detail,
    )
    if state is None:
        _overtake(connection, device, progress.assignment, now_ms)
    return state


def _overtake(connection: Connection, device: str, seen: int, now_ms: int) -> None:
    """A device speaks of an assignment that is not known here: what it was to answer gets a number above.

    The database is older than the device's memory, and under its own number the device takes it for a replay
    and says nothing, for ever.
    """
    last = newest(connection, device)
    if last is None or not last.number < seen < BELIEVED or State(last.phase) not in assignment.OPEN:
        return
    number = next_assignment(connection, device)
    here = (assignments.c.device == device) & (assignments.c.number == last.number)
    above = {"number": number, "phase": State.PENDING, "changed_ms": now_ms, "change": NEXT_CHANGE}
    connection.execute(update(assignments).where(here).values(above))
    for column in (rollout_members.c.number, rollout_members.c.back):
        named = (rollout_members.c.device == device) & (column == last.number)
        connection.execute(update(rollout_members).where(named).values({column.name: number}))
    stand(connection, device)
    touch(connection, device, now_ms)
