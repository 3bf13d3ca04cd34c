"""The thread that keeps `standings` true: it judges whom something happened to, and everybody now and then.

Who writes something that changes how a device stands says so in the same transaction (`due.py`). New windows
are read by their ids, narrowly: only those that say something bad, or come from a device that was not well,
make a device be looked at at once; others are looked at when they are due. A look at a few hundred devices
is one short transaction, the thread rests twice as long as it took, and longer while messages wait: ingest
goes first. In a large fleet figures are older than RECHECK_MS (`due.recheck_ms`); what happened to a device
still comes first.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, func, select
from sqlalchemy.exc import SQLAlchemyError

from edge_contracts.errors import ContractError, one_line
from edge_fleet.giving_way import GivingWay, never
from edge_fleet.schema import devices, meta, standings, windows
from edge_fleet.services import Services
from edge_fleet.standings.due import RECHECK_MS, recheck_ms, reported
from edge_fleet.standings.judge import Baselines, judge, standing
from edge_fleet.storage.bulk import insert_many, update_many
from edge_fleet.store import upsert

log = logging.getLogger(__name__)

IDLE_S = 1.0
REST_SHARE = 2  # at most a third of the writers' time
PORTION = 200  # devices at once
WINDOWS_PER_ROUND = 5_000
COUNT_MS = 60_000  # how often the devices are counted
_POSITION = "standings_seen"  # in `meta`: id of the last window that was looked at
_COLUMNS = tuple(column.name for column in standings.c if column.name != "device")


class Standings:
    """Keeps the table of one server.

    Args:
        way: What it gives way to; None for nothing.
    """

    def __init__(self, services: Services, way: GivingWay | None = None) -> None:
        """Take the server's parts; `run` does the work."""
        self._services = services
        self._way = way or never()
        self._baselines = Baselines()
        self._recheck_ms, self._count_at_ms = RECHECK_MS, 0
        self.failures = 0

    def run(self, stop: threading.Event) -> None:
        """Work until told to stop."""
        rest_s = 0.0
        while not stop.wait(rest_s):
            self._way.rest(stop)
            begun = time.monotonic()
            more = False
            try:
                more = self.round(self._services.now_ms())
                if not more:
                    self._way.up_to_date()
            except (SQLAlchemyError, ContractError) as error:
                # away, or a row that this release cannot read: what is due stays due
                self.failures += 1
                log.error("standings put off", extra={"reason": one_line(error)})
            rest_s = max(REST_SHARE * (time.monotonic() - begun), 0.0 if more else IDLE_S)

    def catch_up(self, now_ms: int) -> None:
        """Do everything that is due."""
        while self.round(now_ms):
            pass

    def round(self, now_ms: int) -> bool:
        """Look at the next devices; True when there is more to do."""
        store = self._services.store
        with store.read() as connection:
            if _newest(connection) <= (_seen(connection) or 0) and not _next(connection, now_ms):
                return False
        with store.write() as connection:
            more = note_windows(connection, now_ms)
            names = _next(connection, now_ms)
            changed = self._judge(connection, names, now_ms)
        if changed:
            self._services.bus.publish("standing", devices=changed)
        return more or len(names) == PORTION

    def _judge(self, connection: Connection, names: Sequence[str], now_ms: int) -> int:
        """Returns of how many the health is another."""
        if not names:
            return 0
        if now_ms >= self._count_at_ms:
            counted = connection.execute(select(func.count()).select_from(devices)).scalar_one()
            self._recheck_ms, self._count_at_ms = recheck_ms(counted), now_ms + COUNT_MS
        own = standings.c
        there: dict[str, Any] = {
            row.device: row
            for row in connection.execute(
                select(own.device, own.health, own.since_ms).where(own.device.in_(names))
            )
        }
        rows = [
            standing(row, judged, there.get(row.id), now_ms, self._recheck_ms)
            for row, judged in judge(connection, names, now_ms, self._baselines)
        ]
        values = [tuple(row[name] for name in (*_COLUMNS, "device")) for row in rows]
        update_many(connection, standings, ("device",), _COLUMNS, [one for one in values if one[-1] in there])
        insert_many(
            connection, standings, (*_COLUMNS, "device"), [one for one in values if one[-1] not in there]
        )
        return sum(row["device"] not in there or there[row["device"]].health != row["health"] for row in rows)


def note_windows(connection: Connection, now_ms: int) -> bool:
    """Make those due of whom new windows say something; True when there are more windows."""
    own = windows.c
    position = _seen(connection)
    if position is None:  # of a table that is not filled yet: everybody is looked at anyhow
        upsert(connection, meta, {"key": _POSITION, "value": str(_newest(connection))}, ("key",))
        return False
    rows = connection.execute(
        select(own.id, own.device, own.errors, own.refused, own.drifting)
        .where(own.id > position)
        .order_by(own.id)
        .limit(WINDOWS_PER_ROUND)
    ).all()
    if not rows:
        return False
    bad = sorted({row.device for row in rows if row.errors or row.refused or row.drifting})
    names = sorted({row.device for row in rows})
    reported(connection, names, bad, now_ms)
    upsert(connection, meta, {"key": _POSITION, "value": str(rows[-1].id)}, ("key",))
    return len(rows) == WINDOWS_PER_ROUND


def _seen(connection: Connection) -> int | None:
    found = connection.execute(select(meta.c.value).where(meta.c.key == _POSITION)).scalar()
    return None if found is None else int(found)


def _newest(connection: Connection) -> int:
    return int(connection.execute(select(func.max(windows.c.id))).scalar() or 0)


def _next(connection: Connection, now_ms: int) -> list[str]:
    """Who is to be looked at next: new devices first."""
    return _missing(connection) or _due(connection, now_ms)


def _missing(connection: Connection) -> list[str]:
    """Devices that have no row yet; looked for only when the numbers differ."""
    counted = (select(func.count()).select_from(table).scalar_subquery() for table in (devices, standings))
    enrolled, standing_ = connection.execute(select(*counted)).one()
    if enrolled == standing_:
        return []
    return list(
        connection.execute(
            select(devices.c.id)
            .outerjoin(standings, standings.c.device == devices.c.id)
            .where(standings.c.device.is_(None))
            .limit(PORTION)
        ).scalars()
    )


def _due(connection: Connection, now_ms: int) -> list[str]:
    own = standings.c
    return list(
        connection.execute(
            select(own.device).where(own.due_ms <= now_ms).order_by(own.due_ms, own.device).limit(PORTION)
        ).scalars()
    )
