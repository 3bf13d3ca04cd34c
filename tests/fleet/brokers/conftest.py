"""One of each broker for all tests of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fleet_device import require_broker
from running_broker import ACCOUNTS, KINDS, SERVER, Running

from edge_fleet.brokers.child import free_loopback_port
from edge_fleet.config import Address
from edge_fleet.link import Link


@pytest.fixture(scope="module", params=sorted(KINDS))
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    require_broker(request.param)
    port = free_loopback_port()
    heard: list[tuple[str, bytes]] = []
    broker = KINDS[request.param](
        tmp_path_factory.mktemp("broker") / "b", Address("127.0.0.1", port), None, lambda: None
    )
    broker.start(ACCOUNTS)
    link = Link(
        broker.door, "f", SERVER.user, SERVER.password, lambda topic, payload: heard.append((topic, payload))
    )
    try:
        link.start()
        yield Running(request.param, broker, port, link, heard)
    finally:
        link.stop()
        broker.stop()
