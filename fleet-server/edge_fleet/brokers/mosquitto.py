"""An installed mosquitto 2 as a managed child: the lighter broker where a package manager has it.

Traps that shape the configuration, all measured: rights by user are looked up one by one, so 20,000
devices with lines of their own stop it for seconds at every change, and theirs are patterns; a pattern
holds for every account, so those that are no devices are denied what it would give them; a SUBSCRIBE is
always granted and filtered at delivery; run as root it changes to a user that cannot read our folder; a
silent socket stays open, so the server has a door of its own.
"""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

from edge_fleet.brokers.base import MAX_PACKET_BYTES, Account, DeviceTls, Door, is_device
from edge_fleet.brokers.child import Child, ManagedBroker, free_loopback_port, most_connections
from edge_fleet.config import Address
from edge_fleet.errors import BrokerFailed
from edge_fleet.keys import write_secret

_CONFIG = """\
per_listener_settings false
allow_anonymous false
password_file {folder}/passwords
acl_file {folder}/acl
persistence false
max_queued_messages 100000
max_queued_bytes 67108864
max_inflight_messages 100
max_packet_size {max_packet}
max_keepalive 300
allow_zero_length_clientid false
set_tcp_nodelay true
sys_interval 0
connection_messages false
log_dest stderr
log_type error
log_type warning
log_timestamp_format %Y-%m-%dT%H:%M:%S
{user}
# the server's own door: strangers who hold every device connection cannot close it
listener {own_port} 127.0.0.1
max_connections 32
listener {port} {host}
max_connections {max_connections}
{tls}
"""
# the passwords are 256 random bits, which no number of rounds could improve; and at every change of
# accounts mosquitto, in its only thread, computes the hash of every client that is connected again
_ROUNDS = 1


class MosquittoBroker(ManagedBroker):
    """One mosquitto."""

    name = "mosquitto"

    def __init__(
        self, folder: Path, listen: Address, tls: DeviceTls | None, exited: Callable[[], None]
    ) -> None:
        """Describe a broker.

        Args:
            folder: Gets its configuration and log.
            listen: The device port.
            exited: Called when it ended without being asked to.
        """
        self._folder, self._listen, self._tls = folder, listen, tls
        self._own = Address("127.0.0.1", free_loopback_port())
        self._lines: dict[Account, str] = {}
        super().__init__(Child("mosquitto", self._prepare, (listen, self._own), folder / "log", exited))

    @property
    def door(self) -> Door:
        """A listener for the server alone."""
        return Door(self._own)

    def start(self, accounts: Sequence[Account]) -> None:
        """Write the files and run it."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _executable()
        self._write_accounts(accounts)
        self._child.start()

    def update(self, accounts: Sequence[Account]) -> None:
        """Replace the accounts: SIGHUP reads them again."""
        self._write_accounts(accounts)
        self._child.signal(signal.SIGHUP)

    def _prepare(self) -> list[str]:
        config = _CONFIG.format(
            folder=self._folder,
            max_packet=MAX_PACKET_BYTES,
            user="user root" if os.getuid() == 0 else "",
            own_port=self._own.port,
            port=self._listen.port,
            host=self._listen.host,
            max_connections=most_connections(),
            tls=_tls_lines(self._tls),
        )
        write_secret(self._folder / "mosquitto.conf", config.encode())
        return [_executable(), "-c", str(self._folder / "mosquitto.conf")]

    def _write_accounts(self, accounts: Sequence[Account]) -> None:
        # a changed hash disconnects its user on reload, so an account keeps the line it had
        self._lines = {a: self._lines.get(a) or password_line(a.user, a.password) for a in accounts}
        by_pattern = not (self._tls and self._tls.client_ca)
        write_secret(self._folder / "acl", rights(accounts, by_pattern).encode())
        write_secret(self._folder / "passwords", "".join(self._lines.values()).encode())


def password_line(user: str, password: str) -> str:
    """A line as mosquitto_passwd writes it: PBKDF2-HMAC-SHA512, `$7$rounds$salt$hash`."""
    salt = os.urandom(12)
    hashed = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, _ROUNDS)
    return f"{user}:$7${_ROUNDS}${base64.b64encode(salt).decode()}${base64.b64encode(hashed).decode()}\n"


def rights(accounts: Sequence[Account], by_pattern: bool) -> str:
    """The file of who may read and write what.

    Args:
        by_pattern: Whether devices may share theirs. Not where certificates let a client in: one that was
            revoked must have no rights left, and the list of passwords does not keep it out.
    """
    shared = {_pattern(account) for account in accounts if is_device(account)} if by_pattern else set()
    if len(shared) != 1:
        return "\n".join(_lines(account, ()) for account in accounts)
    ((publish, subscribe),) = shared
    others = (_lines(a, (*publish, *subscribe)) for a in accounts if not is_device(a))
    patterns = [f"pattern write {one}" for one in publish] + [f"pattern read {one}" for one in subscribe]
    return "\n".join([*others, *patterns, ""])


def _pattern(account: Account) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """A device's rights with its name left open: mosquitto puts the user's in."""
    name = f"/{account.user}/"
    publish, subscribe = (
        tuple(one.replace(name, "/%u/") for one in filters)
        for filters in (account.publish, account.subscribe)
    )
    return publish, subscribe


def _lines(account: Account, denied: Sequence[str]) -> str:
    """What one account may; `denied` are patterns that are not for it."""
    lines = [f"user {account.user}"]
    lines += [f"topic deny {one.replace('%u', account.user)}" for one in denied]
    lines += [f"topic write {mqtt_filter}" for mqtt_filter in account.publish]
    lines += [f"topic read {mqtt_filter}" for mqtt_filter in account.subscribe]
    return "\n".join([*lines, ""])


def _tls_lines(tls: DeviceTls | None) -> str:
    if tls is None:
        return ""
    lines = [f"certfile {tls.cert}", f"keyfile {tls.key}", "tls_version tlsv1.2"]
    if tls.client_ca:
        # who connects is who the certificate says, whatever name and password the client states
        lines += [f"cafile {tls.client_ca}", f"crlfile {tls.crl}"]
        lines += ["require_certificate true", "use_identity_as_username true"]
    return "\n".join(lines)


def _executable() -> str:
    found = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
    if found is None:
        raise BrokerFailed(
            "mosquitto is not installed; install it (apt-get install mosquitto), or leave --broker nats"
        )
    return found
