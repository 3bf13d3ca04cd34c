"""A managed broker that runs, the server's link to it, and clients that remember what they are given."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from fleet_device import connect, mqtt_client
from paho.mqtt.client import Client, MQTTMessage

from edge_fleet.brokers.base import (
    Account,
    device_account,
    server_account,
    subscriber_account,
)
from edge_fleet.brokers.mosquitto import MosquittoBroker
from edge_fleet.brokers.nats import NatsBroker
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
    heard: list[tuple[str, bytes]] = field(default_factory=list)

    def client(self, account: Account | None, filters: list[str] | None = None, qos: int = 1) -> Listener:
        return Listener(self, account, filters or [], qos)

    def probe(self) -> None:
        """Wait until the broker has worked off what was sent before."""
        assert self.link.delivers(10.0)


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
