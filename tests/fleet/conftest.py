"""Real databases and a real server for the tests of edge_fleet."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fleet_server import Running, fleet_server
from sqlalchemy import create_engine, text

from edge_fleet.brokers.child import free_loopback_port
from edge_fleet.store import Store, open_store


def _postgres_programs() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).resolve().parent if on_path else None


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a PostgreSQL server of our own, without a database name; skipped where there is none."""
    programs = _postgres_programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    user: dict[str, Any] = {}
    folder = Path("/tmp") / f"edgefleet-pg-{os.getpid()}"
    folder.mkdir(mode=0o700)
    if os.getuid() == 0:  # PostgreSQL refuses to run as root
        try:
            account = pwd.getpwnam("postgres")
        except KeyError:
            pytest.skip("there is no user postgres to run PostgreSQL as")
        user = {"user": account.pw_uid, "group": account.pw_gid, "cwd": "/"}
        os.chown(folder, account.pw_uid, account.pw_gid)
    data, port = folder / "data", free_loopback_port()
    subprocess.run(
        [programs / "initdb", "-D", data, "-U", "edge", "-A", "trust", "--no-sync"],
        check=True,
        capture_output=True,
        **user,
    )
    options = ["-p", str(port), "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-k", str(folder)]
    with (folder.parent / f"{folder.name}.log").open("wb") as log:
        process = subprocess.Popen(
            [programs / "postgres", "-D", data, *options], stdout=log, stderr=log, **user
        )
        try:
            _wait_for_port(port, process)
            yield f"postgresql://edge@127.0.0.1:{port}"
        finally:
            process.send_signal(signal.SIGQUIT)  # at once: nothing in it is wanted any more
            process.wait(20)
            shutil.rmtree(folder)
            Path(log.name).unlink()


def _wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 0.2).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError("PostgreSQL does not start")


@pytest.fixture
def postgres_url(postgres: str) -> str:
    """A fresh database in PostgreSQL."""
    name = f"t{time.monotonic_ns()}"
    engine = create_engine(
        postgres.replace("postgresql:", "postgresql+psycopg:") + "/postgres", isolation_level="AUTOCOMMIT"
    )
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return f"{postgres}/{name}"


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
