"""`edge-fleet rollout wait`: its exit code is what a pipeline goes by."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner
from fleet_rows import FleetRows
from fleet_server import Running, fleet_server, serving
from sqlalchemy import update

from edge_fleet import patience, schema
from edge_fleet.brokers.child import free_loopback_port
from edge_fleet.client import Client
from edge_fleet.errors import RolloutNotDone, ServerUnreachable
from edge_fleet.rollouts import rehearse_cli, wait_cli
from edge_fleet.rollouts.rehearse_cli import rehearse
from edge_fleet.rollouts.wait_cli import wait


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with fleet_server(tmp_path_factory.mktemp("server") / "home") as found:
        FleetRows(found.server.store, found.server.now_ms).enrol("d1", "d2")
        yield found


def _rollout(fleet: Running, version: str) -> str:
    FleetRows(fleet.server.store, fleet.server.now_ms).publish(version)
    plan = {"format": "edgefleet.rollout/1", "release": f"digits@{version}", "stages": [1, "100%"]}
    made = fleet.admin.post("/api/v1/rollouts", json={"plan": plan})
    assert made.status_code == 201, made.text
    return str(made.json()["id"])


def _wait(fleet: Running, *options: str) -> Any:
    token = fleet.server.home.admin_token.read_text().strip()
    return CliRunner().invoke(wait, [*options, "--server", fleet.url, "--token", token])


def test_one_that_goes_on_is_not_waited_for_beyond_the_time(fleet: Running) -> None:
    told = _wait(fleet, _rollout(fleet, "1"), "--timeout", "0")
    assert isinstance(told.exception, RolloutNotDone)
    assert "after 0 s, and goes on" in str(told.exception)


def test_one_that_was_aborted_did_not_arrive(fleet: Running) -> None:
    rollout = _rollout(fleet, "2")
    fleet.admin.post(f"/api/v1/rollouts/{rollout}/abort")
    for options in ((), ("--stage", "1")):
        told = _wait(fleet, rollout, *options, "--json")
        assert isinstance(told.exception, RolloutNotDone)
        assert f"rollout {rollout} is aborted" in str(told.exception)
        assert json.loads(told.output)["phase"] == "aborted"


def test_one_that_is_through_is_waited_for_and_so_is_a_stage(fleet: Running) -> None:
    rollout = _rollout(fleet, "3")
    rows = schema.rollouts
    for phase, stage in (("paused", 1), ("completed", 1)):
        with fleet.server.store.write() as connection:
            connection.execute(
                update(rows).where(rows.c.id == rollout).values(phase=phase, stage=stage, why="so it is")
            )
        told = _wait(fleet, rollout, *(("--stage", "1") if phase == "paused" else ()), "--timeout", "0")
        assert told.exit_code == 0, told.output
        assert f"{rollout} is {phase}, stage 2 of 2: so it is" in told.output


@pytest.mark.parametrize("phase", ["held", "rolling-back", "returning-stage"])
def test_a_stage_that_passed_before_a_gate_failed_is_not_taken_for_well(fleet: Running, phase: str) -> None:
    rollout = _rollout(fleet, str(30 + len(phase)))
    rows = schema.rollouts
    here = {"phase": phase, "stage": 1, "started_ms": fleet.server.now_ms(), "why": "error_rate: 9 of 10"}
    with fleet.server.store.write() as connection:
        connection.execute(update(rows).where(rows.c.id == rollout).values(**here))
    told = _wait(fleet, rollout, "--stage", "1", "--timeout", "0")
    with fleet.server.store.write() as connection:  # its devices are others' again
        connection.execute(update(rows).where(rows.c.id == rollout).values(phase="aborted"))
    assert isinstance(told.exception, RolloutNotDone), told.output
    assert "stage 2 of 2: error_rate: 9 of 10" in str(told.exception)


def test_one_that_there_is_not_is_refused(fleet: Running) -> None:
    assert "no rollout" in str(_wait(fleet, "r999").exception)


def test_a_rehearsal_says_what_it_waits_for(fleet: Running) -> None:
    FleetRows(fleet.server.store, fleet.server.now_ms).publish("9")
    token = fleet.server.home.admin_token.read_text().strip()
    options = ["--release", "digits@9", "--select", "device=d1", "--wait", "0"]
    told = CliRunner().invoke(rehearse, [*options, "--server", fleet.url, "--token", token])
    assert "it goes on, see: edge-fleet rollout show" in str(told.exception)
    assert told.stderr.startswith("r") and ": running, " in told.stderr


def test_a_rehearsal_of_nobody_is_refused_in_one_line_and_leaves_nothing(fleet: Running) -> None:
    FleetRows(fleet.server.store, fleet.server.now_ms).publish("11")
    token = fleet.server.home.admin_token.read_text().strip()
    before = [one["id"] for one in fleet.admin.get("/api/v1/rollouts").json()]
    told = CliRunner().invoke(
        rehearse,
        ["--release", "digits@11", "--select", "site=nowhere", "--server", fleet.url, "--token", token],
    )
    assert str(told.exception) == "the rehearsal would reach no device: none matches 'site=nowhere'"
    assert [one["id"] for one in fleet.admin.get("/api/v1/rollouts").json()] == before


@pytest.mark.parametrize("options", [(), ("--json",)], ids=["told", "json"])
def test_a_rehearsal_of_which_nobody_went_back_is_no_success(
    fleet: Running, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    version = "13" if options else "14"
    FleetRows(fleet.server.store, fleet.server.now_ms).publish(version)
    token = fleet.server.home.admin_token.read_text().strip()

    def somebody_aborts(_seconds: float) -> None:
        newest: str = fleet.admin.get("/api/v1/rollouts").json()[0]["id"]
        fleet.admin.post(f"/api/v1/rollouts/{newest}/abort").raise_for_status()

    clock = SimpleNamespace(monotonic=time.monotonic, sleep=somebody_aborts)
    monkeypatch.setattr(rehearse_cli, "time", clock)
    asked = ["--release", f"digits@{version}", "--select", "device=d2", *options]
    told = CliRunner().invoke(rehearse, [*asked, "--server", fleet.url, "--token", token])
    assert "nobody went back" in str(told.exception)
    if options:
        said = json.loads(told.stdout)
        assert said["phase"] == "aborted" and said["safety"] is None and said["why"]


def test_a_rollout_of_nobody_that_is_no_rehearsal_stays_a_draft(fleet: Running) -> None:
    FleetRows(fleet.server.store, fleet.server.now_ms).publish("12")
    plan = {
        "format": "edgefleet.rollout/1",
        "release": "digits@12",
        "stages": ["100%"],
        "select": "site=moon",
    }
    answer = fleet.admin.post("/api/v1/rollouts", json={"plan": plan, "start": True})
    assert answer.status_code == 409 and "was made, but not started" in answer.json()["message"]
    made = answer.json()["message"].split()[0]
    assert fleet.admin.get(f"/api/v1/rollouts/{made}").json()["phase"] == "draft"


def test_a_server_that_is_away_meanwhile_is_waited_for(
    fleet: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pipeline must not fail because a server was started again while its canary went on."""
    rollout, port = _rollout(fleet, "10"), free_loopback_port()
    token = fleet.server.home.admin_token.read_text().strip()
    with ExitStack() as up:

        def goes(_seconds: float) -> None:
            up.close()

        def comes_back(_seconds: float) -> None:
            with fleet.server.store.write() as connection:
                mine = schema.rollouts.c.id == rollout
                connection.execute(update(schema.rollouts).where(mine).values(phase="completed"))
            up.enter_context(serving(fleet.server, port))

        monkeypatch.setattr(wait_cli, "time", SimpleNamespace(monotonic=time.monotonic, sleep=goes))
        monkeypatch.setattr(patience, "time", SimpleNamespace(monotonic=time.monotonic, sleep=comes_back))
        up.enter_context(serving(fleet.server, port))
        told = CliRunner().invoke(
            wait, [rollout, "--server", f"http://127.0.0.1:{port}", "--token", token, "--timeout", "60"]
        )
    assert told.exit_code == 0, told.output + repr(told.exception)
    assert "it is waited for" in told.stderr and f"{rollout} is completed" in told.stdout


def test_a_server_that_does_not_come_back_in_time_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "AGAIN_S", 0.01)
    with (
        closing(Client(f"http://127.0.0.1:{free_loopback_port()}", "")) as client,
        pytest.raises(ServerUnreachable, match="no server at"),
    ):
        patience.patiently(lambda: client.get("/health"), time.monotonic() + 0.05)
