"""Keys of devices that change, at a real server: what the old one may still say, and what it may not."""

from __future__ import annotations

import base64
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from agent_fleet import until
from fleet_device import FleetDevice, enrol, eventually, window
from fleet_server import Running, fleet_server

from edge_agent.device.config import read_config
from edge_agent.device.home import Home
from edge_contracts.keys import PrivateKey, PublicKey
from edge_contracts.messages import Assignment, Knows
from edge_contracts.succession import NextKey, propose
from edge_contracts.topics import Channel

AGENT = [sys.executable, "-c", "from edge_agent.cli import main; main()"]
KNOWS = (Knows.KEYS,)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with fleet_server(tmp_path_factory.mktemp("server") / "home") as found:
        yield found


@pytest.fixture
def device(fleet: Running) -> Iterator[FleetDevice]:
    made = enrol(fleet.http, fleet.token())
    made.connect()
    made.send(Channel.HELLO, made.state(knows=KNOWS))
    yield made
    made.close()


def shown(fleet: Running, device: FleetDevice) -> dict[str, Any]:
    found: dict[str, Any] = fleet.admin.get(f"/api/v1/devices/{device.id}").json()
    return found


def known(fleet: Running, device: FleetDevice) -> str:
    return PublicKey.from_base64(shown(fleet, device)["public_key"]).key_id


def refusals(fleet: Running, device: FleetDevice) -> dict[str, int]:
    found = fleet.admin.get("/api/v1/refusals").json()
    return {row["reason"]: row["count"] for row in found if row["device"] == device.id}


def propose_next(device: FleetDevice, new: PrivateKey, said: NextKey | None = None) -> None:
    told = said or propose(device.fleet, device.id, device.key.public, new)
    device.send(Channel.STATUS, device.state("status", knows=KNOWS, next_key=told))


def told(device: FleetDevice) -> Assignment:
    """The newest word about its key."""
    while True:
        found = device.assignments.get(timeout=10)
        if found.known_key:
            return found


def test_a_device_that_is_ordered_to_tells_its_next_key_and_hears_that_it_counts(
    fleet: Running, device: FleetDevice
) -> None:
    old, new = device.key, PrivateKey.generate()
    eventually(lambda: shown(fleet, device)["knows"] == ["keys"], "its hello")
    answer = fleet.admin.post(f"/api/v1/devices/{device.id}/rotate-key")
    assert answer.json() == {"device": device.id, "key": old.public.key_id}
    eventually(lambda: device.assignments.get(timeout=10).change_key == old.public.key_id, "the order")
    propose_next(device, new)
    word = told(device)
    assert (word.known_key, word.change_key) == (new.public.key_id, "")
    assert known(fleet, device) == new.public.key_id
    (former,) = shown(fleet, device)["former_keys"]
    assert (former["key_id"], former["below_seq"]) == (old.public.key_id, None)
    assert base64.b64decode(former["public_key"]) == old.public.raw  # what it sealed, others verify with this
    audited = fleet.admin.get("/api/v1/audit").json()
    assert {"device key changed", "device key change ordered"} <= {row["action"] for row in audited}


def test_a_lost_acknowledgement_is_repeated_and_old_envelopes_still_count(
    fleet: Running, device: FleetDevice
) -> None:
    old, new = device.key, PrivateKey.generate()
    device.send(Channel.TELEMETRY, device.outbox.add(window()))
    device.wait_ack(0)
    propose_next(device, new)
    told(device)
    # the device has not heard: it goes on with its old key
    device.send(Channel.TELEMETRY, device.outbox.add(window()))
    device.wait_ack(1)
    late = device.outbox.add(window())
    propose_next(device, new)
    assert told(device).known_key == new.public.key_id
    device.send(Channel.HELLO, device.state(knows=KNOWS))
    eventually(lambda: refusals(fleet, device).get("key-superseded") == 1, "an old hello is refused")
    # it goes over: what it sealed before still arrives, what comes after is the new key's alone
    device.key = device.outbox.key = new
    device.send(Channel.HELLO, device.state(knows=KNOWS))
    eventually(lambda: shown(fleet, device)["former_keys"][0]["below_seq"] == 3, "where the old one ends")
    device.send(Channel.TELEMETRY, late)
    device.wait_ack(2)
    device.outbox.key = old
    forged = device.outbox.add(window())
    device.send(Channel.TELEMETRY, forged)
    eventually(lambda: refusals(fleet, device).get("key-superseded") == 2, "beyond its end")


