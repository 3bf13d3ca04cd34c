"""That a stream ends when the rights of who opened it do.

A request is checked once, when it comes; a stream goes on for hours. Whoever writes one asks `holds` as it
goes, and ends it when the answer is no: the session was ended or not used for long, the token was revoked
or has expired, the user was disabled, or has another role. A client that may still read opens it again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace

from fastapi.concurrency import run_in_threadpool
from sqlalchemy.exc import OperationalError

from edge_fleet.auth import Principal, standing
from edge_fleet.errors import Unauthorized
from edge_fleet.services import Services

log = logging.getLogger(__name__)

CHECK_S = 2.0


class Standing:
    """What somebody was when they opened a stream, and whether they still are."""

    def __init__(
        self, services: Services, who: Principal, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Take who was let in."""
        self._services, self._who, self._clock = services, who, clock
        self._next_s = clock() + CHECK_S

    async def holds(self) -> bool:
        """Whether the stream may go on; asks the database once in CHECK_S."""
        if self._clock() < self._next_s:
            return True
        self._next_s = self._clock() + CHECK_S
        return await run_in_threadpool(self._asked)

    def _asked(self) -> bool:
        try:
            with self._services.store.read() as connection:
                now = standing(connection, self._who, self._services.now_ms())
        except Unauthorized:
            return False
        except OperationalError:  # not known: the client asks again, and is told
            log.warning("a stream ends: the database does not answer", extra={"user": self._who.name})
            return False
        return _rights(now) == _rights(self._who)


def _rights(who: Principal) -> Principal:
    """A principal without what changes in every session: its secret, and when it was last used."""
    return replace(who, token="", origin="", last_used_ms=None)
