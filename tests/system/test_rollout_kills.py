"""A real server that is killed with SIGKILL in the middle of several rollouts, again and again."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
from fleet_device import eventually
from fleet_rows import FleetRows, digest
from sqlalchemy import insert, select

from edge_contracts.keys import PrivateKey
from edge_contracts.messages import ActiveModel
from edge_contracts.messages import Phase as Told
from edge_fleet import schema
from edge_fleet.brokers.child import free_loopback_port
from edge_fleet.config import ServerConfig
from edge_fleet.home import Home, find_running
from edge_fleet.keys import read_keys
from edge_fleet.rollouts.phases import TRANSITIONS, Event, Phase
from edge_fleet.serve import initialise, now_ms
from edge_fleet.simulation.connection import Member, Way
from edge_fleet.simulation.crowd import Crowd
from edge_fleet.simulation.device import RUNTIME, Behaviour, SimulatedDevice
from edge_fleet.store import Store, open_store

EACH, KILLS = 3, 4
SERVE = [sys.executable, "-c", "from edge_fleet.cli import main; main()", "serve", "--home"]
PLAN = {
    "format": "edgefleet.rollout/1",
    "release": "digits@2",
    "stages": [1, 2, "100%"],
    "bake_s": 0,
    "gates": {"install_success": 0.9},
}
# By site what its plan says besides; both of the last two have stages of two parts.
SITES: dict[str, dict[str, Any]] = {
    "a": {},
    "bad": {},
    "blue": {"kind": "blue-green", "stages": [1, "100%"]},
    "shadow": {
        "kind": "shadow-first",
        "stages": [1, "100%"],
        "shadow": {"share": 1.0, "bake_s": 0},
        "gates": {"install_success": 0.9, "shadow_agreement": {"limit": 0.5, "min_inferences": 20}},
    },
}
PARTS = {"blue": 2, "shadow": 2}  # orders that bring a release to a device there
DONE = ("confirmed", "refused", "ready", "shadow")
WAIT_S = 60.0  # two slow cores, and a server to be started


@contextmanager
def server_and_devices(home: Home, port: int, devices: list[SimulatedDevice]) -> Iterator[tuple[str, Crowd]]:
    """A server that ends by SIGKILL, with the devices connected; gives its URL and them."""
    keys = read_keys(home.keys)
    members = [Member(device, keys.password(device.id, "salt")) for device in devices]
    home.running.unlink(missing_ok=True)  # a server that was killed has left it
    with subprocess.Popen(
        [*SERVE, str(home.root)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as server:
        crowd = Crowd(members, Way("127.0.0.1", port))
        try:
            url = str(eventually(lambda: find_running(home), "the server"))
            crowd.start()
            eventually(lambda: crowd.connected == len(devices), "every device")
            yield url, crowd
        finally:
            server.kill()
            server.wait()
            crowd.stop()


def enrolled(store: Store, director: Any) -> list[SimulatedDevice]:
    """Sites of devices that run version 1; those of one refuse the release."""
    rows = FleetRows(store, now_ms)
    rows.publish("1")
    rows.publish("2")
    first = ActiveModel(bundle=digest("1"), name="digits", version="1", artifact="int8", runtime=RUNTIME)
    devices = []
    with store.write() as connection:
        for site in SITES:
            for number in range(EACH):
                key, name = PrivateKey.generate(), f"{site}-{number}"
                connection.execute(
                    insert(schema.devices).values(
                        id=name,
                        public_key=key.public.raw,
                        profile=["arm-cpu"],
                        labels={"site": site},
                        credential="salt",
                        enrolled_ms=now_ms(),
                    )
                )
                fails = {digest("2"): (Told.REFUSED, "golden-mismatch")} if site == "bad" else {}
                behaviour = Behaviour(download_s=0.1, check_s=0.1, fails=fails)
                made = SimulatedDevice(name, "f", key, director, ("arm-cpu",), behaviour, first, counter=1)
                devices.append(made)
    return devices


def test_rollouts_end_as_they_should_however_often_the_server_is_killed(tmp_path: Path) -> None:
    home, port = Home(tmp_path / "home"), free_loopback_port()
    config = ServerConfig(fleet="f", mqtt=f"127.0.0.1:{port}", http="127.0.0.1:0")
    initialise(home, config)
    store = open_store(home.database_url(config))
    devices = enrolled(store, read_keys(home.keys).director.public)
    token = home.admin_token.read_text().strip()

    def moments() -> int:
        """How far everything has come: assignments and their changes, and steps of rollouts."""
        with store.read() as connection:
            steps = len(connection.execute(select(schema.rollout_steps.c.id)).all())
            told = connection.execute(select(schema.assignments.c.phase)).scalars().all()
        return steps * 10 + sum(3 if phase in DONE else 1 for phase in told)

    def phases() -> dict[str, str]:
        with store.read() as connection:
            rows = connection.execute(select(schema.rollouts.c.plan, schema.rollouts.c.phase))
            return {row.plan["select"].removeprefix("site="): row.phase for row in rows}

    def standing() -> list[Any]:
        """What to look at when it takes too long."""
        with store.read() as connection:
            rollouts = connection.execute(select(schema.rollouts.c.phase, schema.rollouts.c.why)).all()
            orders = select(schema.assignments.c.device, schema.assignments.c.phase)
            return [*rollouts, *connection.execute(orders).all()]

    def ended() -> bool:
        return len(phases()) == len(SITES) and set(phases().values()) <= {"completed", "rolled-back"}

    def work(url: str, crowd: Crowd, done: Callable[[], bool]) -> None:
        """What is not planned yet is planned, and devices report, until something has happened."""
        deadline = time.monotonic() + WAIT_S
        with httpx.Client(
            base_url=url, headers={"Authorization": f"Bearer {token}"}, trust_env=False, timeout=30
        ) as http:
            for site, more in SITES.items():
                if site in phases():
                    continue
                answer = http.post(
                    "/api/v1/rollouts", json={"plan": PLAN | more | {"select": f"site={site}"}, "start": True}
                )
                assert answer.status_code == 201, answer.text
        while not done():
            assert time.monotonic() < deadline, standing()
            crowd.each(lambda device: device.window(10, time.time()))
            time.sleep(0.1)

    for kill in range(KILLS):
        before = moments()
        with server_and_devices(home, port, devices) as (url, crowd):
            # somewhere in the middle: after a few more changes, each time another number of them
            work(url, crowd, lambda enough=before + 4 + 3 * kill: moments() >= enough)  # type: ignore[misc]
    assert not ended(), "there was nothing left to do after the last kill"
    with server_and_devices(home, port, devices) as (url, crowd):
        work(url, crowd, ended)

    assert phases() == dict.fromkeys(SITES, "completed") | {"bad": "rolled-back"}
    for device in devices:
        assert device.active is not None
        assert device.active.bundle == digest("1" if device.id.startswith("bad") else "2"), device.id
        assert device.refused == 0
    check_history(store)
    store.close()


def check_history(store: Store) -> None:
    """Every step is one of the table, each follows the one before, and no device was begun twice."""
    with store.read() as connection:
        steps = connection.execute(select(schema.rollout_steps).order_by(schema.rollout_steps.c.id)).all()
        orders = connection.execute(select(schema.assignments)).all()
        reached = connection.execute(select(schema.rollout_members)).all()
    for rollout in {step.rollout for step in steps}:
        own = [step for step in steps if step.rollout == rollout]
        path = [Phase.DRAFT, *(Phase(step.phase) for step in own)]
        for (before, after), step in zip(pairwise(path), own, strict=True):
            assert TRANSITIONS[before, Event(step.event)] is after
    numbers = {(row.device, row.number) for row in orders}
    for row in reached:
        given = [n for device, n in numbers if device == row.device]
        assert sorted(given) == list(range(1, len(given) + 1))
        orders_of = PARTS.get(row.device.split("-")[0], 1) + (row.back is not None)
        assert len(given) == orders_of, f"{row.device} was given {len(given)} orders"
    bad = [row for row in reached if row.device.startswith("bad")]
    assert len(bad) == 1, "a second device was begun after the first had failed"
