"""A broker that somebody else runs, by URL: mqtt://user:password@host:port or mqtts://...

The server logs in with the URL's credentials and manages nothing. The operator gives the broker
the accounts that `edge-fleet broker accounts` lists; devices are told those same passwords when they enrol.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from edge_fleet.brokers.base import Account, Door
from edge_fleet.config import Address
from edge_fleet.errors import Conflict, RequestInvalid


@dataclass(frozen=True)
class ExternalBroker:
    """A broker by its address.

    Args:
        user, password: Of the server's account there; "" for none.
    """

    address: Address
    tls: bool
    user: str
    password: str = field(repr=False)
    name: str = "external"
    managed: bool = False

    @property
    def pid(self) -> int | None:
        """None: it is not ours."""
        return None

    @property
    def door(self) -> Door:
        """The broker's address; mqtts is checked against the system's authorities."""
        return Door(self.address, ssl.create_default_context() if self.tls else None)

    def start(self, accounts: Sequence[Account]) -> None:
        """Nothing: it runs."""

    def update(self, accounts: Sequence[Account]) -> None:
        """Nothing: its operator keeps the accounts."""

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
