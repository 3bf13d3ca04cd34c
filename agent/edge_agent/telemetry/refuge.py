"""The outbox on the disk, and one in memory beside it for as long as the disk takes nothing.

What cannot be stored is kept in memory. When that has lasted for a while that outbox speaks for the device:
its envelopes have an epoch of their own, so that no number of the stored outbox is given out that a power
cut could take back (docs/decisions/0123). When the disk takes something again, what the server has not
acknowledged goes into the stored outbox, which speaks again where it had stopped. A process that ends before
that takes along what nobody has heard.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from time import time

from edge_agent.errors import OutboxUnwritable
from edge_agent.telemetry.identity import Identity
from edge_agent.telemetry.outbox import Limits, Outbox
from edge_contracts.messages import Event, Record

log = logging.getLogger(__name__)

PATIENCE_S = 10.0  # a disk that was full for a moment changes no epoch
RETRY_S = 10.0  # each attempt writes to a disk that may be flash
IN_MEMORY = Limits(records=2_000, size_bytes=2 << 20)  # of a daemon of sixty megabytes
WAITS = 30  # seconds that go by at most while something is on its way: it would arrive twice


class Outboxes:
    """What a device has to say, wherever it can be kept. Used from one thread.

    Args:
        stored: The outbox on the disk.
    """

    def __init__(self, stored: Outbox) -> None:
        """Begin with the stored one alone."""
        self._stored = stored
        self._refuge: Outbox | None = None
        self._why, self._speaks, self._waits = "", False, 0
        self._since_s: float | None = None
        self._again_s = 0.0

    @property
    def speaking(self) -> Outbox:
        """The outbox whose envelopes go out."""
        return self._refuge if self._refuge is not None and self._speaks else self._stored

    @property
    def identity(self) -> Identity:
        """Who signs, and whose acks count."""
        return self._stored.identity

    def identify(self, identity: Identity) -> None:
        """Sign, and be acknowledged, as this one from now on."""
        self._stored.identity = identity
        if self._refuge is not None:
            self._refuge.identity = identity

    def keep(self, records: Sequence[Record]) -> None:
        """Keep records: on the disk, or in memory where it takes none."""
        if self._refuge is None:
            try:
                self._stored.store(records)
                return
            except OutboxUnwritable as error:
                self._why = str(error)
                log.error("telemetry in memory", extra={"records": len(records), "reason": self._why})
                self._refuge = Outbox(Path(":memory:"), self.identity, IN_MEMORY)
        self._refuge.put(records)

    def tick(self, now_s: float, link_up: bool) -> bool:
        """Do what is due; whether another outbox speaks from now on: the server must hear of its epoch."""
        if self._refuge is None:
            return False
        if self._since_s is None:
            self._since_s, self._again_s = now_s, now_s + RETRY_S
        spoke = self._speaks
        if now_s >= self._again_s:
            if (
                spoke
                and link_up
                and self._refuge.sealed
                and self._waits < WAITS
                and self._stored.is_writable()
            ):
                self._waits += 1
                self._again_s = now_s + 1.0
            elif self._come_back(f"it took nothing for {now_s - self._since_s:.0f} s"):
                return spoke
            else:
                self._again_s, self._waits = now_s + RETRY_S, 0
        if not spoke and now_s >= self._since_s + PATIENCE_S:
            self._speaks = True
            code = "no-space" if "full" in self._why else OutboxUnwritable.code
            self._refuge.put([_event("disk-failed", f"telemetry goes on from memory: {self._why}", code)])
            log.error("telemetry goes out from memory", extra={"epoch": self._refuge.epoch})
        return self._speaks != spoke

    def close(self) -> None:
        """Store what can be, and close."""
        if self._refuge is not None and not self._come_back("until the end of the agent"):
            log.error("telemetry lost", extra={"records": len(self._refuge), "reason": self._why})
        self._stored.close()

    def _come_back(self, detail: str) -> bool:
        """Move everything to the disk, if it takes it."""
        if self._refuge is None or not self._stored.is_writable():
            return False
        rows, losses = self._refuge.unacknowledged()
        try:
            self._stored.absorb(rows, losses)
        except OutboxUnwritable as error:  # it takes a little, and not all that there is
            self._why = str(error)
            return False
        if self._speaks:
            self._stored.put([_event("disk-mended", f"telemetry is stored again; {detail}")])
        log.warning("telemetry stored again", extra={"records": len(rows)})
        self._refuge.close()
        self._refuge, self._since_s = None, None
        self._why, self._speaks, self._waits = "", False, 0
        return True


def _event(name: str, detail: str, code: str = "") -> Event:
    return Event(name=name, time_ms=int(time() * 1000), code=code, detail=detail[:500])
