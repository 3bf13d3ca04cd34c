"""Time to safe after a failed gate, with simulated devices on a real broker.

    python benchmarks/time_to_safe.py [--devices 1000] [--rounds 3]

A server of its own process with SQLite and its managed broker; the devices are `edge_fleet.simulation`,
each with an MQTT connection and a key of its own, that install and go back as the contracts ask. They run
release 1, get release 2, and report windows; then all of them begin to fail. Measured by the server's clock:
from the first bad window's arrival until the gate failed, and until each device has said that it is back.
Devices are enrolled as rows before the server starts, since enrolling is not what is measured here; a
device needs --check seconds to check what its other slot holds, and downloads nothing on its way back.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import func, insert, select, update

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/support"))
from fleet_rows import FleetRows, digest

from edge_contracts.keys import PrivateKey
from edge_contracts.messages import ActiveModel
from edge_fleet import schema
from edge_fleet.brokers.child import free_loopback_port
from edge_fleet.config import ServerConfig
from edge_fleet.home import Home, find_running
from edge_fleet.keys import read_keys
from edge_fleet.serve import initialise, now_ms
from edge_fleet.simulation.connection import Member, Way
from edge_fleet.simulation.crowd import Crowd
from edge_fleet.simulation.device import Behaviour, SimulatedDevice
from edge_fleet.store import Store, open_store

FLEET = "main"
SERVE = [sys.executable, "-c", "from edge_fleet.cli import main; main()", "serve"]
PLAN = {
    "format": "edgefleet.rollout/1",
    "release": "digits@2",
    "stages": ["100%"],
    "bake_s": 86_400,
    "gates": {"error_rate": 0.02},
}


@dataclass(frozen=True)
class Round:
    """Seconds, of one round."""

    install: float
    noticed: float
    median: float
    p95: float
    last: float
    back: int


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--devices", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--check", type=float, default=1.0, help="seconds that a device checks a slot for")
    options = parser.parse_args()
    rounds = []
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory() as place:
            rounds.append(measured(Path(place), options.devices, options.check))
    print(f"{options.devices} devices, checks of {options.check:g} s; seconds, {options.rounds} rounds")
    for name, what in (
        ("install", "from the start until every device has confirmed the release"),
        ("noticed", "from the first bad window until the gate failed"),
        ("median", "then until half of the devices are back"),
        ("p95", "until 95 % are back"),
        ("last", "until the last is back"),
        ("back", "devices that are back"),
    ):
        print(f"{what:62}{statistics.median(getattr(one, name) for one in rounds):10.1f}")


def measured(place: Path, count: int, check_s: float) -> Round:
    """One round on a fresh server."""
    home, port = Home(place / "server"), free_loopback_port()
    config = ServerConfig(fleet=FLEET, mqtt=f"127.0.0.1:{port}", http="127.0.0.1:0")
    initialise(home, config)
    keys = read_keys(home.keys)
    store = open_store(home.database_url(config))
    devices = enrolled(store, count, keys.director.public, check_s)
    members = [Member(device, keys.password(device.id, "salt")) for device in devices]
    with subprocess.Popen(
        [*SERVE, "--home", str(home.root)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as server:
        crowd = Crowd(members, Way("127.0.0.1", port))
        try:
            wait(lambda: find_running(home) is not None, "the server")
            crowd.start()
            wait(lambda: crowd.connected == count, "every device is connected")
            return _round(store, crowd, str(find_running(home)), home.admin_token.read_text().strip())
        finally:
            crowd.stop()
            server.terminate()
            store.close()


def _round(store: Store, crowd: Crowd, url: str, token: str) -> Round:
    count = len(crowd.devices)
    wait(lambda: _running(store) == count, "the server knows what every device runs")
    with httpx.Client(
        base_url=url, headers={"Authorization": f"Bearer {token}"}, trust_env=False, timeout=60
    ) as http:
        begun = time.monotonic()
        answer = http.post("/api/v1/rollouts", json={"plan": PLAN, "start": True})
        answer.raise_for_status()
        rollout = answer.json()["id"]

        wait(lambda: _confirmed(store, rollout) == count, "every device has the release")
        install_s = time.monotonic() - begun
        wait(lambda: _phase(store) == "baking", "the bake")
        for device in crowd.devices.values():
            device.behaviour = Behaviour(check_s=device.behaviour.check_s, error_share={digest("2"): 0.9})
        for _ in range(6):  # a gate does not believe one window
            crowd.each(lambda device: device.window(1000, time.time()))
        wait(lambda: _phase(store) == "rolled-back", "every device is back")
        safety = http.get(f"/api/v1/rollouts/{rollout}").json()["safety"]
    with store.read() as connection:
        first_ms = connection.execute(select(func.min(schema.windows.c.received_ms))).scalar_one()
    return Round(
        install=install_s,
        noticed=(safety["began_ms"] - first_ms) / 1000,
        median=safety["median_s"],
        p95=safety["p95_s"],
        last=safety["last_s"],
        back=safety["back"],
    )


def enrolled(store: Store, count: int, director: Any, check_s: float) -> list[SimulatedDevice]:
    """Devices that run release 1, as rows and as simulations."""
    rows = FleetRows(store, now_ms)
    rows.publish("1")
    rows.publish("2")
    runs = ActiveModel(bundle=digest("1"), name="digits", version="1", artifact="int8", runtime="litert 2")
    made = []
    with store.write() as connection:
        for number in range(count):
            key = PrivateKey.generate()
            name = f"sim-{number:05}"
            connection.execute(
                insert(schema.devices).values(
                    id=name,
                    public_key=key.public.raw,
                    profile=["arm-cpu"],
                    labels={},
                    credential="salt",
                    enrolled_ms=now_ms(),
                )
            )
            behaviour = Behaviour(download_s=0.5, check_s=check_s)
            made.append(SimulatedDevice(name, FLEET, key, director, ("arm-cpu",), behaviour, runs, counter=1))
        connection.execute(update(schema.devices).values(state_n=-1))
    return made


def _phase(store: Store) -> str:
    """Asked of the database, for the server has other things to do."""
    with store.read() as connection:
        return str(connection.execute(select(schema.rollouts.c.phase)).scalar_one())


def _running(store: Store) -> int:
    with store.read() as connection:
        counted = select(func.count()).select_from(schema.devices).where(schema.devices.c.state_n >= 0)
        return int(connection.execute(counted).scalar_one())


def _confirmed(store: Store, rollout: str) -> int:
    with store.read() as connection:
        counted = (
            select(func.count())
            .select_from(schema.assignments)
            .where(schema.assignments.c.rollout == rollout, schema.assignments.c.phase == "confirmed")
        )
        return int(connection.execute(counted).scalar_one())


def wait(condition: Callable[[], bool], what: str, longest_s: float = 300.0) -> None:
    """Wait for something that comes by itself."""
    deadline = time.monotonic() + longest_s
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"not in {longest_s:g} s: {what}")
        time.sleep(0.1)


if __name__ == "__main__":
    main()
