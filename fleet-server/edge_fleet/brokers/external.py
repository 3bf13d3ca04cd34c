"""A broker that somebody else runs, by URL: mqtt://user:password@host:port or mqtts://...

The server logs in with the URL's credentials and starts nothing. The broker gets its accounts from its
operator (`edge-fleet broker accounts` lists them; devices are told those same passwords when they enrol),
or, where a mosquitto shares a folder with the server (`--broker-files`), from there: then it keeps itself.
"""

from __future__ import annotations

import ssl
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from edge_fleet.brokers.account_files import AccountFiles
from edge_fleet.brokers.base import Account, Door
from edge_fleet.config import Address
from edge_fleet.errors import Conflict, RequestInvalid


@dataclass(frozen=True)
class ExternalBroker:
    """A broker by its address.

    Args:
        user, password: Of the server's account there; "" for none.
        files: Where the broker reads its accounts, when it reads them from us.
        ca: PEM that an mqtts one is checked with; "" means the system's authorities.
    """

    address: Address
    tls: bool
    user: str
    password: str = field(repr=False)
    name: str = "external"
    managed: bool = False
    files: AccountFiles | None = None
    ca: str = ""

    @property
    def keeps_accounts(self) -> bool:
        """Whether what we write of accounts comes into effect by itself."""
        return self.files is not None

    def trial(self, account: Account) -> tuple[Door, Account]:
        """At the server's own door: there a name and a password decide."""
        return self.door, account

    @property
    def pid(self) -> int | None:
        """None: it is not ours."""
        return None

    @property
    def door(self) -> Door:
        """The broker's address; mqtts is checked with its name."""
        return Door(self.address, ssl.create_default_context(cadata=self.ca or None) if self.tls else None)

    def start(self, accounts: Sequence[Account]) -> None:
        """It runs, or is about to; write its accounts if they are ours to write."""
        self.update(accounts)

    def update(self, accounts: Sequence[Account]) -> None:
        """Write the accounts, or nothing: its operator keeps them."""
        if self.files is not None:
            self.files.write(accounts)

    def change(self, added: Sequence[Account], removed: Collection[str]) -> bool:
        """Write what changed of the accounts, or nothing."""
        return self.files is None or self.files.change(added, removed)

    def outage(self, seconds: float) -> None:
        """Refuse: it is not ours to kill."""
        raise Conflict("the broker is not managed by this server; nothing was done")

    def restart(self) -> None:
        """Nothing: it is not ours to kill; the link reconnects by itself."""

    def stop(self) -> None:
        """Nothing: it goes on."""


def parse_url(url: str) -> ExternalBroker:
    """Read mqtt://[user:password@]host[:port].

    Raises:
        RequestInvalid: It is not that.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise RequestInvalid(f"broker {url!r:.100} has a port that is not a number") from None
    if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname or parts.path.strip("/"):
        raise RequestInvalid("broker is not nats, mosquitto or mqtt://[user:password@]host[:port]")
    tls = parts.scheme == "mqtts"
    return ExternalBroker(
        Address(parts.hostname, port or (8883 if tls else 1883)),
        tls,
        unquote(parts.username or ""),
        unquote(parts.password or ""),
    )
