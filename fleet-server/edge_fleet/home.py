"""The server's home: a folder with its settings, keys, database, archives and broker files.

Making one is repeatable: what is there is kept, and `config.json`, written last, says that it is whole.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_fleet.config import ServerConfig, config_bytes, read_config
from edge_fleet.errors import HomeInvalid
from edge_fleet.keys import make_keys, write_secret


def default_home() -> Path:
    """$EDGE_FLEET_HOME, else ~/.edgefleet/server."""
    stated = os.environ.get("EDGE_FLEET_HOME")
    return Path(stated) if stated else Path.home() / ".edgefleet" / "server"


@dataclass(frozen=True)
class Home:
    """The places in a server's folder."""

    root: Path

    @property
    def config(self) -> Path:
        """Settings; there when the home is whole."""
        return self.root / "config.json"

    @property
    def keys(self) -> Path:
        """The folder of `keys.py`."""
        return self.root / "keys"

    @property
    def admin_token(self) -> Path:
        """An API token of role admin, for the command line on this machine."""
        return self.root / "admin.token"

    @property
    def audit_head(self) -> Path:
        """The last row of the audit log, signed: `access/audit_head.py`; beside the database, not in it."""
        return self.root / "audit.head"

    @property
    def archives(self) -> Path:
        """Published bundles, one file each, named by digest."""
        return self.root / "archives"

    @property
    def broker(self) -> Path:
        """What a managed broker needs; written anew at every start."""
        return self.root / "broker"

    @property
    def running(self) -> Path:
        """Where the running server is: {"url", "ca", "pid"}; absent when none runs."""
        return self.root / "server.json"

    def database_url(self, config: ServerConfig, given: str | None = None) -> str:
        """The database to open.

        Args:
            given: Another one than that of the settings; "sqlite" is the home's own file.
        """
        named = given or config.database
        return f"sqlite:///{self.root.absolute() / 'fleet.db'}" if named in ("", OWN_SQLITE) else named

    @property
    def exists(self) -> bool:
        """Whether it was made."""
        return self.config.exists()


OWN_SQLITE = "sqlite"  # what --database calls the file in the home


@contextmanager
def making(home: Home, config: ServerConfig) -> Iterator[None]:
    """Make the folder and its keys, let the caller add the rest, then write the settings: now it is whole.

    What is there of an attempt that broke off is used.

    Raises:
        HomeInvalid: The place cannot be written, or is a home already.
    """
    if home.exists:
        raise HomeInvalid(f"{home.root} is a server home already; nothing was changed")
    try:
        home.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        home.archives.mkdir(exist_ok=True)
        make_keys(home.keys)
    except OSError as error:
        raise _unmakeable(home, error) from None
    yield
    try:
        write_secret(home.config, config_bytes(config))
    except OSError as error:
        raise _unmakeable(home, error) from None


def _unmakeable(home: Home, error: OSError) -> HomeInvalid:
    return HomeInvalid(f"cannot make a home at {home.root}: {error.strerror or error}")


def load_home(home: Home) -> ServerConfig:
    """The settings of a home.

    Raises:
        HomeInvalid: There is none, or its settings have a fault.
    """
    if not home.exists:
        raise HomeInvalid(f"{home.root} is not a server home; make one with edge-fleet init")
    return read_config(home.config)


@contextmanager
def locked(home: Home) -> Iterator[None]:
    """Hold a home against a second server.

    Raises:
        HomeInvalid: Another server holds it.
    """
    with (home.root / "lock").open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise HomeInvalid(f"another server runs with the home {home.root}") from None
        yield


def announce(home: Home, url: str, ca: str = "") -> None:
    """Write where the server is, for the command line on this machine.

    Args:
        ca: PEM file that an https one is checked with, or "".
    """
    write_secret(home.running, json.dumps({"url": url, "ca": ca, "pid": os.getpid()}).encode())


def find_running(home: Home) -> str | None:
    """The URL of the server that runs with this home, or None."""
    return _announced(home, "url") or None


def find_ca(home: Home) -> str:
    """The PEM file that the server of this home is checked with; "" means the system's authorities."""
    return _announced(home, "ca")


def _announced(home: Home, field: str) -> str:
    try:
        raw: Any = json.loads(home.running.read_bytes())
        return str(raw.get(field, ""))
    except (OSError, ValueError, AttributeError):
        return ""
