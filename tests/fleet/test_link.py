"""The server's link to its broker: what it must find before it counts as up."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from running_broker import D1, SERVER
from waiting import until

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


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_link_whose_network_thread_ended_is_not_up(tmp_path: Path) -> None:
    """Nothing is heard by it any more, though it was never told of an end of the connection."""

    threads: list[threading.Thread] = []

    def connected() -> None:
        threads.append(threading.current_thread())
        if len(threads) > 1:
            raise RuntimeError("a fault of our own")

    broker = NatsBroker(tmp_path / "b", Address("127.0.0.1", free_loopback_port()), None, lambda: None)
    broker.start([SERVER])
    link = Link(broker.door, "f", SERVER.user, SERVER.password, lambda *_: None, connected)
    try:
        link.start()
        assert link.is_up
        broker.outage(0)
        until(lambda: len(threads) > 1, "the second connection")
        threads[1].join()
        assert not link.is_up
    finally:
        link.stop()
        broker.stop()
