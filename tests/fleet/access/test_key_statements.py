"""Keys that change over the signed channel, to a real agent at a real server and broker."""

from __future__ import annotations

import base64
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner
from fleet_device import eventually
from fleet_server import Running, fleet_server

from edge_agent.device.config import read_config, trusted_publishers
from edge_agent.device.home import Home
from edge_contracts.errors import KeyUnknown
from edge_contracts.keys import PrivateKey, TrustedKeys
from edge_contracts.trust import KeyStatement, sign_keys
from edge_fleet.access import key_cli, key_statements
from edge_fleet.access.key_statements import for_devices, say, take_in
from edge_fleet.errors import Conflict, Forbidden, NotFound
from edge_fleet.fleet_cli import trust as commands
from edge_fleet.registry import trust
from edge_fleet.registry import trusted_publishers as at_the_server
from edge_fleet.store import Store, open_store

DIRECTOR, OLD, NEW, STRANGER = (PrivateKey.from_seed(bytes([n] * 32)) for n in range(1, 5))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """SQLite, with one publisher."""
    opened = open_store(f"sqlite:///{tmp_path / 'fleet.db'}")
    with opened.write() as connection:
        trust(connection, OLD.public, "old", "x", 0)
    yield opened
    opened.close()


def _signed(key: PrivateKey, counter: int, **said: Any) -> bytes:
    return sign_keys(KeyStatement(counter=counter, **said), key)


def _rotate(store: Store) -> None:
    with store.write() as connection:
        envelope = _signed(OLD, 1, add=(NEW.public.base64,))
        take_in(connection, envelope, DIRECTOR.public, "f", "ada", 1)
        say(connection, DIRECTOR, "f", "ada", 2, revoke=[OLD.public.key_id], reason="stolen")


def test_a_key_that_was_revoked_publishes_nothing_and_its_successor_does(store: Store) -> None:
    _rotate(store)
    with store.read() as connection:
        keys = at_the_server(connection)
    assert set(keys.keys) == {NEW.public.key_id}
    assert set(keys.revoked) == {OLD.public.key_id}


def test_the_last_publisher_is_not_taken_away(store: Store) -> None:
    old = [OLD.public.key_id]
    for retire, revoke in ((old, []), ([], old)):
        with store.write() as connection, pytest.raises(Conflict, match="leave no publisher"):
            say(connection, DIRECTOR, "f", "ada", 1, retire=retire, revoke=revoke)
    with store.read() as connection:
        assert key_statements.listed(connection) == []


def test_what_is_not_known_is_not_revoked(store: Store) -> None:
    with store.write() as connection, pytest.raises(NotFound):
        say(connection, DIRECTOR, "f", "ada", 1, revoke=["0" * 32])


@pytest.mark.parametrize(
    ("envelope", "error"),
    [
        (_signed(STRANGER, 1, add=(NEW.public.base64,)), KeyUnknown),
        (_signed(DIRECTOR, 1, add=(NEW.public.base64,)), KeyUnknown),
        (_signed(OLD, 1, fleet="other", add=(NEW.public.base64,)), Forbidden),
        (_signed(OLD, 1, director=STRANGER.public.base64), Forbidden),
    ],
)
def test_who_may_not_say_so_is_not_followed(store: Store, envelope: bytes, error: type[Exception]) -> None:
    with store.write() as connection, pytest.raises(error):
        take_in(connection, envelope, DIRECTOR.public, "f", "ada", 1)


def test_a_revoked_key_says_nothing_more_and_does_not_come_back(store: Store) -> None:
    _rotate(store)
    with store.write() as connection, pytest.raises(Forbidden, match="who directs, and only that"):
        take_in(connection, _signed(OLD, 9, add=(STRANGER.public.base64,)), DIRECTOR.public, "f", "a", 3)
    with store.write() as connection, pytest.raises(Conflict, match="does not come back"):
        take_in(connection, _signed(NEW, 9, add=(OLD.public.base64,)), DIRECTOR.public, "f", "a", 3)


