"""What the outbox's tests put into it, read out of it, and acknowledge."""

from __future__ import annotations

import hashlib
import sqlite3

from edge_agent.telemetry.identity import Identity
from edge_agent.telemetry.outbox import Outbox
from edge_contracts import topics
from edge_contracts.envelope import seal, unseal
from edge_contracts.keys import PrivateKey
from edge_contracts.messages import Ack, Event, Record, Telemetry, Window

DEVICE_KEY = PrivateKey.generate()
DIRECTOR = PrivateKey.generate()
ME = Identity("plant", "cam-1", DEVICE_KEY, DIRECTOR.public)
TELEMETRY = topics.topic("plant", "cam-1", topics.Channel.TELEMETRY)
ACK = topics.topic("plant", "cam-1", topics.Channel.ACK)
ZEROS = bytes(16)


def window(n: int = 0) -> Window:
    return Window(
        bundle="sha256:" + "0" * 64,
        artifact="int8",
        runtime="litert 2",
        start_ms=n,
        end_ms=n + 1,
        duration_ms=1,
        inferences=n,
    )


def lonely(n: int) -> Window:
    """A window that cannot be added to another: it is a day long already."""
    return window(n).model_copy(update={"duration_ms": 24 * 3600 * 1000})


def event(name: str = "started") -> Event:
    return Event(name=name, time_ms=1)


def alarm(name: str) -> Event:
    return Event(name=name, time_ms=2, code="crash")


def opened(envelopes: list[tuple[int, bytes]]) -> list[Telemetry]:
    return [unseal(Telemetry, envelope, TELEMETRY, DEVICE_KEY.public) for _, envelope in envelopes]


def ack(outbox: Outbox, high: int, envelope: bytes | None, **changes: object) -> bytes:
    chain = hashlib.sha256(envelope).digest()[:16] if envelope is not None else ZEROS
    fields = {"device": "cam-1", "epoch": outbox.epoch, "high": high, "chain": chain, **changes}
    return seal(Ack.model_validate(fields), ACK, DIRECTOR)


def everything(outbox: Outbox) -> list[tuple[int, bytes]]:
    return outbox.waiting(10_000, ())


def put_apart(outbox: Outbox, *records: Record) -> None:
    """Each record in an envelope of its own, as when there is always room on the way."""
    for record in records:
        outbox.put([record])
        everything(outbox)


def filled(outbox: Outbox, count: int) -> None:
    put_apart(outbox, *(window(n) for n in range(count)))


def boundary(outbox: Outbox) -> sqlite3.Connection:
    """The outbox's own connection: SQLite's limit of pages is the same error as a full disk."""
    return outbox._file.db
