"""Ingest: takes what the broker delivers, verifies it, stores it, and then acknowledges it.

The network thread only puts messages into the inbox. One thread works: batch, verify, one transaction,
commit, acknowledgements. An acknowledgement that is lost costs a duplicate, never a record.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from sqlalchemy.exc import DataError, OperationalError, SQLAlchemyError

from edge_contracts.envelope import seal
from edge_contracts.errors import one_line
from edge_contracts.keys import PrivateKey, PublicKey
from edge_contracts.messages import Ack
from edge_contracts.topics import Channel, topic
from edge_fleet.access.device_keys import former_of
from edge_fleet.access.directors import Directors
from edge_fleet.events import EventBus
from edge_fleet.inbox import Inbox
from edge_fleet.intake import Outcome, store_batch
from edge_fleet.refusals import Refusals
from edge_fleet.schema import devices
from edge_fleet.services import Dispatch
from edge_fleet.storage.bulk import rows_of
from edge_fleet.store import Store
from edge_fleet.verification import (
    Arrival,
    KnownDevice,
    Refused,
    Verified,
    address_of,
    verify_all,
    verify_former,
)

log = logging.getLogger(__name__)

T = TypeVar("T")

BATCH = 1024  # under load; one commit, which waits for the disk, for all of them
# An agent has at most 100 envelopes on their way, of about 10 kB
PER_DEVICE_BYTES, IN_ALL_BYTES = 8 << 20, 128 << 20
IDLE_S = 0.5
_KNOWN = ("id", "public_key", "revoked_ms", "key_since_ms")
RETRY_S = 1.0
DRAIN_S = 8.0  # at the end; supervisors wait 30 s and longer before they kill
GRACE_S = 6.0  # for the batch that it is in the middle of


@dataclass
class Counters:
    """What happened since the start."""

    received: int = 0
    envelopes: int = 0
    records: int = 0
    acknowledged: int = 0
    failed_batches: int = 0


class Ingest:
    """The path of a message from the broker to the database and back."""

    def __init__(
        self,
        store: Store,
        bus: EventBus,
        dispatch: Dispatch,
        directors: Directors,
        fleet: str,
        publish: Callable[[str, bytes], bool],
        now_ms: Callable[[], int],
    ) -> None:
        """Take the parts; `start` runs the thread."""
        self._store, self._bus, self._dispatch = store, bus, dispatch
        self._directors, self._fleet, self._publish, self._now_ms = directors, fleet, publish, now_ms
        self._inbox: Inbox[Arrival] = Inbox(PER_DEVICE_BYTES, IN_ALL_BYTES)
        self.refusals = Refusals()
        self.counters = Counters()
        self.failing = ""  # why nothing can be stored at the moment
        self._stopping = threading.Event()
        self._at_work_bytes = 0  # of the batch that is being stored
        self._deadline = float("inf")  # monotonic, of `stop`
        self._thread = threading.Thread(target=self._work, name="ingest", daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def stop(self, within_s: float = DRAIN_S) -> None:
        """Store and acknowledge what waits, then end.

        Args:
            within_s: What is not stored by then stays unacknowledged: its device sends it again.
        """
        self._deadline = time.monotonic() + within_s
        self._inbox.close()
        self._stopping.set()
        self._thread.join(within_s + GRACE_S)
        if self._inbox.count:
            log.warning("messages left to their devices", extra={"messages": self._inbox.count})

    @property
    def works(self) -> bool:
        """Whether its thread lives."""
        return self._thread.is_alive()

    @property
    def waiting(self) -> int:
        """Messages that arrived and are not worked on yet."""
        return self._inbox.count

    @property
    def waiting_bytes(self) -> int:
        """Bytes of messages that arrived and are not acknowledged yet: what other work gives way to."""
        return self._inbox.size_bytes + self._at_work_bytes

    def received(self, messages: Sequence[tuple[str, bytes]]) -> None:
        """Take messages in, topic and payload of each; called in the network thread."""
        self.counters.received += len(messages)
        now_ms = self._now_ms()
        arrivals = [Arrival(on, address_of(on, self._fleet), payload, now_ms) for on, payload in messages]
        for one in self._inbox.offer_all(
            (one.address.device if one.address else "", one, len(one.payload)) for one in arrivals
        ):
            self.refusals.count("overloaded", "", f"a message on {one.topic!r:.200}", now_ms)

    def process(self, arrivals: Sequence[Arrival]) -> None:
        """Verify, store and acknowledge a batch; an error of the database leaves it unacknowledged."""
        self._store_and_answer(self._verified(arrivals))

    def _verified(self, arrivals: Sequence[Arrival]) -> list[Verified]:
        known = self._devices({m.address.device for m in arrivals if m.address})
        results = list(zip(arrivals, verify_all(arrivals, known), strict=True))
        results = self._by_former_keys(results, known)
        self._refuse(
            replace(one, topic=arrival.topic, raw=arrival.payload)
            for arrival, one in results
            if isinstance(one, Refused)
        )
        return [one for _, one in results if isinstance(one, Verified)]

    def _by_former_keys(
        self, results: list[tuple[Arrival, Verified | Refused]], known: Mapping[str, KnownDevice]
    ) -> list[tuple[Arrival, Verified | Refused]]:
        """Judge again what was signed by another key than the device's, of devices that had others."""
        asked = {
            one.device
            for _, one in results
            if isinstance(one, Refused) and one.reason == "key-unknown" and known[one.device].rekeyed
        }
        if not asked:
            return results
        with self._store.read() as connection:
            former = former_of(connection, asked)
        return [
            (arrival, verify_former(arrival, known[one.device], former.get(one.device, {})) or one)
            if isinstance(one, Refused) and one.device in asked and one.reason == "key-unknown"
            else (arrival, one)
            for arrival, one in results
        ]

    def _store_and_answer(self, verified: Sequence[Verified]) -> None:
        try:
            self._finish(self._store_all(verified))
        except (DataError, OverflowError):
            for one in verified:  # one message holds what the database cannot; find it
                self._store_alone(one)

    def _store_all(self, verified: Sequence[Verified]) -> Outcome:
        with self._store.write() as connection:
            outcome = store_batch(connection, verified)
            self.refusals.write(connection)
        return outcome

    def _store_alone(self, verified: Verified) -> None:
        try:
            self._finish(self._store_all([verified]))
        except (DataError, OverflowError) as error:
            detail = f"a {verified.channel} message: {' '.join(str(error).split())[:200]}"
            self._refuse([Refused("not-storable", verified.device, detail)])

    def _finish(self, outcome: Outcome) -> None:
        """What follows the commit."""
        self._refuse(outcome.refused)
        self.counters.envelopes += outcome.envelopes
        self.counters.records += outcome.records
        signers = self._signers({device for device, _ in outcome.acks})
        for (device, epoch), position in outcome.acks.items():
            ack = Ack(device=device, epoch=epoch, high=position.high, chain=position.chain)
            where = topic(self._fleet, device, Channel.ACK)
            sent = [self._publish(where, seal(ack, where, key)) for key in signers[device]]
            self.counters.acknowledged += all(sent)
        self._dispatch.soon(outcome.greeted)
        for device in dict.fromkeys(outcome.changed):
            self._bus.publish("device", device=device)
        if outcome.envelopes:
            self._bus.publish("telemetry", envelopes=outcome.envelopes, records=outcome.records)

    def _signers(self, names: set[str]) -> Mapping[str, tuple[PrivateKey, ...]]:
        with self._store.read() as connection:
            return self._directors.signers(connection, sorted(names))

    def _refuse(self, refused: Iterable[Refused]) -> None:
        for one in refused:
            self.refusals.count(one.reason, one.device, one.detail, self._now_ms(), one.topic, one.raw)
            self._bus.publish("refusal", reason=one.reason, device=one.device)

    def _devices(self, names: set[str]) -> dict[str, KnownDevice]:
        with self._store.read() as connection:
            rows = rows_of(connection, devices, ("id",), [(name,) for name in names], _KNOWN)
            return {
                row[0]: KnownDevice(row[0], PublicKey(row[1]), row[2] is not None, row[3] is not None)
                for row in rows
            }

    def _work(self) -> None:
        while not (self._inbox.closed and (not self._inbox.count or time.monotonic() > self._deadline)):
            arrivals = self._inbox.take(BATCH, IDLE_S)
            if arrivals:
                self._at_work_bytes = sum(len(arrival.payload) for arrival in arrivals)
                verified = self._insist(partial(self._verified, arrivals))
                if verified:
                    self._insist(partial(self._store_and_answer, verified))
                self._at_work_bytes = 0
            elif self.refusals.pending:
                self._insist(partial(self._store_all, []))
        if self.refusals.pending:
            self._insist(partial(self._store_all, []))

    def _insist(self, step: Callable[[], T]) -> T | None:
        """Do a step again and again while the database is away; None when it cannot be done.

        What arrives meanwhile waits in the inbox, and beyond its bounds in the devices: nothing of it was
        acknowledged.
        """
        while True:
            try:
                done = step()
            except OperationalError as error:  # locked, full disk, server away
                self.counters.failed_batches += 1
                self.failing = one_line(error)
                log.error("batch not stored", extra={"reason": self.failing})
                if self._stopping.wait(RETRY_S):
                    return None  # nothing of it was acknowledged
            except SQLAlchemyError:
                # the outermost loop: nothing was acknowledged, and the next batch may do better
                self.counters.failed_batches += 1
                log.exception("batch not stored")
                return None
            else:
                self.failing = ""
                return done
