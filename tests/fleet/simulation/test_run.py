"""Simulated devices of every kind against a whole server: each is caught, and the honest are unharmed."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from fleet_device import eventually
from fleet_rows import FleetRows, digest
from fleet_server import Running
from sqlalchemy import select

from edge_fleet import orders, schema
from edge_fleet.alerts.watch import Watch
from edge_fleet.client import Client
from edge_fleet.errors import RequestInvalid
from edge_fleet.simulation.kinds import KINDS
from edge_fleet.simulation.memory import StateFolder
from edge_fleet.simulation.mix import Mix
from edge_fleet.simulation.run import Ran, run
from edge_fleet.simulation.simulate_cli import simulate
from edge_fleet.simulation.verdicts import Answers, Verdict, ask, rows

INSTALLS = ("honest", "stalls", "golden", "crashes", "slower", "errors")
TAKES_LONGER = {"silent": "the alert silence is not there"}  # a quarter of an hour
DRIFTING, HONEST, MOST_S = 3, 3, 60.0


def simulated(
    fleet: Running, folder: StateFolder, mix: Mix, for_s: float, stopped: threading.Event | None = None
) -> Ran:
    with client_of(fleet) as client:
        return run(client, "127.0.0.1", folder, mix, for_s, lambda line: None, 1, 5.0, stopped)


def client_of(fleet: Running) -> closing[Client]:
    return closing(Client(fleet.url, fleet.admin.headers["authorization"].removeprefix("Bearer ")))


def assign(fleet: Running, wanted: int) -> None:
    """When all are enrolled, a release goes to those that tell how it went."""
    store = fleet.server.store

    def enrolled() -> list[Any] | None:
        with store.read() as connection:
            rows = connection.execute(select(schema.devices.c.id, schema.devices.c.labels)).all()
        return list(rows) if len(rows) == wanted else None

    found = eventually(enrolled, "every device is enrolled", MOST_S)
    chosen = [row.id for row in found if row.labels["simulated"] in INSTALLS]
    with store.write() as connection:
        for device in chosen:
            orders.issue(connection, device, digest("1", "x86-cpu"), fleet.server.now_ms())
    fleet.server.dispatch.soon(chosen)


def everybody_is_known(fleet: Running, folder: StateFolder) -> bool:
    """By what the server alone says, after a look for alerts, which it takes every 15 s by itself."""
    Watch(fleet.server, lambda: True).round(fleet.server.now_ms())
    with client_of(fleet) as client:
        told = ask(client)
    found = {row.kind: row for row in rows(folder.identities(), {}, Answers(), told)}
    caught = all(row.verdict is not Verdict.NOT_YET or row.kind in TAKES_LONGER for row in found.values())
    # each third turn of it ends its connection
    oversized = found.get("oversized")  # none is known before it is enrolled
    turns = oversized.refused.get("format-invalid", 0) if oversized is not None else 0
    return caught and turns >= 4 and found["honest"].phases.get("confirmed") == HONEST


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> StateFolder:
    return StateFolder(tmp_path_factory.mktemp("simulated"))


@pytest.fixture(scope="module")
def ran(fleet: Running, folder: StateFolder) -> Ran:
    """One run with every kind that is registered."""
    FleetRows(fleet.server.store, lambda: time.time_ns() // 1_000_000).publish("1", "x86-cpu")
    for rule in ("hole", "drift"):
        assert fleet.admin.post(f"/api/v1/alert-rules/{rule}", json={"pending_s": 0}).status_code == 200
    broken = {"all": 1, "drifts": DRIFTING, "together": DRIFTING}
    mix = Mix(devices=HONEST + len(KINDS) - 1 + 2 * (DRIFTING - 1), every=0.4, broken=broken)
    stopped = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(simulated, fleet, folder, mix, MOST_S, stopped)
        try:
            with suppress(AssertionError):  # the run itself or the tests below say why
                assign(fleet, mix.devices)
                eventually(lambda: everybody_is_known(fleet, folder), "all are caught", MOST_S)
        finally:
            stopped.set()
        return running.result()


@pytest.mark.parametrize("name", list(KINDS))
def test_each_kind_is_caught_or_unharmed_as_it_deserves(ran: Ran, name: str) -> None:
    (row,) = (row for row in ran.rows if row.kind == name)
    kind = KINDS[name]
    if name in TAKES_LONGER:
        assert (row.verdict, row.why) == (Verdict.NOT_YET, TAKES_LONGER[name])
    elif kind.refused or kind.alert or kind.phases:
        assert row.verdict is Verdict.CAUGHT, row.why
    else:
        assert row.verdict is Verdict.UNHARMED, row.why


def test_honest_devices_are_heard_and_install_beside_all_others(ran: Ran) -> None:
    honest = ran.counted["honest"]
    assert honest.envelopes >= HONEST * 5
    assert honest.acknowledged == honest.envelopes
    assert (honest.cut, honest.shut_out, honest.disbelieved) == (0, 0, 0)
    assert honest.ended == {"confirmed": HONEST}


def test_a_packet_beyond_the_brokers_limit_ends_its_senders_connection_alone(ran: Ran) -> None:
    assert ran.counted["oversized"].cut >= 1
    assert sum(counts.cut for name, counts in ran.counted.items() if name != "oversized") == 0


def test_a_second_run_goes_on_with_the_same_devices(ran: Ran, fleet: Running, folder: StateFolder) -> None:
    again = simulated(fleet, folder, Mix(devices=HONEST, every=0.3), 2.0)
    assert [row.verdict for row in again.rows] == [Verdict.UNHARMED]
    shown = {row["id"]: row for row in fleet.admin.get("/api/v1/devices").json()}
    assert len(shown) == len(folder.identities())
    before, now = ran.counted["honest"].envelopes, again.counted["honest"].envelopes
    own = [one for one in folder.identities() if one.kind == "honest"]
    assert sum(shown[one.device]["telemetry"]["high"] + 1 for one in own) == before + now
    with fleet.server.store.read() as connection:
        epochs = connection.execute(select(schema.streams.c.device)).scalars().all()
    assert sorted(epochs) == sorted(shown), "one epoch each"


def test_a_folder_of_another_server_is_refused(
    ran: Ran, fleet: Running, folder: StateFolder, tmp_path: Path
) -> None:
    other = StateFolder(tmp_path / "other")
    stolen = [one.model_copy(update={"enrolled": one.enrolled.model_copy(update={"device": "x"})})
              for one in folder.identities()]  # fmt: skip
    other.add(stolen)
    with pytest.raises(RequestInvalid, match="does not know x"):
        simulated(fleet, other, Mix(devices=1), 1.0)


def test_the_command_tells_a_program_what_came_of_it(fleet: Running, tmp_path: Path) -> None:
    token = fleet.admin.headers["authorization"].removeprefix("Bearer ")
    where = ["--server", fleet.url, "--token", token, "--state", str(tmp_path / "s")]
    options = ["--devices", "3", "--broken", "garbage:1", "--every", "0.3", "--for", "2", "--json"]
    done = CliRunner().invoke(simulate, [*where, *options], catch_exceptions=False)
    assert done.exit_code == 0
    told = json.loads(done.stdout)
    assert [(row["kind"], row["devices"]) for row in told["kinds"]] == [("honest", 2), ("garbage", 1)]
    assert told["envelopes"] == told["acknowledged"]
    assert "enrolled 3 of 3" in done.stderr


def test_the_help_teaches_every_kind() -> None:
    told = CliRunner().invoke(simulate, ["--help"]).output
    assert all(f"  {name} " in told for name in KINDS)


def test_a_kind_that_there_is_not_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    with pytest.raises(RequestInvalid, match="no kind 'evil'"):
        CliRunner().invoke(simulate, ["--broken", "evil:1", "--home", str(tmp_path)], catch_exceptions=False)
