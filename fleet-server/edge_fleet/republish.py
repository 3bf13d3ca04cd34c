"""Publishing verified telemetry again, as plain JSON: what was committed, in the order of arrival.

Rows are read back from the database, so that nothing is told that is not stored, and ingest is not held up.
The place is kept every few seconds: after a crash what was told since is told again (`epoch`, `seq` and
`index` name a record for ever), and what was stored while the broker was away is told when it is back.
While nobody has an account to hear it, nothing is told: that would cost more than storing it did.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache, partial
from typing import Any

from sqlalchemy import Connection, Row, select
from sqlalchemy.exc import SQLAlchemyError

from edge_contracts.errors import one_line
from edge_contracts.verified import told, verified_topic
from edge_fleet.giving_way import GivingWay, never
from edge_fleet.schema import meta
from edge_fleet.store import Store, upsert
from edge_fleet.telemetry import last_id, records_of, stored

log = logging.getLogger(__name__)

POSITION_KEY = "republished"
POLL_S = 0.25
KEEP_S = 5.0
RETRY_S = 2.0
TOPICS = 10_000  # remembered, of about 300 bytes each


class Republisher:
    """Tells verified records of one fleet."""

    def __init__(
        self,
        store: Store,
        fleet: str,
        publish: Callable[[str, bytes], bool],
        way: GivingWay | None = None,
        may_hear: Callable[[], bool] = lambda: True,
    ) -> None:
        """Take the parts.

        Args:
            publish: False when it could not be sent.
            way: What it gives way to; None for nothing.
            may_hear: Whether anybody could be subscribed; true before the first of them can be.
        """
        self._store, self._publish, self._way = store, publish, way or never()
        self._may_hear = may_hear
        self._topic = lru_cache(TOPICS)(partial(verified_topic, fleet))
        self._done: int | None = None
        self._kept: int | None = None
        self.told = 0

    def begin(self) -> None:
        """Find the place before more is stored: what is there already is not told the first time."""
        with self._store.read() as connection:
            self._kept = position(connection)
            self._done = last_id(connection) if self._kept is None else self._kept

    def run(self, stop: threading.Event) -> None:
        """Follow what is stored until told to stop."""
        rest_s, kept_at = POLL_S, time.monotonic()
        while not stop.wait(rest_s):
            self._way.rest(stop)
            try:
                if self.step():
                    rest_s = 0.0
                else:
                    self._way.up_to_date()
                    rest_s = POLL_S
                if time.monotonic() - kept_at > KEEP_S:
                    self.keep()
                    kept_at = time.monotonic()
            except SQLAlchemyError as error:  # the place is where it was
                log.error("verified telemetry waits", extra={"reason": one_line(error)})
                rest_s = RETRY_S
        with suppress(SQLAlchemyError):
            self.keep()

    def step(self) -> bool:
        """Tell one page; whether there may be more at once."""
        if self._done is None:
            self.begin()
        assert self._done is not None
        if self._passed_over():
            return False
        with self._store.read() as connection:
            rows = stored(connection, self._done)
        for row in rows:
            if not self._tell(row):
                return False
            self._done = row.id
        return bool(rows)

    def keep(self) -> None:
        """Write down how far it has come."""
        if self._done is None or self._done == self._kept:
            return
        with self._store.write() as connection:
            upsert(connection, meta, {"key": POSITION_KEY, "value": str(self._done)}, ("key",))
        self._kept = self._done

    def _passed_over(self) -> bool:
        """Go to the end when nobody can hear."""
        with self._store.read() as connection:
            end = last_id(connection)
        if self._may_hear():  # asked after: whoever may hear by now may have been there for the last of these
            return False
        self._done = end
        return True

    def _tell(self, row: Row[Any]) -> bool:
        records = records_of(row.raw)
        messages = told(row.device, row.epoch, row.seq, row.received_ms, records)
        for record, message in zip(records, messages, strict=True):
            if not self._publish(self._topic(row.device, record.kind), message):
                return False
            self.told += 1
        return True


def position(connection: Connection) -> int | None:
    """Row id of the last envelope that was told; None before the first."""
    stated = connection.execute(select(meta.c.value).where(meta.c.key == POSITION_KEY)).scalar()
    return int(stated) if stated else None
