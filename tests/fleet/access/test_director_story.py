"""A director that changes, and one that is stolen: a real server and broker, and a real agent."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from fleet_device import FleetDevice, enrol, eventually
from fleet_server import Running, fleet_server

from edge_agent.device.config import follow, read_config
from edge_agent.device.home import Home
from edge_agent.updates.store import Store
from edge_contracts import cose
from edge_contracts.envelope import seal
from edge_contracts.keys import PrivateKey, PublicKey, read_public, write_private
from edge_contracts.messages import Assignment
from edge_contracts.topics import Channel, topic
from edge_contracts.trust import KeyStatement, sign_keys
from edge_convert.keys_cli import change as keys_change
from edge_fleet.cli import _add_groups, cli
from edge_fleet.keys import read_keys

PUBLISHER = PrivateKey.from_seed(bytes([2] * 32))


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    _add_groups()
    with fleet_server(tmp_path_factory.mktemp("server") / "home") as found:
        body = {"public_key": PUBLISHER.public.base64, "label": "owner"}
        assert found.admin.post("/api/v1/publishers", json=body).status_code == 201
        yield found


def fleet_cli(fleet: Running, *words: str, code: int = 0) -> str:
    """One command, as an operator gives it."""
    token = fleet.server.home.admin_token.read_text().strip()
    done = CliRunner().invoke(cli, [*words, "--server", fleet.url, "--token", token])
    assert done.exit_code == code, done.output
    return f"{done.output}{done.exception or ''}"


def agent(*words: str | Path) -> list[str]:
    return [str(Path(sys.executable).with_name("edge-agent")), *map(str, words)]


def said(*words: str | Path) -> str:
    """What the agent's command line says."""
    return subprocess.run(agent(*words), capture_output=True, text=True, check=False).stdout


@contextmanager
def at_work(home: Path) -> Iterator[None]:
    """The agent, for a while."""
    with (home.parent / "log").open("ab") as log:
        process = subprocess.Popen(agent("run", "--home", home, "--hello", "1"), stdout=log, stderr=log)
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture
def home(fleet: Running, tmp_path: Path) -> Path:
    made = tmp_path / "device"
    words = ("--server", fleet.url, "--token", fleet.token(), "--profile", "arm-cpu", "--home", made)
    subprocess.run(agent("enroll", *words), check=True, capture_output=True, timeout=60)
    return made


def obeyed(home: Path) -> str:
    config = read_config(Home(home))
    assert config is not None
    return config.director.key_id


def heard(fleet: Running, home: Path) -> tuple[str, bool]:
    """Whom the server knows that the device obeys."""
    config = read_config(Home(home))
    assert config is not None
    found = fleet.admin.get(f"/api/v1/devices/{config.device}").json()
    return found["director"], found["telemetry"]["high"] is not None and found["telemetry"]["high"] >= 0


def current(fleet: Running) -> str:
    return fleet.server.directors.current.public.key_id


def events(fleet: Running, home: Path, name: str) -> list[dict[str, Any]]:
    config = read_config(Home(home))
    assert config is not None
    found = fleet.admin.get(f"/api/v1/devices/{config.device}").json()["events"]
    return [event for event in found if event["name"] == name]


def test_a_device_that_was_away_for_two_rotations_is_led_along(fleet: Running, home: Path) -> None:
    first = current(fleet)
    with at_work(home):
        eventually(lambda: heard(fleet, home) == (first, True), "its first words")
    fleet_cli(fleet, "key", "rotate-director", "--reason", "every year")
    second = current(fleet)
    fleet_cli(fleet, "key", "rotate-director", "--reason", "and again")
    third = current(fleet)
    assert len({first, second, third}) == 3
    assert obeyed(home) == first
    status = json.loads(fleet_cli(fleet, "key", "status", "--json"))
    assert {one["key_id"]: one["devices"] for one in status}[first] == 1
    assert "1 devices obey" in fleet_cli(fleet, "key", "retire-director", first, code=1)
    with at_work(home):
        eventually(lambda: heard(fleet, home)[0] == third, "its word that it obeys the third")
        assert obeyed(home) == third
        eventually(lambda: len(events(fleet, home, "director-changed")) == 2, "its telemetry")
    assert "is retired" in fleet_cli(fleet, "key", "retire-director", first)
    listed = subprocess.run(
        agent("trust", "list", "--home", home), capture_output=True, text=True, check=True
    )
    assert third in listed.stdout
    doctor = subprocess.run(agent("doctor", "--home", home), capture_output=True, text=True, check=False)
    assert f"{third}, named by a statement since the enrolment" in doctor.stdout


def test_one_that_comes_back_after_its_director_was_retired_is_led_too(fleet: Running, home: Path) -> None:
    before = current(fleet)
    assert obeyed(home) == before
    fleet_cli(fleet, "key", "rotate-director")
    assert "devices depended on it" in fleet_cli(fleet, "key", "retire-director", before, "--force")
    with at_work(home):
        eventually(lambda: heard(fleet, home) == (current(fleet), True), "its way to the new one")


