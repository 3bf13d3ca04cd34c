"""The server's link to its broker: what it must find before it counts as up."""

from __future__ import annotations

from pathlib import Path

import pytest
from running_broker import D1, SERVER

from edge_fleet.brokers.base import (
    Account,
)
from edge_fleet.brokers.child import free_loopback_port
from edge_fleet.brokers.nats import NatsBroker
from edge_fleet.config import Address
from edge_fleet.errors import BrokerFailed
from edge_fleet.link import Link


def test_the_link_refuses_a_broker_that_does_not_know_the_server(tmp_path: Path) -> None:
    port = free_loopback_port()
    broker = NatsBroker(tmp_path / "b", Address("127.0.0.1", port), None, lambda: None)
    broker.start([D1])
    try:
        link = Link(broker.door, "f", SERVER.user, "wrong", lambda *_: None)
        with pytest.raises(BrokerFailed, match="does not let the server in"):
            link.start()
    finally:
        broker.stop()


def test_the_link_refuses_a_broker_that_does_not_deliver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_fleet.link.CONNECT_TIMEOUT_S", 1.0)
    deaf = Account(SERVER.user, SERVER.password, publish=(), subscribe=SERVER.subscribe)
    broker = NatsBroker(tmp_path / "b", Address("127.0.0.1", free_loopback_port()), None, lambda: None)
    broker.start([deaf])
    try:
        link = Link(broker.door, "f", SERVER.user, SERVER.password, lambda *_: None)
        with pytest.raises(BrokerFailed, match="a message to edge/v1/f/probe did not come back"):
            link.start()
    finally:
        broker.stop()
