"""Getting assignments to devices: the newest of each, signed, at a bounded pace.

A message may be lost on its way; so it is sent at every hello, at every change, after every reconnect of
the server, and again after a while without an answer (`resending.py`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, Row, bindparam, case, func, or_, select, update
from sqlalchemy.exc import SQLAlchemyError

from edge_contracts.envelope import seal
from edge_contracts.errors import one_line
from edge_contracts.keys import PublicKey
from edge_contracts.messages import Assignment, Knows
from edge_contracts.topics import Channel, topic
from edge_fleet.access.directors import Directors
from edge_fleet.access.key_statements import for_devices
from edge_fleet.assignment import OPEN, Event, State, step
from edge_fleet.events import EventBus
from edge_fleet.lineage.withdrawn import words
from edge_fleet.orders import NEXT_CHANGE
from edge_fleet.resending import Resending
from edge_fleet.schema import assignments, bundles, devices, releases
from edge_fleet.storage.bulk import rows_of
from edge_fleet.store import Store

log = logging.getLogger(__name__)

PER_SECOND = 500  # 100,000 devices in 200 s; downloads, not this, are what must be spread
BATCH = 200  # less than half a second at that pace, and one commit
RETRY_S = 1.0  # when the database is away
ARCHIVE_PATH = "/api/v1/archives/"


class Dispatcher:
    """A thread that sends assignments."""

    def __init__(
        self,
        store: Store,
        bus: EventBus,
        directors: Directors,
        fleet: str,
        publish: Callable[[str, bytes], bool],
        now_ms: Callable[[], int],
        resending: Resending | None = None,
    ) -> None:
        """Take the parts; `start` runs the thread."""
        self._store, self._bus, self._directors, self._fleet = store, bus, directors, fleet
        self._publish, self._now_ms = publish, now_ms
        self._again = resending or Resending()  # used by the thread alone
        self._changed = threading.Condition()
        self._waiting: OrderedDict[str, None] = OrderedDict()
        self._reconnected = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="dispatch", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def stop(self) -> None:
        """End; what waits is sent again at the next start."""
        self._stopping.set()
        with self._changed:
            self._changed.notify()
        self._thread.join()

    def soon(self, devices: Iterable[str]) -> None:
        """Send the newest assignment of these devices, in order and paced; never waits."""
        with self._changed:
            self._waiting.update(dict.fromkeys(devices))
            self._changed.notify()

    def unanswered(self) -> None:
        """Send again what no device has answered: after a reconnect; never waits.

        The link's network thread calls this: it must not meet a database that is away.
        """
        with self._changed:
            self._reconnected = True
            self._changed.notify()

    def send(self, devices: Sequence[str]) -> None:
        """Send each device its newest assignment now, or word that it has none.

        What was sent is noted in one transaction for all: a disk takes a hundred of them a second, not more.
        """
        if not devices:
            return
        with self._store.read() as connection:
            statements = for_devices(connection, devices)
            found = [(d, newest(connection, d), statements[d]) for d in devices]
            withdrawn = words(connection, devices)
            signers = self._directors.signers(connection, devices)
        sent = []
        for device, row, keys in found:
            if row is None or (row.terms and not row.terms.keys() <= set((row.state or {}).get("knows", ()))):
                continue  # an agent of before would refuse the whole message: it counts as silent
            said = {"keys": keys, "withdrawn": withdrawn.get(device), **_of_its_key(row)}
            message = as_message(device, row).model_copy(update=said)
            where = topic(self._fleet, device, Channel.ASSIGNMENT)
            if not all(self._publish(where, seal(message, where, key)) for key in signers[device]):
                break  # no connection: the reconnect sends again
            if row.phase in _UNANSWERED:
                self._again.sent(device, row.number, time.monotonic())
            else:
                self._again.forget(device)
            if row.phase == State.PENDING:
                sent.append({"device_": device, "number_": row.number})
        if not sent:
            return
        with self._store.write() as connection:
            # of one that has answered since, the answer stands
            connection.execute(_SENT, [{**one, "changed_ms": self._now_ms()} for one in sent])
        for one in sent:
            self._bus.publish("device", device=one["device_"])

    def _work(self) -> None:
        while not self._stopping.is_set():
            with self._changed:
                self._changed.wait_for(
                    lambda: self._waiting or self._reconnected or self._stopping.is_set(),
                    self._again.wait_s(time.monotonic()),
                )
                if self._stopping.is_set():
                    return
                count = min(BATCH, len(self._waiting))
                devices = [self._waiting.popitem(last=False)[0] for _ in range(count)]
                reconnected, self._reconnected = self._reconnected, False
            due = self._again.due(time.monotonic())
            try:
                if reconnected:
                    self._queue_open()
                self._send_again(due)
                self.send(devices)
            except SQLAlchemyError as error:
                reason = one_line(error)
                log.error("assignments not sent", extra={"devices": devices, "reason": reason})
                if reconnected:
                    self.unanswered()
                self.soon([*devices, *(device for device, _ in due)])
                self._stopping.wait(RETRY_S)
            self._stopping.wait(count / PER_SECOND)

    def _queue_open(self) -> None:
        """Queue every device whose assignment is open."""
        with self._store.read() as connection:
            rows = connection.execute(
                select(assignments.c.device).where(assignments.c.phase.in_(OPEN)).distinct()
            ).scalars()
            self.soon(list(rows))

    def _send_again(self, sent: Sequence[tuple[str, int]]) -> None:
        """Of what should have been answered by now, send again what was not."""
        if not sent:
            return
        columns = ("device", "number", "phase")
        with self._store.read() as connection:
            rows = rows_of(connection, assignments, columns[:2], sent, columns)
        for device, _, phase in rows:
            if phase in _UNANSWERED:
                self.soon([device])
            else:
                self._again.forget(device)


_UNANSWERED = (State.PENDING, State.OFFERED)

# as `assignment.step` has it; for many at once, in one statement
_SENT = (
    update(assignments)
    .where(
        assignments.c.device == bindparam("device_"),
        assignments.c.number == bindparam("number_"),
        assignments.c.phase == State.PENDING,
    )
    .values(phase=step(State.PENDING, Event.SENT), changed_ms=bindparam("changed_ms"), change=NEXT_CHANGE)
)

_SAYS_MORE = or_(
    assignments.c.terms.is_not(None), devices.c.key_since_ms.is_not(None), devices.c.rotate_key.is_not(None)
)
# built once: it is asked for every message, and building costs as much as asking
_LAST = (
    select(func.max(assignments.c.number))
    .where(assignments.c.device == bindparam("device_"))
    .scalar_subquery()
)
_NEWEST = (
    select(
        devices.c.id,
        assignments.c.number,
        assignments.c.bundle,
        assignments.c.phase,
        assignments.c.permit_downgrade,
        assignments.c.expires_ms,
        assignments.c.terms,
        # parsed for every message otherwise, and asked for where more is said than any agent knows
        case((_SAYS_MORE, devices.c.state)).label("state"),
        devices.c.public_key,
        devices.c.key_since_ms,
        devices.c.rotate_key,
        bundles.c.archive,
        bundles.c.archive_bytes,
        releases.c.name,
        releases.c.version,
        releases.c.counter,
    )
    .select_from(devices)
    .outerjoin(assignments, (assignments.c.device == devices.c.id) & (assignments.c.number == _LAST))
    .outerjoin(bundles, bundles.c.digest == assignments.c.bundle)
    .outerjoin(releases, releases.c.counter == bundles.c.counter)
    .where(devices.c.id == bindparam("device_"), devices.c.revoked_ms.is_(None))
)


def newest(connection: Connection, device: str) -> Row[*tuple[Any, ...]] | None:
    """The newest assignment of a device that is not revoked, with its bundle and release."""
    return connection.execute(_NEWEST, {"device_": device}).one_or_none()


def _of_its_key(row: Row[*tuple[Any, ...]]) -> dict[str, str]:
    """What a device is told of its own key, where it knows what that means."""
    if Knows.KEYS not in ((row.state or {}).get("knows") or ()):
        return {}
    known = PublicKey(row.public_key).key_id if row.key_since_ms is not None else ""
    return {"known_key": known, "change_key": row.rotate_key or ""}


def as_message(device: str, row: Row[*tuple[Any, ...]]) -> Assignment:
    """A row of `newest` in the words of the contract; one without a bundle says: keep what you have."""
    if row.bundle is None:
        return Assignment(device=device, number=row.number or 0)
    return Assignment(
        device=device,
        number=row.number,
        bundle=row.bundle,
        name=row.name,
        version=row.version,
        archive=row.archive,
        archive_bytes=row.archive_bytes,
        url_path=ARCHIVE_PATH + row.archive,
        counter=row.counter,
        permit_downgrade=row.permit_downgrade,
        expires_ms=row.expires_ms,
        **(row.terms or {}),
    )