class Before(FleetDevice):
    """An agent of before: it follows a statement of its director and says nothing of that."""

    def _received(self, _client: Any, _data: Any, message: Any) -> None:
        envelope = cose.parse(message.payload)
        self.seen.put((envelope.key_id, message.topic.rsplit("/", 1)[-1]))

    seen: queue.Queue[tuple[str, str]]


def test_an_agent_of_before_is_told_by_each_that_it_may_obey(fleet: Running) -> None:
    made = enrol(fleet.http, fleet.token())
    device = Before(made.enrolled, made.key, made.profile)
    device.seen = queue.Queue()
    first = PublicKey.from_base64(made.enrolled.director_key).key_id
    device.connect()
    try:
        fleet_cli(fleet, "key", "rotate-director")
        device.hello()
        wanted = {(key, kind) for key in (first, current(fleet)) for kind in ("ack", "assignment")}
        seen: set[tuple[str, str]] = set()
        while not wanted <= seen:
            seen.add(device.seen.get(timeout=20))
        assert "and 1 with an agent of before may" in fleet_cli(
            fleet, "key", "retire-director", first, code=1
        )
    finally:
        device.close()
    fleet_cli(fleet, "key", "retire-director", first, "--force")


def test_a_stolen_director_is_replaced_by_a_publishers_word_without_a_visit(
    fleet: Running, home: Path, tmp_path: Path
) -> None:
    stolen, thief = fleet.server.directors.current, PrivateKey.generate()
    with at_work(home):
        eventually(lambda: heard(fleet, home)[1], "its first words")
    # the thief was faster: the device obeys a key of the thief's, and has seen the highest number there is
    place, config = Home(home), read_config(Home(home))
    assert config is not None
    counter = (1 << 62) + 1
    statement = KeyStatement(fleet="f", counter=counter, director=thief.public.base64)
    with place.locked():
        assert follow(place, config, sign_keys(statement, stolen)) is not None
        store = Store(place)
        store.save(store.slots.__class__(number=1 << 62))
    with at_work(home):
        eventually(lambda: heard(fleet, home)[0] == thief.public.key_id, "whom it obeys")
        assert "stranger" in fleet_cli(fleet, "key", "status", code=1)
        assert obeyed(home) == thief.public.key_id
        # the owner: a new key, named by a publisher whose key was never on the server
        waited = fleet.admin.post("/api/v1/directors").json()["key_id"]
        fleet_cli(fleet, "key", "new-director", "--output", str(tmp_path / "director.pem"))
        assert read_public(tmp_path / "director.pem").key_id != waited, "the thief may have it, too"
        write_private(PUBLISHER, tmp_path / "publisher.pem")
        statement_file = tmp_path / "new.keys"
        words = ["--sign-key", str(tmp_path / "publisher.pem"), "--counter", "1"]
        words += ["--director", str(tmp_path / "director.pem"), "--output", str(statement_file)]
        done = CliRunner().invoke(keys_change, words)
        assert done.exit_code == 0, done.output
        fleet_cli(fleet, "trust", "apply", str(statement_file))
        owner = current(fleet)
        assert owner == read_public(tmp_path / "director.pem").key_id
        eventually(lambda: heard(fleet, home)[0] == owner, "its way back")
        # what the thief says now is not listened to
        again = KeyStatement(fleet="f", counter=counter + 1, director=thief.public.base64)
        for signer in (stolen, thief):
            said("trust", "apply", _file(tmp_path, sign_keys(again, signer)), "--home", home)
            assert obeyed(home) == owner
        eventually(
            lambda: Store(Home(home)).slots.number < 1 << 62 and Store(Home(home)).slots.era == 1,
            "the owner's numbers",
        )
        assert fleet_cli(fleet, "key", "status")
    verified = CliRunner().invoke(cli, ["audit", "verify", "--home", str(fleet.server.home.root)])
    assert verified.exit_code == 0, verified.output
    assert set(read_keys(fleet.server.home.keys).directors) == set(fleet.server.directors.standing)


def test_what_a_stranger_assigns_changes_nothing_and_is_told(fleet: Running, home: Path) -> None:
    stranger = PrivateKey.generate()
    before = obeyed(home)
    with at_work(home):
        eventually(lambda: heard(fleet, home)[1], "its first words")
        config = read_config(Home(home))
        assert config is not None
        where = topic("f", config.device, Channel.ASSIGNMENT)
        fleet.server.link.publish(where, seal(Assignment(device=config.device, number=99), where, stranger))
        eventually(lambda: events(fleet, home, "director-unknown"), "its word about it")
        assert stranger.public.key_id in events(fleet, home, "director-unknown")[0]["detail"]
        assert obeyed(home) == before
        assert Store(Home(home)).slots.number != 99


def _file(folder: Path, content: bytes) -> Path:
    path = folder / "some.keys"
    path.write_bytes(content)
    return path
