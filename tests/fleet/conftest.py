"""Real databases and a real server for the tests of edge_fleet."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from fleet_server import Running, fleet_server
from postgres_server import Postgres, postgres_server

from edge_fleet.store import Store, open_store


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """On PostgreSQL leave out what names its databases itself: that is the same in every run."""
    if os.environ.get("EDGEFLEET_TEST_DATABASE") != "postgresql":
        return
    by_themselves = {
        one for one in items if {"database_url", "postgres_url"} & {*getattr(one, "fixturenames", ())}
    }
    config.hook.pytest_deselected(items=list(by_themselves))
    items[:] = [one for one in items if one not in by_themselves]


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server of our own; skipped where there is none."""
    with postgres_server() as server:
        if server is None:
            pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
        yield server


@pytest.fixture
def postgres_url(postgres: Postgres) -> str:
    """A fresh database in PostgreSQL."""
    return postgres.fresh()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A fresh database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'fleet.db'}"
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    """An open, empty store of each kind."""
    opened = open_store(database_url)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server on SQLite and nats-server, one for all tests of a module."""
    with fleet_server(tmp_path_factory.mktemp("server") / "home") as found:
        yield found
