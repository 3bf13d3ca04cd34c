"""A managed broker that runs, the server's link to it, and clients that remember what they are given."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleet_device import connect, mqtt_client, require_broker
from paho.mqtt.client import Client, MQTTMessage

from edge_fleet.accounts import lets_in
from edge_fleet.brokers.base import (
    Account,
    Door,
    device_account,
    server_account,
    subscriber_account,
)
from edge_fleet.brokers.child import free_loopback_port
from edge_fleet.brokers.mosquitto import MosquittoBroker
from edge_fleet.brokers.nats import NatsBroker
from edge_fleet.config import Address
from edge_fleet.link import Link

KINDS: dict[str, type[NatsBroker] | type[MosquittoBroker]] = {
    "nats": NatsBroker,
    "mosquitto": MosquittoBroker,
}


SERVER = server_account("f", "server-secret")
D1 = device_account("f", "d1", "one")
D2 = device_account("f", "d2", "two")
SUBSCRIBER = subscriber_account("f", "s1", "three")
ACCOUNTS = [SERVER, D1, D2, SUBSCRIBER]


@dataclass
class Running:
    """A broker, the server's link to it, and what the link heard."""

    kind: str
    broker: NatsBroker | MosquittoBroker
    port: int
    link: Link
    heard: list[tuple[str, bytes]]

    def client(self, account: Account | None, filters: list[str] | None = None, qos: int = 1) -> Listener:
        return Listener(self, account, filters or [], qos)

    def probe(self) -> None:
        """Wait until the broker has worked off what was sent before."""
        assert self.link.delivers(10.0)

    def goes_on(self) -> None:
        """The server is heard and hears, and a device still comes in."""
        assert self.link.is_up
        self.probe()
        assert lets_in(Door(Address("127.0.0.1", self.port)), D2)


@contextmanager
def running_broker(kind: str, folder: Path, accounts: Sequence[Account] = ACCOUNTS) -> Iterator[Running]:
    """One of these accounts, and the server's link to it, until the block ends."""
    require_broker(kind)
    port = free_loopback_port()
    heard: list[tuple[str, bytes]] = []
    broker = KINDS[kind](folder, Address("127.0.0.1", port), None, lambda: None)
    broker.start(accounts)
    link = Link(broker.door, "f", SERVER.user, SERVER.password, heard.extend)
    try:
        link.start()
        yield Running(kind, broker, port, link, heard)
    finally:
        link.stop()
        broker.stop()


class Listener:
    """A client that remembers what it is given."""

    def __init__(self, running: Running, account: Account | None, filters: list[str], qos: int) -> None:
        user, password = (account.user, account.password) if account else (None, None)
        self.client = mqtt_client(user, password)
        self.got: list[str] = []
        self.client.on_message = self._on_message
        self.granted = connect(self.client, running.port, filters, qos)

    def _on_message(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        self.got.append(message.topic)

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.disconnect()
        self.client.loop_stop()
