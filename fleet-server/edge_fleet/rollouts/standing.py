"""How each device of a rollout stands, in one word: kept beside it, and counted (`counting.py`).

The word follows from the assignments of a device, from what an operator ordered and from its revocation.
Whoever changes one of these says so in the same transaction (`stand`); nothing else writes it.
"""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import ColumnElement, Connection, and_, bindparam, case, select, update

from edge_fleet.assignment import FAILED, SETTLED, State
from edge_fleet.rollouts.counting import Kind, moved
from edge_fleet.schema import assignments, devices, rollout_members


class Standing(StrEnum):
    """How a device of a rollout stands, for people: one word each."""

    ON_ITS_WAY = "on-its-way"  # the release is: assigned, downloading or on trial
    CONFIRMED = "confirmed"
    FAILED = "failed"  # it refused the release, or went back by itself
    SILENT = "silent"
    GOING_BACK = "going-back"
    BACK = "back"
    NOT_BACK = "not-back"  # it is silent, or could not
    LEFT_OUT = "left-out"  # by an operator


GONE = "revoked"  # of a device that takes no part any more: it is not shown, nor counted

_own, _forth, _back = rollout_members.c, assignments.alias("forth"), assignments.alias("back")
_WORD: ColumnElement[str] = case(
    (devices.c.revoked_ms.is_not(None), GONE),
    (_own.left_as.is_not(None), Standing.LEFT_OUT.value),
    (_back.c.phase == State.CONFIRMED, Standing.BACK.value),
    (_back.c.phase.in_(list(SETTLED)), Standing.NOT_BACK.value),
    (_own.back.is_not(None), Standing.GOING_BACK.value),
    (_forth.c.phase.in_(list(FAILED)), Standing.FAILED.value),
    (_forth.c.phase == State.UNREACHABLE, Standing.SILENT.value),
    (_forth.c.phase == State.CONFIRMED, Standing.CONFIRMED.value),
    else_=Standing.ON_ITS_WAY.value,
)
_SINCE = case((_own.back.is_(None), _forth.c.changed_ms), else_=_back.c.changed_ms)
# built once: they are run for most words of a device
_NOW = (
    select(
        _own.rollout,
        _own.stage,
        _own.standing,
        _own.state,
        _own.previous.is_not(None).label("returns"),
        _WORD.label("word"),
        _SINCE.label("since_ms"),
        _forth.c.phase,
    )
    .select_from(
        rollout_members.join(devices, devices.c.id == _own.device)
        .join(_forth, and_(_forth.c.device == _own.device, _forth.c.number == _own.number))
        .outerjoin(_back, and_(_back.c.device == _own.device, _back.c.number == _own.back))
    )
    .where(
        _own.device == bindparam("device_"),
        (_own.standing != _WORD) | (_own.standing_ms != _SINCE) | (_own.state != _forth.c.phase),
    )
)
_SET = (
    update(rollout_members)
    .where(_own.rollout == bindparam("rollout_"), _own.device == bindparam("device_"))
    .values(standing=bindparam("word"), standing_ms=bindparam("since_ms"), state=bindparam("phase"))
)


def stand(connection: Connection, device: str) -> None:
    """Note how a device stands now, in each rollout that has reached it."""
    changed = connection.execute(_NOW, {"device_": device}).all()
    for row in changed:
        told = {"word": row.word, "since_ms": row.since_ms, "phase": row.phase}
        connection.execute(_SET, {"rollout_": row.rollout, "device_": device, **told})
        was = Kind(row.rollout, row.stage, row.standing, row.state, bool(row.returns))
        moved(connection, was, was._replace(standing=row.word, state=row.phase))
