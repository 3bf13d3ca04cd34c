"""A PostgreSQL server of our own: Debian's programs, a data folder to throw away, a socket in it.

It can be stopped and started again, as a database that goes away for a while.
"""

from __future__ import annotations

import atexit
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

START_S = 30.0
# nothing in it must survive a power cut
_SETTINGS = {"fsync": "off", "listen_addresses": "", "max_connections": "60", "shared_buffers": "32MB"}


def programs() -> Path | None:
    """The folder with initdb and postgres; None where PostgreSQL is not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).resolve().parent if on_path else None


class Postgres:
    """One server, running from its making until `stop`."""

    def __init__(self, folder: Path, settings: dict[str, str]) -> None:
        """Make its data folder; an unprivileged account is taken where we are root."""
        found = programs()
        assert found is not None
        self._programs, self.folder = found, folder
        self._settings = _SETTINGS | settings
        self._account: dict[str, Any] = {}
        if os.getuid() == 0:  # PostgreSQL refuses to run as root
            account = pwd.getpwnam("postgres")
            self._account = {"user": account.pw_uid, "group": account.pw_gid, "cwd": "/"}
            os.chown(folder, account.pw_uid, account.pw_gid)
        self._process: subprocess.Popen[bytes] | None = None
        subprocess.run(
            [found / "initdb", "-D", folder / "data", "-U", "edge", "-A", "trust", "-E", "UTF8", "--no-sync"],
            check=True,
            capture_output=True,
            **self._account,
        )
        self.start()

    def start(self) -> None:
        """Start it and wait until it answers."""
        command = [str(self._programs / "postgres"), "-D", str(self.folder / "data"), "-k", str(self.folder)]
        for name, value in self._settings.items():
            command += ["-c", f"{name}={value}"]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, **self._account)
        deadline = time.monotonic() + START_S
        ready = [
            str(self._programs / "pg_isready"),
            "-q",
            "-h",
            str(self.folder),
            "-p",
            self._port,
            "-U",
            "edge",
        ]
        while subprocess.run(ready, check=False).returncode:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL does not start: {(self.folder / 'log').read_text()[-500:]}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Cut every connection and end it at once."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(START_S)
            self._process = None

    @property
    def _port(self) -> str:
        return self._settings.get("port", "5432")

    def url(self, database: str) -> str:
        """How to reach a database in it."""
        return f"postgresql://edge@/{database}?host={self.folder}&port={self._port}"

    def allow(self, rules: str) -> None:
        """Have it let clients in by other rules (pg_hba.conf), those that come through the socket too."""
        (self.folder / "data" / "pg_hba.conf").write_text(rules)
        self.ask("SELECT pg_reload_conf()")

    def ask(self, *statements: str) -> None:
        """Run statements as its owner."""
        engine = create_engine(with_driver(self.url("postgres")), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            for statement in statements:
                connection.execute(text(statement))
        engine.dispose()

    def fresh(self) -> str:
        """The URL of a new database."""
        return fresh_database(self.url("postgres"))


def fresh_database(url: str) -> str:
    """The URL of a new database in the server that a URL leads to."""
    engine = create_engine(with_driver(url), isolation_level="AUTOCOMMIT")
    name = f"t{time.monotonic_ns()}"
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return make_url(url).set(database=name).render_as_string(hide_password=False)


@cache
def suite_server() -> str | None:
    """What EDGEFLEET_TEST_DATABASE names: None for SQLite, "postgresql" for a server of our own, or a URL."""
    stated = os.environ.get("EDGEFLEET_TEST_DATABASE", "")
    if stated in ("", "sqlite"):
        return None
    if stated != "postgresql":
        return stated
    stack = ExitStack()
    server = stack.enter_context(postgres_server())
    if server is None:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    atexit.register(stack.close)
    return server.url("postgres")


def suite_database() -> str:
    """The setting `database` of a server under test: a fresh one on PostgreSQL, or "" on SQLite."""
    server = suite_server()
    return "" if server is None else fresh_database(server)


def with_driver(url: str) -> str:
    """The same URL for SQLAlchemy without a store around it."""
    return url.replace("postgresql:", "postgresql+psycopg:", 1)


@contextmanager
def postgres_server(**settings: str) -> Iterator[Postgres | None]:
    """A server until the end of the block; None where it is not installed, or nobody may run it."""
    if programs() is None or (os.getuid() == 0 and not _has_account()):
        yield None
        return
    # a socket's path has at most 107 bytes: not below pytest's folder
    with tempfile.TemporaryDirectory(prefix="edgefleet-pg-", dir="/tmp") as place:
        server = Postgres(Path(place), settings)
        try:
            yield server
        finally:
            server.stop()


def _has_account() -> bool:
    try:
        pwd.getpwnam("postgres")
    except KeyError:
        return False
    return True
