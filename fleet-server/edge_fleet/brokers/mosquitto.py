"""An installed mosquitto 2 as a managed child: the lighter broker where a package manager has it.

Traps that shape the configuration, all measured: rights by user are looked up one by one, so 20,000
devices with lines of their own stop it for seconds at every change, and theirs are patterns; a pattern
holds for every account, so those that are no devices are denied what it would give them; a SUBSCRIBE is
always granted and filtered at delivery; run as root it changes to a user that cannot read our folder; a
silent socket stays open, so the server has a door of its own.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from edge_fleet.brokers.account_files import AccountFiles
from edge_fleet.brokers.base import MAX_PACKET_BYTES, Account, DeviceTls, Door
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
allow_zero_length_clientid true
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
        self._accounts = AccountFiles(folder, by_pattern=not (tls and tls.client_ca))
        super().__init__(Child("mosquitto", self._prepare, (listen, self._own), folder / "log", exited))

    @property
    def door(self) -> Door:
        """A listener for the server alone."""
        return Door(self._own)

    def trial(self, account: Account) -> tuple[Door, Account]:
        """At the server's own door: there a name and a password decide."""
        return self.door, account

    def start(self, accounts: Sequence[Account]) -> None:
        """Write the files and run it."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _executable()
        self._accounts.write(accounts)
        self._child.start()

    def update(self, accounts: Sequence[Account]) -> None:
        """Replace the accounts: SIGHUP reads them again."""
        self._accounts.write(accounts)
        self._child.signal(signal.SIGHUP)

    def change(self, added: Sequence[Account], removed: Collection[str]) -> bool:
        """Write the lines that change; SIGHUP reads all of them again."""
        done = self._accounts.change(added, removed)
        if done:
            self._child.signal(signal.SIGHUP)
        return done

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
