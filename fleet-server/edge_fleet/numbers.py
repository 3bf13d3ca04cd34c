"""Numbers that devices hold against whoever comes with a smaller one: of assignments and of releases.

A device takes no assignment whose number it has seen, and no release whose counter is below its own. A
database that was restored has forgotten which it gave out since the backup. So what it gives out after a
restore begins above what the server of before can have given (`leap`), and a device that has seen a higher
number than is known here is believed: it signs what it says.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, bindparam, func, select

from edge_fleet.schema import assignments, devices, meta, releases
from edge_fleet.store import upsert

LEAP_KEY = "numbers begin above"  # in `meta`: "ASSIGNMENT COUNTER"
RELEASES = 1000  # more than anybody publishes between two backups
BELIEVED = 1 << 53  # from here on no device is: one more than a column holds would stop every rollout

_LEAP = select(meta.c.value).where(meta.c.key == LEAP_KEY)
_STATE = select(devices.c.state).where(devices.c.id == bindparam("device_"))
_LAST = select(func.max(assignments.c.number), _STATE.scalar_subquery(), _LEAP.scalar_subquery()).where(
    assignments.c.device == bindparam("device_")
)


def leap(connection: Connection, now_ms: int) -> None:
    """After a restore: begin above whatever was given out since the backup.

    The seconds of the clock: no device is given an assignment a second for years on end, and the same backup
    restored a second time begins above the first.
    """
    last = int(connection.execute(select(func.max(assignments.c.number))).scalar() or 0)
    counter = int(connection.execute(select(func.max(releases.c.counter))).scalar() or 0)
    value = f"{max(last, now_ms // 1000)} {counter + RELEASES if counter else 0}"
    upsert(connection, meta, {"key": LEAP_KEY, "value": value}, ("key",))


def _leap(value: str | None, place: int) -> int:
    return int(value.split()[place]) if value else 0


def next_assignment(connection: Connection, device: str) -> int:
    """The number of a device's next assignment."""
    last, state, above = connection.execute(_LAST, {"device_": device}).one()
    return max(last or 0, _seen(state), _leap(above, 0)) + 1


def _seen(state: dict[str, Any] | None) -> int:
    """The last number that a device speaks of; 0 for none."""
    number: int = ((state or {}).get("progress") or {}).get("assignment", 0)
    return number if number < BELIEVED else 0


def next_release(connection: Connection) -> int:
    """The counter of the next release."""
    last = int(connection.execute(select(func.max(releases.c.counter))).scalar() or 0)
    return max(last, _leap(connection.execute(_LEAP).scalar(), 1)) + 1
