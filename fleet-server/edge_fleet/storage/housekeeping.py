"""The thread that keeps the database in shape: sums windows up, and deletes what is past its time.

Each step is one short transaction, and it rests longer than a step took: ingest, which writes through the
same door, goes first, and while much waits this rests. What is not done when the server stops is done at the
next start.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable

from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from edge_contracts.errors import one_line
from edge_fleet.errors import RequestInvalid
from edge_fleet.giving_way import GivingWay, never
from edge_fleet.rollouts.phases import WATCHED
from edge_fleet.rollouts.readings import LOOKBACK_MS
from edge_fleet.schema import rollouts
from edge_fleet.storage.retention import FIRST, prune_envelopes, prune_windows
from edge_fleet.storage.rollups import roll_up
from edge_fleet.store import Store

log = logging.getLogger(__name__)

IDLE_S = 2.0  # sums are so far behind, at most, when nothing is in the way
PRUNE_EVERY_S = 600.0
REST_SHARE = 2  # at most a third of the writers' time
_UNITS_MS = {"h": 3_600_000, "d": 86_400_000, "w": 7 * 86_400_000}


def parse_age(text: str, what: str) -> int:
    """Milliseconds of an age such as 36h, 30d or 8w.

    Raises:
        RequestInvalid: It is not that.
    """
    found = re.fullmatch(r"([1-9][0-9]{0,5})([hdw])", text)
    if found is None:
        raise RequestInvalid(
            f"{what} {text!r:.40} is not an age: hours, days or weeks, such as 36h, 30d or 8w"
        )
    return int(found[1]) * _UNITS_MS[found[2]]


class Housekeeper:
    """Sums up always, deletes when told for how long to keep.

    Args:
        keep_raw_ms: Age at which windows and envelopes go; None keeps them.
        way: What it gives way to; None for nothing.
    """

    def __init__(
        self,
        store: Store,
        keep_raw_ms: int | None,
        now_ms: Callable[[], int],
        way: GivingWay | None = None,
    ) -> None:
        """Take the parts; `run` does the work."""
        self._store, self._keep_raw_ms, self._now_ms = store, keep_raw_ms, now_ms
        self._way = way or never()
        self.failures = 0

    def run(self, stop: threading.Event) -> None:
        """Work until told to stop."""
        prune_at = time.monotonic()
        rest_s = 0.0
        while not stop.wait(rest_s):
            self._way.rest(stop)
            begun = time.monotonic()
            try:
                more = self.sum_up()
                if not more:
                    self._way.up_to_date()
                if not more and self._keep_raw_ms is not None and begun >= prune_at:
                    self.prune(stop)
                    prune_at = time.monotonic() + PRUNE_EVERY_S
            except SQLAlchemyError as error:  # the database is away: nothing is lost by waiting
                self.failures += 1
                more = False
                log.error("housekeeping put off", extra={"reason": one_line(error)})
            rest_s = REST_SHARE * (time.monotonic() - begun) if more else IDLE_S

    def sum_up(self) -> bool:
        """One step of the sums; True when there is more to do."""
        with self._store.write() as connection:
            return roll_up(connection) > 0

    def prune(self, stop: threading.Event) -> None:
        """Delete everything that is past its time."""
        if self._keep_raw_ms is None:
            return
        before_ms = self._before_ms(self._keep_raw_ms)
        while self._rest(stop, lambda: self._prune_windows(before_ms) > 0):
            pass
        after = FIRST
        while True:
            begun = time.monotonic()
            with self._store.write() as connection:
                done = prune_envelopes(connection, before_ms, after)
            if done.after is None or stop.wait(REST_SHARE * (time.monotonic() - begun)):
                return
            after = done.after

    def _prune_windows(self, before_ms: int) -> int:
        with self._store.write() as connection:
            return prune_windows(connection, before_ms)

    def _rest(self, stop: threading.Event, step: Callable[[], bool]) -> bool:
        begun = time.monotonic()
        return step() and not stop.wait(REST_SHARE * (time.monotonic() - begun))

    def _before_ms(self, keep_raw_ms: int) -> int:
        """A rollout at work judges by windows from a day before it began: those stay until it has ended."""
        with self._store.read() as connection:
            begun_ms = connection.execute(
                select(func.min(rollouts.c.started_ms)).where(rollouts.c.phase.in_(WATCHED))
            ).scalar()
        before_ms = self._now_ms() - keep_raw_ms
        return before_ms if begun_ms is None else min(before_ms, begun_ms - LOOKBACK_MS)
