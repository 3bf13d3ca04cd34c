"""Enrolling a real agent at a real server: what the server refuses, the person at the device reads."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fleet_server import Running, fleet_server


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with fleet_server(tmp_path_factory.mktemp("fleet")) as running:
        yield running


def enrol(fleet: Running, token: str, home: Path, name: str) -> subprocess.CompletedProcess[str]:
    script = Path(sys.executable).with_name("edge-agent")
    words = ["--server", fleet.url, "--token", token, "--profile", "arm-cpu", "--name", name]
    return subprocess.run(
        [str(script), "enroll", *words, "--home", str(home)], capture_output=True, text=True, timeout=60
    )


def test_the_servers_reason_for_a_refusal_reaches_the_person_at_the_device(
    fleet: Running, tmp_path: Path
) -> None:
    used = fleet.token()
    assert enrol(fleet, fleet.token(), tmp_path / "zeroth", "cam-0").returncode == 0
    assert fleet.admin.post("/api/v1/devices/cam-0/revoke").status_code == 200
    assert enrol(fleet, used, tmp_path / "first", "cam-1").returncode == 0
    refusals = {
        "the enrolment token was used already; ask for a new one": (used, "cam-2"),
        "a device 'cam-1' is enrolled already; names are not used twice: give another, or none": (
            fleet.token(),
            "cam-1",
        ),
        "a device 'cam-0' is revoked; names are not used twice: give another, or none": (
            fleet.token(),
            "cam-0",
        ),
        "the token is for the role viewer, not for enrolment": (fleet.token("viewer"), "cam-2"),
        "the token is not known here": ("nobody-made-this-one", "cam-2"),
    }
    for words, (token, name) in refusals.items():
        result = enrol(fleet, token, tmp_path / "second", name)
        assert (result.returncode, result.stdout) == (1, "")
        assert words in result.stderr
        assert result.stderr.count("\n") == 1
    assert not (tmp_path / "second" / "config.json").exists()
