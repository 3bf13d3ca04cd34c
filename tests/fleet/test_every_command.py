"""Every command of edge-fleet, asked of a real server: what it does and what it says.

The tree of commands is walked: one that is neither run here nor named with the test that runs it fails.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from fleet_rows import FleetRows, digest
from fleet_server import Running
from sqlalchemy import insert

from edge_contracts.keys import PrivateKey, read_public
from edge_fleet import cli as program
from edge_fleet.schema import alerts, device_keys, review_samples, webhook_deliveries

TESTS = Path(__file__).parents[1]
GOOD = "correct horse battery"
# what these need is more than a server: where they are run, and a word of that test
ELSEWHERE = {
    "serve": ("fleet/test_cli.py", '"serve"'),
    "init": ("fleet/test_cli.py", 'run("init"'),
    "restore": ("fleet/storage/test_backup.py", "restore"),
    "simulate": ("fleet/simulation/test_cli.py", "simulate"),
    "telemetry tail": ("fleet/test_cli.py", '"telemetry", "tail"'),
    "release publish": ("fleet/test_cli.py", '"release", "publish"'),
    "trust apply": ("fleet/access/test_key_statements.py", '"apply"'),
    "rollout wait": ("fleet/rollouts/test_wait_cli.py", "wait"),
    "audit accept": ("fleet/access/test_audit_cli.py", "accept"),
}


# four minutes, and a part of the source tree: `make demo`
NOT_HERE = {"demo"}


def tree(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    """Every command, by its words; a group counts where it does something by itself."""
    if not isinstance(command, click.Group) or command.invoke_without_command:
        yield " ".join(path), command
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from tree(inner, (*path, name))


@pytest.fixture(scope="module")
def commands() -> dict[str, click.Command]:
    program._add_groups()
    return dict(tree(program.cli))


class Shell:
    """Runs commands against one server, and remembers which."""

    def __init__(self, fleet: Running, commands: dict[str, click.Command]) -> None:
        self.fleet, self.commands, self.ran = fleet, commands, set[str]()
        self.token, self.refused = fleet.token("admin", label="cli"), ""

    def __call__(self, *words: object, typed: str = "", code: int = 0) -> str:
        """What a command says, on both streams; it must end with this code."""
        plain = [str(word) for word in words]
        name = next(
            " ".join(plain[:n]) for n in (3, 2, 1) if len(plain) >= n and " ".join(plain[:n]) in self.commands
        )
        options = {option for part in self.commands[name].params for option in part.opts}
        where = {"--server": self.fleet.url, "--token": self.token} if "--token" in options else {}
        if not where and "--home" in options:
            where = {"--home": str(self.fleet.server.home.root)}
        given = [word for pair in where.items() for word in pair]
        result = CliRunner().invoke(program.cli, [*plain, *given], input=typed)
        assert result.exit_code == code, f"{' '.join(plain)}: {result.output} {result.exception}"
        self.ran.add(name)
        return result.output + (str(result.exception) if code else "")

    def json(self, *words: object) -> object:
        """What it says to a program."""
        return json.loads(self(*words, "--json"))


@pytest.fixture(scope="module")
def shell(fleet: Running, commands: dict[str, click.Command]) -> Shell:
    rows = FleetRows(fleet.server.store, fleet.server.now_ms)
    for version in ("1", "2"):
        rows.publish(version)
    rows.enrol("cam-1", "cam-2", "cam-3")
    return Shell(fleet, commands)


def _rollout(fleet: Running, *stages: str) -> str:
    """A draft that somebody else has made."""
    plan = {"format": "edgefleet.rollout/1", "release": "digits@1", "stages": [*stages] or ["1", "100%"]}
    with fleet.as_role("operator") as maker:
        return str(maker.post("/api/v1/rollouts", json={"plan": plan}).json()["id"])


def _rollouts(fleet: Running, shell: Shell, folder: Path) -> None:
    assert "cam" not in shell("rollout", "list")
    made = shell("rollout", "create", "--release", "digits@1", "--stages", "1,100%")
    assert "draft" in made
    first, refused, third = _rollout(fleet), _rollout(fleet), _rollout(fleet)
    assert "digits@1" in shell("rollout", "show", first)
    assert "approved by cli/" in shell("rollout", "approve", first, "--why", "seen")
    assert shell("rollout", "reject", refused, "--why", "not now") == f"{refused}: rejected\n"
    assert fleet.admin.get(f"/api/v1/rollouts/{refused}").json()["phase"] == "aborted"
    shell.refused = refused
    assert "is aborted" in shell("rollout", "start", refused, code=1)
    assert shell("rollout", "start", first) == f"{first}: running\n"
    assert shell("rollout", "pause", first) == f"{first}: paused\n"
    assert shell("rollout", "resume", first) == f"{first}: running\n"
    assert "cam-2" in shell("rollout", "device", first, "cam-2", "skip", "--why", "on a mast")
    assert shell("rollout", "advance", first) == f"{first}: running\n"
    assert shell("rollout", "abort", first) == f"{first}: aborted\n"
    shell("rollout", "start", third)
    assert third in shell("rollout", "rollback", third, "--why", "wrong model")
    assert shell("rollout", "two-person", "50") == "above 50 % of the fleet\n"
    assert shell("rollout", "two-person", "off") == "off\n" == shell("rollout", "two-person")
    assert json.loads(shell("rollout", "schema"))["title"]
    (folder / "plan.yaml").write_text(shell("rollout", "plan", "--new"))
    assert "stages" in (folder / "plan.yaml").read_text()
    assert "no release" in shell("rollout", "rehearse", "--release", "digits@9", "--select", "all", code=1)


def _releases(fleet: Running, shell: Shell, folder: Path) -> None:
    assert "digits" in shell("release", "list") and "digits" in shell("release", "show", "digits@1")
    assert "digits" in shell("release", "compare", "digits@1", "digits@2")
    assert "digits@1" in shell("release", "find", digest("1"))
    assert "cam-1" in shell("release", "explain", "digits@1")
    assert shell("release", "recall", digest("1"), "--csv").startswith("device,")
    for word in ("approve", "retire", "reopen", "withdraw", "reopen"):
        assert "digits" in shell("release", word, "digits@2", "--why", "seen")
    (folder / "report.html").write_text("<!doctype html><html><body>x</body></html>")
    assert "digits" in shell("release", "report", "digits@2", folder / "report.html")
    assert "second-person" in shell("release", "policy", "second-person")
    assert "none" in shell("release", "policy", "none")
    assert "onnxruntime" in shell("release", "needs", "onnxruntime:onnxruntime>=1.20")
    assert "onnxruntime" not in shell("release", "needs", "--clear")


def _alerts(fleet: Running, shell: Shell) -> None:
    now_ms = fleet.server.now_ms()
    row = {
        "rule": "silence", "subject": "cam-3", "level": "warning", "phase": "firing", "value": 1, "why": "w",
        "evidence": {}, "since_ms": now_ms, "fired_ms": now_ms, "changed_ms": now_ms,
    }  # fmt: skip
    with fleet.server.store.write() as connection:
        number = connection.execute(insert(alerts).values(**row).returning(alerts.c.id)).scalar_one()
    assert "cam-3" in shell("alert", "list") and "cam-3" in shell("alert", "show", number)
    assert str(number) in shell("alert", "ack", number, "--why", "ladder ordered")
    assert str(number) in shell("alert", "silence", number, "--for", "4h")
    assert "silence" in shell("alert", "rules")
    shell("alert", "rule", "silence", "--level", "critical")
    assert "critical" in next(line for line in shell("alert", "rules").splitlines() if "silence" in line)


def _data(fleet: Running, shell: Shell, folder: Path) -> None:
    row = {
        "digest": digest("9"), "device": "cam-1", "number": 1, "received_ms": 1, "time_ms": 1,
        "bundle": digest("1"), "artifact": "a", "reason": "r", "answer_name": "", "label_name": "",
        "labelled_by": "", "raw": b"",
    }  # fmt: skip
    with fleet.server.store.write() as connection:
        query = insert(review_samples).values(**row).returning(review_samples.c.id)
        number = connection.execute(query).scalar_one()
    assert "cam-1" in shell("dataset", "list")
    assert "1" in shell("dataset", "label", number, "1")
    assert "neither in .npz" in shell("dataset", "export", "--output", folder / "x.csv", code=1)
    hook = str(shell("webhook", "add", "http://127.0.0.1:9/x")).split()[0]
    assert "http://127.0.0.1:9/x" in shell("webhook", "list")
    assert shell("webhook", "test", hook)
    assert "1 receivers are told" in shell("dataset", "retrain", "digits@1", "--why", "snow")
    dead = {
        "webhook": hook, "message": "m", "kind": "test", "body": "{}", "created_ms": 1, "next_ms": 1,
        "attempts": 9, "answer": "x", "dead_ms": 2,
    }  # fmt: skip
    with fleet.server.store.write() as connection:
        query = insert(webhook_deliveries).values(**dead).returning(webhook_deliveries.c.id)
        number = connection.execute(query).scalar_one()
    assert str(number) in shell("webhook", "deliveries", "--dead")
    assert str(number) in shell("webhook", "retry", number)
    assert hook in shell("webhook", "remove", hook)


def _people(fleet: Running, shell: Shell, folder: Path) -> None:
    assert "pat" in shell("user", "add", "pat", "--role", "viewer", typed=f"{GOOD}\n{GOOD}\n")
    assert "pat" in shell("user", "set", "pat", "--role", "operator")
    assert "operator" in shell("user", "list")
    secret = shell("user", "login", "pat", "--server", fleet.url, typed=f"{GOOD}\n").split()[-1]
    assert "pat" in shell("user", "sessions")
    assert "1" in shell("user", "end", "--all-of", "pat")
    assert fleet.http.get("/api/v1/devices", headers={"Authorization": f"Bearer {secret}"}).status_code == 401
    made = shell.json("token", "create", "--role", "viewer", "--label", "wall")
    assert isinstance(made, dict)
    assert made["id"] in shell("token", "list")
    assert made["id"] in shell("token", "revoke", made["id"])


def _devices_and_keys(fleet: Running, shell: Shell, folder: Path) -> None:
    assert "cam-1" in shell("devices") and "cam-1" in shell("devices", "show", "cam-1")
    assert "cam-1" in shell("devices", "find", "cam-1") and "cam-1" not in shell("devices", "find", "cam-2")
    assert "cam-1" in shell("devices", "rotate", "cam-1", code=1), "no agent there that knows how"
    former = PrivateKey.generate().public
    with fleet.server.store.write() as connection:
        row = {"key_id": former.key_id, "device": "cam-1", "public_key": former.raw}
        connection.execute(insert(device_keys).values(**row, since_ms=1, until_ms=2))
    assert former.key_id in shell("devices", "revoke-key", "cam-1", former.key_id)
    assert "cam-3" in shell("devices", "revoke", "cam-3")
    shell("refusals")
    keys = {word: PrivateKey.generate().public for word in ("stay", "retire", "revoke")}
    for label, key in keys.items():
        (folder / "key.pem").write_bytes(key.pem)
        assert key.key_id in shell("trust", "add", folder / "key.pem", "--label", label)
    for word in ("retire", "revoke"):
        assert "goes to 2 devices" in shell("trust", word, keys[word].key_id)
    assert "revoked" in shell("trust", "list")
    said = shell("trust", "statements")
    assert f"retire {keys['retire'].key_id[:12]}" in said and f"revoke {keys['revoke'].key_id[:12]}" in said


def _directors(fleet: Running, shell: Shell, folder: Path) -> None:
    first = fleet.server.keys.director.public.key_id
    assert first in shell("key", "status")
    assert "waits" in shell("key", "new-director", "--output", folder / "director.pem")
    second = read_public(folder / "director.pem").key_id
    assert f"{second} directs" in shell("key", "rotate-director")
    assert f"{first} is retired" in shell("key", "retire-director", first, "--force")
    assert second in shell("key", "status")


def _the_log(fleet: Running, shell: Shell) -> None:
    everything = shell.json("audit", "list", "--most", 1000)
    assert isinstance(everything, list)
    filters: tuple[tuple[str, str, Callable[[Any], bool]], ...] = (
        ("--actor", "cli/", lambda row: "cli/" in row["actor"]),
        ("--action", "token", lambda row: "token" in row["action"]),
        ("--text", "pat", lambda row: "pat" in row["subject"] + json.dumps(row["detail"])),
    )
    for option, word, holds in filters:
        found = shell.json("audit", "list", "--most", 1000, option, word)
        assert found == [row for row in everything if holds(row)], option
        assert 0 < len(found) < len(everything), option
    both = shell.json("audit", "list", "--actor", "cli/", "--text", "not now")
    assert isinstance(both, list) and [row["subject"] for row in both] == [shell.refused]
    assert "not now" in shell("audit", "list", "--text", "not now")
    lines = shell("audit", "export").splitlines()
    assert len(lines) > len(everything)
    assert shell("audit", "export", "--format", "csv").startswith("id,")
    assert "each as it was written" in shell("audit", "verify")


def _the_server(fleet: Running, shell: Shell, folder: Path) -> None:
    assert "nats" in shell("broker", "show")
    accounts = json.loads(shell("broker", "accounts"))
    assert {"fleet.server", "cam-1"} <= {one["user"] for one in accounts}
    assert "cam-3" not in {one["user"] for one in accounts}, "it was put out"
    assert "messages wait" in shell("health")
    assert "this release" in shell("database", "status")
    assert "another server runs" in shell("database", "upgrade", code=1)
    # rows alone, without their archives: a whole one is in test_backup.py
    assert "names it as published" in shell("backup", folder / "b", code=1)
    assert "0" in shell("broker", "outage", "--seconds", "0")


def test_every_command_does_what_it_says_and_none_is_left_out(
    fleet: Running, shell: Shell, tmp_path: Path
) -> None:
    _rollouts(fleet, shell, tmp_path)
    _releases(fleet, shell, tmp_path)
    _alerts(fleet, shell)
    _data(fleet, shell, tmp_path)
    _people(fleet, shell, tmp_path)
    _devices_and_keys(fleet, shell, tmp_path)
    _the_log(fleet, shell)
    _the_server(fleet, shell, tmp_path)
    _directors(fleet, shell, tmp_path)
    left = set(shell.commands) - shell.ran - set(ELSEWHERE) - NOT_HERE
    assert left == set(), "run it here, or name the test that does"
    assert set(ELSEWHERE) <= set(shell.commands)


@pytest.mark.parametrize("name", sorted(ELSEWHERE))
def test_what_is_run_elsewhere_is_there(name: str) -> None:
    path, words = ELSEWHERE[name]
    assert words in (TESTS / path).read_text()
