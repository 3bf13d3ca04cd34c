"""What the parts of a running server share: made once in `serve.py`, handed to the app and the conductor."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from edge_fleet.events import EventBus
from edge_fleet.simulation.jobs import DryRuns
from edge_fleet.store import Store

if TYPE_CHECKING:
    from edge_fleet.access.authority import Authority
    from edge_fleet.access.directors import Directors
    from edge_fleet.access.logins import Patience
    from edge_fleet.access.oidc_provider import Provider
    from edge_fleet.accounts import Accounts
    from edge_fleet.auth import Attempts
    from edge_fleet.brokers.base import Broker, DeviceTls
    from edge_fleet.config import ServerConfig
    from edge_fleet.home import Home
    from edge_fleet.ingest import Ingest
    from edge_fleet.keys import ServerKeys
    from edge_fleet.link import Link


class Dispatch(Protocol):
    """Gets assignments to devices."""

    def soon(self, devices: Iterable[str]) -> None:
        """Publish the newest assignment of these devices, in order and paced; never waits."""


@dataclass(frozen=True)
class Services:
    """What decisions need: the database, the news, a way to the devices, and the time.

    Args:
        now_ms: The server's clock, Unix milliseconds.
    """

    store: Store
    bus: EventBus
    dispatch: Dispatch
    now_ms: Callable[[], int]


@dataclass(frozen=True)
class Server(Services):
    """Everything of one running server: what the HTTP application needs."""

    config: ServerConfig
    home: Home
    keys: ServerKeys
    broker: Broker
    accounts: Accounts
    link: Link
    ingest: Ingest
    directors: Directors
    attempts: Attempts
    patience: Patience
    tls: DeviceTls | None = None
    authority: Authority | None = None
    provider: Provider | None = None
    dry_runs: DryRuns = field(default_factory=DryRuns)
