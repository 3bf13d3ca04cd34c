"""Devices that say they obey a director's key which is not, or not any more, of this server.

Such a device takes orders from somebody else: its key store was stolen and is used with another server, it
was enrolled elsewhere before, or whoever has stolen a retired director's key directs it. What it said is kept
as it came. It is led back by the next assignment where a statement names the way (docs/decisions/0103).
"""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Connection, func, or_, select

from edge_contracts.messages import DeviceState
from edge_fleet.alerts.machine import Finding
from edge_fleet.schema import devices, directors, refused_messages
from edge_fleet.store import upsert

RULE = "foreign-director"
_STANDING = directors.c.retired_ms.is_(None)


def keep(connection: Connection, state: DeviceState, topic: str, raw: bytes, now_ms: int) -> None:
    """Keep a verified snapshot that says so: it proves the alert."""
    if not state.obeys:
        return
    ours = select(directors.c.key_id).where(directors.c.key_id == state.obeys, _STANDING)
    if connection.execute(ours).one_or_none() is not None:
        return
    row = {
        "reason": RULE,
        "device": state.device,
        "count": 1,
        "received_ms": now_ms,
        "topic": topic,
        "detail": f"it obeys {state.obeys}",
        "raw": raw,
    }
    upsert(connection, refused_messages, row, ("reason", "device"))


def foreign_directors(connection: Connection, _now_ms: int) -> Iterator[Finding]:
    """Each device that obeys somebody else by its last word, however long ago that was."""
    columns = (devices.c.id, devices.c.director, directors.c.retired_ms)
    for row in connection.execute(
        select(*columns).select_from(_DEVICES).where(*_ASTRAY).order_by(devices.c.id)
    ):
        whose = "is not one of this server's" if row.retired_ms is None else "is retired here"
        yield Finding(
            RULE,
            row.id,
            1,
            f"it says that it obeys the director's key {row.director}, which {whose}: others can order it",
            {"proof": "message", "reason": RULE, "obeys": row.director},
        )


def astray(connection: Connection) -> int:
    """How many devices do."""
    query = select(func.count()).select_from(_DEVICES).where(*_ASTRAY)
    return int(connection.execute(query).scalar_one())


_DEVICES = devices.outerjoin(directors, directors.c.key_id == devices.c.director)
_ASTRAY = (
    devices.c.revoked_ms.is_(None),
    devices.c.tells_director,  # an agent of before does not say; what is known of it is a guess
    devices.c.director.is_not(None),
    or_(directors.c.key_id.is_(None), directors.c.retired_ms.is_not(None)),
)
