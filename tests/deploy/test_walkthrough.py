"""The walk-through of docs/deploy.md does what it says, command by command."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from composed import DEPLOY
from postgres_server import Postgres, postgres_server

from edge_fleet.brokers.child import free_loopback_port

DOCUMENT = DEPLOY.parent / "docs" / "deploy.md"
WAIT_S = 600


def walk(trial: Path, database: str) -> subprocess.CompletedProcess[str]:
    ports = {name: str(free_loopback_port()) for name in ("HTTP", "MQTT", "DOOR")}
    return subprocess.run(
        ["bash", str(DEPLOY / "walkthrough.sh")],
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        env=os.environ
        | ports
        | {"BIN": str(Path(sys.executable).parent), "TRIAL": str(trial), "DATABASE": database},
    )


@pytest.fixture(scope="module")
def database() -> Iterator[Postgres]:
    with postgres_server() as server:
        if server is None:
            pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
        yield server


def test_every_command_of_the_walk_through_works(database: Postgres, tmp_path: Path) -> None:
    for program in ("mosquitto", "openssl", "curl"):
        if shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin") is None:
            pytest.skip(f"{program} is not installed")
    done = walk(tmp_path / "trial", database.fresh())
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    told = done.stdout
    assert re.search(r"is completed, stage 2 of 2", told)
    for device in ("hall", "yard", "gate"):
        assert re.search(rf"^{device} .*digits 2.0.0", told, re.MULTILINE), told
    assert re.search(r"^edgefleet_devices\{", told, re.MULTILINE)
    assert "window" in told
    # and nothing is left running
    left = subprocess.run(["pgrep", "-f", str(tmp_path / "trial")], capture_output=True, text=True)
    assert left.stdout == ""


def test_a_command_that_fails_ends_the_walk(tmp_path: Path) -> None:
    done = walk(tmp_path / "trial", "postgresql:///nowhere?host=/nowhere")
    assert done.returncode != 0
    assert "cannot open the database" in done.stderr


def test_the_walk_through_tells_what_else_the_document_does() -> None:
    """What is outside the marks was not run; no more than the containers' own commands is there."""
    text = DOCUMENT.read_text()
    before, _, rest = text.partition("<!-- walkthrough -->\n")
    inside, _, after = rest.partition("<!-- end of the walkthrough -->")
    assert len(re.findall(r"^```sh$", inside, re.MULTILINE)) >= 9
    assert len(re.findall(r"^```sh$", before, re.MULTILINE)) == 1
    others = re.findall(r"^```sh\n(.*?)^```$", after, re.MULTILINE | re.DOTALL)
    assert ["openapi-python-client" in one for one in others] == [
        True
    ]  # the generator of a client is a guest's
