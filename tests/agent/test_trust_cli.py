"""edge-agent trust: add, revoke, apply, list, and the short form of add."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
from agent_bundles import build
from click.testing import CliRunner, Result

from edge_agent.agent import Agent
from edge_agent.cli import main
from edge_agent.device.home import Home
from edge_agent.settings import Settings
from edge_agent.updates.store import Store
from edge_contracts.keys import PrivateKey
from edge_contracts.trust import KeyStatement, sign_keys

OLD, NEW = PrivateKey.generate(), PrivateKey.generate()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, key in (("old", OLD), ("new", NEW)):
        (tmp_path / f"{name}.pem").write_bytes(key.public.pem)
    return tmp_path


def trust(folder: Path, *arguments: str | Path) -> Result:
    command = ["trust", *map(str, arguments), "--home", str(folder / "home")]
    return CliRunner().invoke(main, command, catch_exceptions=False)


def standings(folder: Path) -> dict[str, str]:
    found = json.loads(trust(folder, "list", "--json").output)
    return {one["key_id"]: one["standing"] for one in found["publishers"]}


def test_a_publisher_is_trusted_in_both_spellings_and_listed(folder: Path) -> None:
    assert "nobody is trusted" in trust(folder, "list").output
    assert trust(folder, folder / "old.pem").exit_code == 0
    assert trust(folder, "add", folder / "new.pem").exit_code == 0
    assert standings(folder) == {OLD.public.key_id: "trusted", NEW.public.key_id: "trusted"}
    assert OLD.public.key_id in trust(folder, "list").output


def test_a_publisher_is_revoked_by_its_id_or_its_file(folder: Path) -> None:
    for name in ("old", "new"):
        trust(folder, "add", folder / f"{name}.pem")
    assert trust(folder, "revoke", OLD.public.key_id).exit_code == 0
    assert trust(folder, "revoke", folder / "new.pem").exit_code == 0
    assert set(standings(folder).values()) == {"revoked"}
    refused = trust(folder, "revoke", "0" * 32)
    assert refused.exit_code == 1 and "neither a file nor the id" in refused.output


def test_a_statement_is_followed_once_and_a_strangers_is_refused(folder: Path) -> None:
    trust(folder, folder / "old.pem")
    statement = KeyStatement(counter=1, add=(NEW.public.base64,), retire=(OLD.public.key_id,))
    (folder / "rotate.keys").write_bytes(sign_keys(statement, OLD))
    assert trust(folder, "apply", folder / "rotate.keys").output == "followed\n"
    assert standings(folder) == {OLD.public.key_id: "retired", NEW.public.key_id: "trusted"}
    again = trust(folder, "apply", folder / "rotate.keys")
    assert again.exit_code == 1 and "is retired here" in again.output
    (folder / "stranger.keys").write_bytes(sign_keys(statement, PrivateKey.generate()))
    refused = trust(folder, "apply", folder / "stranger.keys")
    assert refused.exit_code == 1 and "not trusted here" in refused.output
    assert trust(folder, "apply", folder / "nowhere").exit_code == 1


def test_a_running_agent_takes_keys_and_statements_and_acts_on_them(folder: Path) -> None:
    (folder / "1.bundle").write_bytes(build(version="1", key=OLD))
    home = folder / "home"
    install = ["install", str(folder / "1.bundle"), "--trust", str(folder / "old.pem"), "--home", str(home)]
    assert CliRunner().invoke(main, install, catch_exceptions=False).exit_code == 0
    agent = Agent(Home(home), Settings())
    with Home(home).locked():
        thread = threading.Thread(target=agent.run)
        thread.start()
        try:
            assert "is trusted" in trust(folder, "add", folder / "new.pem").output
            statement = KeyStatement(counter=1, revoke=(OLD.public.key_id,), stop=True)
            (folder / "stolen.keys").write_bytes(sign_keys(statement, NEW))
            assert trust(folder, "apply", folder / "stolen.keys").output == "followed\n"
            assert trust(folder, "apply", folder / "stolen.keys").output == "known already\n"
            assert Store(Home(home)).slots.active is None, "it answers with a stopped key's bundle"
            assert "trusted no longer" in trust(folder, "revoke", NEW.public.key_id).output
        finally:
            agent.stop()
            thread.join()
    assert standings(folder) == {OLD.public.key_id: "revoked", NEW.public.key_id: "revoked"}