def test_an_old_statement_is_not_taken_in_again(store: Store) -> None:
    _rotate(store)
    with store.write() as connection, pytest.raises(Conflict, match="has counter 1, the last one had 1"):
        take_in(connection, _signed(NEW, 1, add=(STRANGER.public.base64,)), DIRECTOR.public, "f", "a", 3)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with fleet_server(tmp_path_factory.mktemp("server") / "home") as found:
        yield found


def _agent(*words: str | Path) -> list[str]:
    return [str(Path(sys.executable).with_name("edge-agent")), *map(str, words)]


def _standing(home: Path) -> TrustedKeys:
    place = Home(home)
    return trusted_publishers(place, read_config(place))


def test_a_real_agent_follows_a_rotation_and_a_revocation(fleet: Running, tmp_path: Path) -> None:
    home, old, new = tmp_path / "device", OLD, NEW
    (tmp_path / "old.pem").write_bytes(old.public.pem)
    body = {"public_key": old.public.base64, "label": "old"}
    assert fleet.admin.post("/api/v1/publishers", json=body).status_code == 201
    enrol = _agent("enroll", "--server", fleet.url, "--token", fleet.token(), "--profile", "arm-cpu")
    subprocess.run([*enrol, "--name", "cam", "--home", home], check=True, capture_output=True, timeout=60)
    with (tmp_path / "log").open("wb") as log:
        agent = subprocess.Popen(_agent("run", "--home", home), stdout=log, stderr=log)
    try:
        assert set(_standing(home).keys) == {old.public.key_id}
        rotate = tmp_path / "rotate.keys"
        rotate.write_bytes(_signed(old, 1, add=(new.public.base64,), retire=(old.public.key_id,)))
        token = fleet.server.home.admin_token.read_text().strip()
        where = ["--server", fleet.url, "--token", token]
        assert key_cli.apply.name == "apply"
        applied = CliRunner().invoke(commands, ["apply", str(rotate), *where])
        assert applied.exit_code == 0 and "goes to 1 devices" in applied.output, applied.output
        eventually(lambda: set(_standing(home).keys) == {new.public.key_id}, "the rotation")
        assert set(_standing(home).retired) == {old.public.key_id}
        revoked = CliRunner().invoke(
            commands, ["revoke", str(tmp_path / "old.pem"), "--reason", "stolen", *where]
        )
        assert revoked.exit_code == 0, revoked.output
        eventually(lambda: set(_standing(home).revoked) == {old.public.key_id}, "the revocation")
        assert "revoked" in CliRunner().invoke(commands, ["list", *where]).output
        assert "stolen" in str(fleet.admin.get("/api/v1/key-statements").json())
        deeds = [row["action"] for row in fleet.admin.get("/api/v1/audit").json()]
        assert deeds.count("statement about keys") == 2
    finally:
        agent.terminate()
        agent.wait(30)


def test_a_device_that_enrols_later_is_told_at_once_and_sent_nothing_old(fleet: Running) -> None:
    """Runs after the rotation above: what a new device trusts is what counts now."""
    rows = fleet.admin.get("/api/v1/publishers").json()
    good = [row["public_key"] for row in rows if row["state"] == "trusted"]
    assert good == [NEW.public.base64]
    with fleet.server.store.read() as connection:
        found = for_devices(connection, ["cam", "nobody"])
        assert len(found["cam"]) == 2 and found["nobody"] == ()


@pytest.mark.parametrize("path", ["key-statements", "publishers/0/revoke", "publishers/0/retire"])
def test_only_an_admin_changes_keys(fleet: Running, path: str) -> None:
    for role in ("operator", "publisher", "approver"):
        with fleet.as_role(role) as who:
            assert who.post(f"/api/v1/{path}", json={}).status_code == 403


@pytest.mark.parametrize("content", [b"", b"{}", b"x" * 100])
def test_what_is_no_statement_is_refused(fleet: Running, content: bytes) -> None:
    body = {"statement": base64.b64encode(content).decode()}
    answer: httpx.Response = fleet.admin.post("/api/v1/key-statements", json=body)
    assert answer.status_code == 400
