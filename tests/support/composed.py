"""What `deploy/compose.yaml` runs, as plain processes: its own commands, with other ports and folders."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from fleet_device import eventually
from postgres_server import postgres_server

from edge_fleet.brokers.child import free_loopback_port
from edge_fleet.client import find_server
from edge_fleet.home import Home, find_running

DEPLOY = Path(__file__).parents[2] / "deploy"
WAIT_S = 60.0
DATABASE = "postgresql://edgefleet@postgres/edgefleet"


def compose() -> dict[str, Any]:
    """The file."""
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return found


def command(service: str) -> list[str]:
    """What a service runs, with its variables filled in."""
    stated = compose()["services"][service]
    words: list[str] = [*stated.get("entrypoint", []), *stated["command"]]
    return [re.sub(r"\$\{EDGEFLEET_HOST[^}]*\}", "localhost", word) for word in words]


def script(name: str) -> str:
    """One of the commands of this environment."""
    return str(Path(sys.executable).with_name(name))


@dataclass(frozen=True)
class Stack:
    """Server, PostgreSQL and mosquitto at work.

    Args:
        changes: What stands in compose.yaml and its files, and what stands for it here.
    """

    root: Path
    changes: Sequence[tuple[str, str]]
    device_port: int

    @property
    def home(self) -> Home:
        """The server's."""
        return Home(self.root / "home")

    @property
    def url(self) -> str:
        """Where the server is."""
        return str(find_running(self.home))

    @property
    def ca(self) -> Path:
        """The fleet's own authority."""
        return self.home.keys / "authority.pem"

    @property
    def environment(self) -> dict[str, str]:
        """As compose gives it, and our commands first on the path."""
        programs = f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin"
        return {"PATH": programs, "EDGE_FLEET_HOME": str(self.home.root), "HOME": str(self.root)}

    def here(self, text: str) -> str:
        """A text of deploy/ with the ports and folders of this machine."""
        for there, place in self.changes:
            text = text.replace(there, place)
        return text

    def copy(self, name: str) -> Path:
        """A file of deploy/ changed so, in a folder of its own."""
        path = self.root / Path(name).name
        path.write_text(self.here((DEPLOY / name).read_text()))
        return path

    def command(self, service: str) -> list[str]:
        """What a service runs, changed so."""
        words = [self.here(word) for word in command(service)]
        return [script("edge-fleet"), *words] if words[0] == "serve" else words

    def get(self, path: str) -> Any:
        """Ask the server as the command line of its machine does."""
        with closing(find_server(self.home, None, None)) as client:
            return client.get(path)

    def post(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """Have the server do something."""
        with closing(find_server(self.home, None, None)) as client:
            return client.post(path, body)

    def start(self, service: str) -> subprocess.Popen[bytes]:
        """Start a service; its output is in a file."""
        with (self.root / f"{service}.log").open("ab") as log:
            return subprocess.Popen(self.command(service), stdout=log, stderr=log, env=self.environment)

    def log(self, service: str) -> str:
        """What it said."""
        return (self.root / f"{service}.log").read_text()


@contextmanager
def stack(root: Path) -> Iterator[tuple[Stack, dict[str, subprocess.Popen[bytes]]]]:
    """The services server, postgres and mosquitto; skips the test where one is not installed."""
    if shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin") is None:
        pytest.skip("mosquitto is not installed (apt-get install mosquitto)")
    secrets = root / "secrets"
    subprocess.run(["sh", DEPLOY / "secrets.sh", secrets], check=True, capture_output=True)
    port = free_loopback_port()
    # a database over the network, with a password: as compose has it
    with postgres_server(listen_addresses="127.0.0.1", port=str(port)) as database:
        if database is None:
            pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
        database.allow("local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n")
        database.ask(
            f"CREATE ROLE edgefleet LOGIN PASSWORD '{(secrets / 'database-password').read_text()}'",
            "CREATE DATABASE edgefleet OWNER edgefleet",
        )
        devices, door = free_loopback_port(), free_loopback_port()
        found = Stack(
            root,
            (
                (DATABASE, f"postgresql://edgefleet@127.0.0.1:{port}/edgefleet"),
                ("/run/secrets", str(secrets)),
                ("/etc/edgefleet/broker", str(root / "broker")),
                ("/etc/edgefleet/mosquitto.conf", str(root / "mosquitto.conf")),
                ("/etc/edgefleet/run.sh", str(DEPLOY / "mosquitto" / "run.sh")),
                ("/etc/edgefleet/access.sh", str(DEPLOY / "prometheus" / "access.sh")),
                ("/var/lib/prometheus-access", str(root / "access")),
                ("/etc/prometheus/access", str(root / "access")),
                ("/etc/prometheus/edgefleet.rules.yml", str(DEPLOY / "prometheus" / "edgefleet.rules.yml")),
                ("mqtts://mosquitto:8884", f"mqtts://localhost:{door}"),
                ("0.0.0.0:8080", "127.0.0.1:0"),
                ("localhost:8883", f"localhost:{devices}"),
                ("listener 8883", f"{_account()}listener {devices} 127.0.0.1"),
                ("listener 8884", f"listener {door} 127.0.0.1"),
            ),
            devices,
        )
        found.copy("mosquitto/mosquitto.conf")
        (root / "access").mkdir()
        running: dict[str, subprocess.Popen[bytes]] = {}
        try:
            # mosquitto first: it waits for the files that the server writes
            for service in ("mosquitto", "server"):
                running[service] = found.start(service)
            await_ready(found, running["server"])
            yield found, running
        finally:
            for process in running.values():
                process.terminate()
            for process in running.values():
                process.wait(WAIT_S)


def await_ready(found: Stack, server: subprocess.Popen[bytes]) -> None:
    """Wait until the server says that it can do its work."""

    def ready() -> bool:
        assert server.poll() is None, found.log("server")
        return find_running(found.home) is not None and bool(found.get("/health")["status"] == "ok")

    eventually(ready, "the server to be ready")


def _account() -> str:
    """As root, mosquitto changes to an account that cannot read our folder; a container has its own."""
    return "user root\n" if os.getuid() == 0 else ""
