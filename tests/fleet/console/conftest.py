"""A furnished server and people who look at its console."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from console_visit import furnish, visitor
from fleet_rows import FleetRows
from fleet_server import Running


@pytest.fixture(scope="module")
def rows(fleet: Running) -> FleetRows:
    """Four devices that differ, and a release that runs on them."""
    return furnish(fleet)


@pytest.fixture
def operator(fleet: Running, rows: FleetRows) -> Iterator[httpx.Client]:
    """An operator with a browser."""
    with visitor(fleet, fleet.token("operator", label="anna")) as found:
        yield found
