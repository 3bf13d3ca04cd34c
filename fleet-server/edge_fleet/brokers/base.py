"""What the server asks of a broker: accounts with exact rights, and a way in for itself.

The kinds are `nats.py`, `mosquitto.py` and `external.py`, chosen by name in `choose.py`; `child.py`
keeps the first two running. Nothing relies on what a broker remembers.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Protocol

from edge_contracts.cose import MAX_ENVELOPE_BYTES
from edge_contracts.topics import FROM_DEVICE, PREFIX, TO_DEVICE, Channel, subscription, topic
from edge_contracts.verified import verified_filter
from edge_fleet.config import Address

# Room for the topic and MQTT's header around the largest envelope
MAX_PACKET_BYTES = MAX_ENVELOPE_BYTES + 4096
# A dot cannot be in a device's id, so these names can never be a device's
SERVER_USER = "fleet.server"
SUBSCRIBER_PREFIX = "subscriber."


@dataclass(frozen=True)
class Account:
    """Who may connect, and the exact topic filters it may use.

    Args:
        password: 256 random bits in base64url; brokers need no slow hash for it.
        publish, subscribe: MQTT filters.
        certificates: Serials of those that count for it, where the device port asks for one.
    """

    user: str
    password: str = field(repr=False)
    publish: tuple[str, ...]
    subscribe: tuple[str, ...]
    certificates: tuple[str, ...] = ()


@dataclass(frozen=True)
class Door:
    """Where a client finds a broker.

    Args:
        tls: None for plain MQTT.
    """

    address: Address
    tls: ssl.SSLContext | None = None


@dataclass(frozen=True)
class DeviceTls:
    """PEM files of the device port; `ca` is what devices are told to check it with, as text.

    Args:
        client_ca: File of whom clients' certificates must come from; "" asks for none.
        crl: File of those that were revoked.
        certify: Makes a certificate that counts as the one of a serial, and its key, PEM: with it the
            server comes to a port that lets nobody in without one.
    """

    cert: str
    key: str
    ca: str
    client_ca: str = ""
    crl: str = ""
    certify: Callable[[str], bytes] | None = field(default=None, repr=False, compare=False)


def tls_of_own_child(tls: DeviceTls, serial: str = "") -> ssl.SSLContext:
    """How the server checks the device port of its own child, which it reaches by a loopback address.

    The certificate names the host that devices use, so its name is not compared; it must be ours.

    Args:
        serial: What the server shows counts as the certificate of this serial; "" shows none.
    """
    context = ssl.create_default_context(cadata=tls.ca)
    context.check_hostname = False
    if serial and tls.certify is not None:
        # OpenSSL reads a chain from a file only; of the owner, and gone at once
        with NamedTemporaryFile(dir=Path(tls.client_ca).parent) as shown:
            shown.write(tls.certify(serial))
            shown.flush()
            context.load_cert_chain(shown.name)
    return context


def certificate_name(serial: str) -> str:
    """The URI by which a certificate says which one it is, to a broker that lets in those it is told of."""
    return f"edgefleet:certificate/{serial}"


class Broker(Protocol):
    """One kind of broker."""

    @property
    def name(self) -> str:
        """Its kind."""

    @property
    def managed(self) -> bool:
        """Whether the server starts, configures and stops it."""

    @property
    def keeps_accounts(self) -> bool:
        """Whether an update of the accounts comes into effect by itself."""

    @property
    def pid(self) -> int | None:
        """Of its process, when the server started it and it runs."""

    @property
    def door(self) -> Door:
        """Where the server itself connects."""

    def trial(self, account: Account) -> tuple[Door, Account]:
        """Where, showing what, and with which password the server can try whether an account is let in."""

    def start(self, accounts: Sequence[Account]) -> None:
        """Start it with these accounts, and give it back running.

        Raises:
            BrokerFailed: It does not start.
            AddressInUse: Its port is taken.
        """

    def update(self, accounts: Sequence[Account]) -> None:
        """Replace the accounts; those that stay keep their connections, others are cut."""

    def change(self, added: Sequence[Account], removed: Collection[str]) -> bool:
        """Add accounts, and take users away, at the cost of those alone.

        Returns:
            False when it cannot be done so, and nothing was changed: `update` does it.
        """

    def outage(self, seconds: float) -> None:
        """Kill it and keep it down: a rehearsal."""

    def restart(self) -> None:
        """Kill it and start it afresh, without what it had stored."""

    def stop(self) -> None:
        """Stop it; harmless when it does not run."""


def probe_topic(fleet: str) -> str:
    """Where the server speaks to itself to see that the broker delivers; no device's topic."""
    return f"{PREFIX}/{fleet}/probe"


def server_account(fleet: str, password: str) -> Account:
    """The server's own: hears all devices, speaks to all, tells what it has verified, and nothing else."""
    probe = probe_topic(fleet)
    return Account(
        SERVER_USER,
        password,
        publish=(*(subscription(fleet, channel) for channel in TO_DEVICE), verified_filter(fleet), probe),
        subscribe=(*(subscription(fleet, channel) for channel in FROM_DEVICE), probe),
    )


def device_account(fleet: str, device: str, password: str) -> Account:
    """A device's: its own five topics."""
    # each enrolment makes the accounts of all devices: the names are checked once for all five
    own = topic(fleet, device, Channel.TELEMETRY).removesuffix(Channel.TELEMETRY)
    publish, subscribe = (
        tuple([own + channel for channel in channels]) for channels in (FROM_DEVICE, TO_DEVICE)
    )
    return Account(device, password, publish, subscribe)


def is_device(account: Account) -> bool:
    """Whether an account is a device's, by its name."""
    return is_name_of_device(account.user)


def is_name_of_device(user: str) -> bool:
    """Whether a user is a device."""
    return "." not in user


def subscriber_account(fleet: str, token_id: str, password: str) -> Account:
    """A subscriber's: reads telemetry, signed and as verified JSON, and says nothing."""
    return Account(
        SUBSCRIBER_PREFIX + token_id,
        password,
        publish=(),
        subscribe=(subscription(fleet, Channel.TELEMETRY), verified_filter(fleet)),
    )