def test_a_revoked_former_key_counts_for_nothing(fleet: Running, device: FleetDevice) -> None:
    old, new = device.key, PrivateKey.generate()
    current = fleet.admin.post(f"/api/v1/devices/{device.id}/keys/{old.public.key_id}/revoke")
    assert current.status_code == 409 and "is known by" in current.json()["message"]
    propose_next(device, new)
    told(device)
    path = f"/api/v1/devices/{device.id}/keys/{old.public.key_id}/revoke"
    assert fleet.admin.post(path).json()["revoked"]
    device.send(Channel.TELEMETRY, device.outbox.add(window()))
    eventually(lambda: refusals(fleet, device).get("key-revoked") == 1, "nothing of it is taken")
    assert fleet.admin.post(f"/api/v1/devices/{device.id}/keys/{'0' * 32}/revoke").status_code == 404


def test_a_key_that_is_not_shown_or_not_free_does_not_follow(fleet: Running, device: FleetDevice) -> None:
    other = enrol(fleet.http, fleet.token())
    new = PrivateKey.generate()
    unproven = propose(device.fleet, other.id, device.key.public, new)
    propose_next(device, new, unproven)
    eventually(lambda: refusals(fleet, device).get("key-unproven") == 1, "for another device")
    propose_next(device, other.key)
    eventually(lambda: refusals(fleet, device).get("key-refused") == 1, "another device's")
    assert known(fleet, device) == device.key.public.key_id


def test_an_older_agent_is_not_ordered(fleet: Running) -> None:
    older = enrol(fleet.http, fleet.token())
    refused = fleet.admin.post(f"/api/v1/devices/{older.id}/rotate-key")
    assert refused.status_code == 409 and "update it first" in refused.json()["message"]


def test_a_real_agent_goes_over_and_nothing_of_its_telemetry_is_lost(fleet: Running, tmp_path: Path) -> None:
    home = Home(tmp_path / "device")

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [*AGENT, *arguments, "--home", str(home.folder)], capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    url = str(fleet.http.base_url)
    run("enroll", "--server", url, "--token", fleet.token(), "--profile", "x86-cpu", "--name", "real-1")

    def key() -> str:
        config = read_config(home)
        assert config is not None
        return PublicKey.from_base64(config.public_key).key_id

    def found() -> dict[str, Any]:
        row: dict[str, Any] = fleet.admin.get("/api/v1/devices/real-1").json()
        return row

    first = key()
    command = [*AGENT, "run", "--home", str(home.folder), "--hello", "1"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, stderr=log)
        try:
            until(lambda: found()["knows"], "its hello")
            assert fleet.admin.post("/api/v1/devices/real-1/rotate-key").status_code == 200
            until(lambda: key() != first, "it has gone over")
            second = key()
            until(
                lambda: found()["former_keys"] and found()["former_keys"][0]["below_seq"] is not None,
                "said",
            )
            assert "the next key is" in run("keys", "rotate")
            until(lambda: key() != second, "and again, asked at the device")
            process.terminate()
            assert process.wait(30) == 0
        finally:
            process.kill()
    assert PublicKey.from_base64(found()["public_key"]).key_id == key()
    assert {row["key_id"] for row in found()["former_keys"]} == {first, second}
    told_events = [row["name"] for row in found()["events"]]
    assert told_events.count("key-changed") == 2 and "stopped" in told_events
    refused = [r["reason"] for r in fleet.admin.get("/api/v1/refusals").json() if r["device"] == "real-1"]
    assert set(refused) <= {"key-superseded"}, "a hello may cross the word that another key counts"
    assert f"key       {key()}" in run("keys", "show")
