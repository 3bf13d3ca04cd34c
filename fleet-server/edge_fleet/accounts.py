"""Which accounts the broker must have now, from the database; and getting a change of them into effect."""

from __future__ import annotations

import logging
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from sqlalchemy import Connection, func, select

from edge_fleet.auth import Role
from edge_fleet.brokers.base import (
    Account,
    Broker,
    Door,
    device_account,
    is_device,
    server_account,
    subscriber_account,
)
from edge_fleet.keys import ServerKeys
from edge_fleet.schema import device_keys, devices, tokens
from edge_fleet.storage.bulk import rows_of
from edge_fleet.store import Store

log = logging.getLogger(__name__)

SERVER_SALT = "server"
IN_EFFECT_TIMEOUT_S = 5.0
# mosquitto reads all its accounts again at each change, 100,000 in 0.2 s, and serves nobody meanwhile: it
# gets as long to serve
REST_S_PER_ACCOUNT = 4e-6


@dataclass
class _Waiting:
    """What the broker has not been given yet.

    Args:
        whole: More than devices that came and went.
    """

    added: dict[str, Account] = field(default_factory=dict)
    removed: set[str] = field(default_factory=set)
    whole: bool = False


class Accounts:
    """Keeps a broker's accounts what the database says they should be."""

    def __init__(
        self,
        store: Store,
        keys: ServerKeys,
        fleet: str,
        broker: Broker,
        now_ms: Callable[[], int],
        prepare: Callable[[], None] = lambda: None,
        certificates: Callable[[Connection], Mapping[str, tuple[str, ...]]] = lambda connection: {},
    ) -> None:
        """Take the parts; `listed` is what to start the broker with.

        Args:
            prepare: What else the broker reads with its accounts; called before each change.
            certificates: Serials of those that count, by device and by token; see `certificates.counting`.
        """
        self._prepare, self._certificates, self._now_ms = prepare, certificates, now_ms
        self._subscribers: frozenset[str] = frozenset()  # that were listed last
        self._left = 0  # keys of devices that had been left then
        self._store, self._keys, self._fleet, self._broker = store, keys, fleet, broker
        self._lock, self._counting = threading.Lock(), threading.Lock()
        self._asked = self._applied = 0
        self._waiting = _Waiting()
        self._count, self._next_at = 0, 0.0  # accounts that it has; when it may get others, monotonic

    def server(self) -> Account:
        """The server's own account."""
        user = server_account(self._fleet, "").user
        return server_account(self._fleet, self._keys.password(user, SERVER_SALT))

    def device(self, device: str, credential: str, certificates: tuple[str, ...] = ()) -> Account:
        """A device's account."""
        made = device_account(self._fleet, device, self._keys.password(device, credential))
        return replace(made, certificates=certificates) if certificates else made

    def subscriber(self, token_id: str, certificates: tuple[str, ...] = ()) -> Account:
        """A subscriber's account; the token's id is its salt, since ids are never used again."""
        user = subscriber_account(self._fleet, token_id, "").user
        made = subscriber_account(self._fleet, token_id, self._keys.password(user, token_id))
        return replace(made, certificates=certificates)

    def listed(self) -> list[Account]:
        """Every account: the server's, of devices that are not revoked, of subscribers in their time."""
        with self._store.read() as connection:
            device_rows = connection.execute(
                select(devices.c.id, devices.c.credential)
                .where(devices.c.revoked_ms.is_(None))
                .order_by(devices.c.id)
            ).all()
            subscribers = self._in_time(connection)
            shown, self._left = self._certificates(connection), self._left_keys(connection)
        self._subscribers = frozenset(subscribers)
        self._count = len(device_rows)
        return [
            self.server(),
            *(self.device(row.id, row.credential, shown.get(row.id, ())) for row in device_rows),
            *(self.subscriber(token, shown.get(token, ())) for token in subscribers),
        ]

    @property
    def may_subscribe(self) -> bool:
        """Whether the broker may let in anybody besides devices and the server; never too late a yes."""
        return bool(self._subscribers) or not self._broker.managed

    def expire(self) -> None:
        """Take from the broker what has come to its end by itself; call it now and then.

        Accounts of subscribers whose time is over, certificates for keys that their devices have left.
        """
        with self._store.read() as connection:
            subscribers, left = frozenset(self._in_time(connection)), self._left_keys(connection)
        if not subscribers >= self._subscribers or left != self._left:
            self.apply()

    def _left_keys(self, connection: Connection) -> int:
        """How many keys their devices have left, ever."""
        gone = device_keys.c.below_seq.is_not(None)
        return connection.execute(select(func.count()).select_from(device_keys).where(gone)).scalar_one()

    def _in_time(self, connection: Connection) -> list[str]:
        query = select(tokens.c.id).where(
            tokens.c.role == Role.SUBSCRIBER,
            tokens.c.revoked_ms.is_(None),
            tokens.c.expires_ms.is_(None) | (tokens.c.expires_ms > self._now_ms()),
        )
        return list(connection.execute(query.order_by(tokens.c.id)).scalars())

    def apply(self, wanted: Account | None = None, gone: str = "") -> bool:
        """Give the broker the accounts as they are now.

        Those who come together are given together, and a broker that takes long to read its accounts gets
        time to serve in between. A device that came or went is a change of that one; whatever else makes the
        whole list anew.

        Args:
            wanted: The one that came: wait until the broker lets it in.
            gone: The device that was put out.

        Returns:
            False when it did not in time (a broker that is down reads them when it starts).
        """
        with self._counting:
            self._asked += 1
            mine = self._asked
            if wanted is not None and is_device(wanted):
                self._waiting.added[wanted.user] = wanted
            elif gone:
                self._waiting.removed.add(gone)
            else:
                self._waiting.whole = True
        with self._lock:  # an older list must not overwrite a newer one
            if self._applied < mine:  # else one who came later has taken our change along
                time.sleep(max(0.0, self._next_at - time.monotonic()))
                self._give()
        if wanted is None or not self._broker.keeps_accounts:
            return True
        trial = self._broker.trial(wanted)
        deadline = time.monotonic() + IN_EFFECT_TIMEOUT_S
        while time.monotonic() < deadline:
            if lets_in(*trial):
                return True
            time.sleep(0.02)
        log.warning("account not in effect yet", extra={"user": wanted.user})
        return False

    def _give(self) -> None:
        """Hand over what waits."""
        with self._counting:
            asked, waiting = self._asked, self._waiting
            self._waiting = _Waiting()
        try:
            self._prepare()
            if waiting.whole or not self._broker.change(self._enrolled(waiting.added), waiting.removed):
                self._broker.update(self.listed())
        except BaseException:  # whatever stopped it; raised again
            with self._counting:
                self._waiting.whole = True  # nobody knows how far it came
            raise
        self._count += len(waiting.added)
        self._applied, self._next_at = asked, time.monotonic() + self._count * REST_S_PER_ACCOUNT

    def _enrolled(self, added: Mapping[str, Account]) -> list[Account]:
        """Those that were not put out since they came."""
        names = [(name,) for name in added]
        with self._store.read() as connection:
            rows = rows_of(connection, devices, ("id",), names, ("id", "revoked_ms"))
        return [added[row[0]] for row in rows if row[1] is None]


def lets_in(door: Door, account: Account, timeout_s: float = 2.0) -> bool:
    """Whether a broker accepts a CONNECT with this account, by asking it."""
    try:
        with socket.create_connection((door.address.reachable_host, door.address.port), timeout_s) as plain:
            stream = door.tls.wrap_socket(plain, server_hostname=door.address.host) if door.tls else plain
            with stream:
                stream.sendall(connect_packet(account))
                answer = stream.recv(4)
                stream.sendall(b"\xe0\x00")  # DISCONNECT
                return answer == b"\x20\x02\x00\x00"  # CONNACK, accepted
    except OSError:
        return False


def connect_packet(account: Account) -> bytes:
    """MQTT 3.1.1 section 3.1: CONNECT with a clean session, user name and password."""
    fields: Sequence[str] = (f"probe-{time.monotonic_ns():x}", account.user, account.password)
    payload = b"".join(struct.pack(">H", len(f.encode())) + f.encode() for f in fields)
    body = b"\x00\x04MQTT\x04\xc2\x00\x05" + payload
    length, encoded = len(body), bytearray()
    while True:
        length, digit = divmod(length, 128)
        encoded.append(digit | (0x80 if length else 0))
        if not length:
            return bytes([0x10, *encoded]) + body
